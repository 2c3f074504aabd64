"""Parameters of a transformer, counted from its shape."""

from __future__ import annotations

from dataclasses import dataclass

from traceanalyzer.model import CompressedAttention, GatedDeltaNet, Mamba2, ModelShape
from traceanalyzer.theory.model.compressed_attention import (
    compressed_indexer,
    compressed_matrices,
    compressed_small,
    final_connections,
    hyper_connections,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Parameters by part. `experts` holds the routed experts of all layers, `active_experts` those a token visits."""

    attention: int = 0
    mlp: int = 0
    router: int = 0
    experts: int = 0
    active_experts: int = 0
    shared_experts: int = 0
    latent_projections: int = 0
    """Into and out of the size that routed experts work on."""
    recurrent: int = 0
    """Projections of Mamba-2 and gated-delta-net mixers."""
    indexer: int = 0
    """Projections of the heads that choose keys."""
    residual: int = 0
    """Projections that weigh several residual streams."""
    adapter: int = 0
    """Low-rank adapters: trained, beside frozen matrices."""
    input: int = 0
    """The matrix that image patches are multiplied by."""
    projection: int = 0
    """From 2h to h, in front of a multi-token-prediction layer; or between the last layer and the output matrix."""
    output: int = 0
    """The matrix behind the logits, whether it is the embedding table (tied) or not."""
    embedding: int = 0
    """The embedding table; 0 if it is tied to `output`."""
    norms: int = 0
    extra: int = 0

    def __add__(self, other: Parameters) -> Parameters:
        return Parameters(**{name: getattr(self, name) + getattr(other, name) for name in self.__slots__})

    @property
    def total(self) -> int:
        """Everything that is stored."""
        return self.matmul_active + self.experts - self.active_experts + self.embedding + self.norms + self.extra

    @property
    def active(self) -> int:
        """What one token touches: `total` without the experts it does not visit. Includes the embedding table."""
        return self.total - self.experts + self.active_experts

    @property
    def matmul_active(self) -> int:
        """What one token meets in matrix multiplications: the N of `6N` done right."""
        mixers = self.attention + self.recurrent + self.indexer + self.residual + self.adapter
        experts = self.router + self.active_experts + self.shared_experts + self.latent_projections
        return mixers + self.mlp + experts + self.input + self.projection + self.output


def parameters(shape: ModelShape, *, with_mtp: bool = False) -> Parameters:
    """Parameters of the whole model.

    Multi-token-prediction layers serve training only and published sizes leave them out; `with_mtp` adds them. They
    share the embedding table and the output matrix with the model (DeepSeek-V3, arXiv 2412.19437, section 2.2).
    """
    count = edge_parameters(shape)
    for layer in range(shape.num_layers):
        count += layer_parameters(shape, layer)
    for _ in range(shape.num_mtp_layers if with_mtp else 0):
        count += mtp_projection_parameters(shape)
        for mixer, feed_forward in shape.mtp_layers:
            count += _layer_of(shape, mixer, feed_forward)
    return count


def edge_parameters(shape: ModelShape) -> Parameters:
    """Parameters before the first and after the last layer."""
    table = shape.hidden_size * shape.vocab_size
    has_two_ends = 0 < shape.num_encoder_layers < shape.num_layers
    joined, small = final_connections(shape)
    return Parameters(
        residual=joined,
        input=shape.hidden_size * shape.input_size,
        projection=shape.head_parameters,
        output=table,
        embedding=0 if shape.tied_embeddings else table,
        norms=shape.hidden_size * (2 if has_two_ends else 1),
        extra=shape.extra_parameters + small,
    )


def layer_parameters(shape: ModelShape, layer: int) -> Parameters:
    """Parameters of one layer, counted from 0."""
    count = _layer_of(shape, shape.mixer(layer), shape.feed_forward(layer))
    if reads_encoder(shape, layer):
        count += Parameters(attention=_attention(shape), norms=shape.hidden_size)
    return count


def mtp_layer_parameters(shape: ModelShape) -> tuple[tuple[str, Parameters], ...]:
    """Mixer and parameters of the layers of one multi-token-prediction module."""
    return tuple((mixer, _layer_of(shape, mixer, feed_forward)) for mixer, feed_forward in shape.mtp_layers)


def reads_encoder(shape: ModelShape, layer: int) -> bool:
    """Whether the layer attends to an encoder's result besides its own sequence."""
    return 0 < shape.num_encoder_layers <= layer


def _layer_of(shape: ModelShape, mixer: str, feed_forward: str) -> Parameters:
    hidden, matrices = shape.hidden_size, 3 if shape.gated_mlp else 2
    around, small = hyper_connections(shape)
    parts = (mixer != "none") + (feed_forward != "none")
    count = _mixer(shape, mixer) + Parameters(
        norms=hidden * parts, adapter=_adapter(shape, mixer, feed_forward), residual=parts * around, extra=parts * small
    )
    if feed_forward == "none":
        return count
    if feed_forward == "mlp":
        return count + Parameters(mlp=matrices * hidden * shape.ffn_size)
    expert = matrices * (shape.expert_latent_size or hidden) * shape.expert_ffn_size
    return count + Parameters(
        router=hidden * shape.num_experts,
        experts=shape.num_experts * expert,
        active_experts=shape.experts_per_token * expert,
        shared_experts=matrices * hidden * shape.shared_expert_ffn_size,
        latent_projections=2 * hidden * shape.expert_latent_size,
    )


def _mixer(shape: ModelShape, mixer: str) -> Parameters:
    if mixer == "mamba" and shape.mamba:
        return _mamba(shape.hidden_size, shape.mamba)
    if mixer == "delta" and shape.delta:
        return _delta(shape.hidden_size, shape.delta)
    if mixer in ("window", "sparse", "heavy") and shape.compressed:
        return _compressed(shape, shape.compressed, mixer)
    if mixer == "none":
        return Parameters()
    return Parameters(attention=_attention(shape), norms=_latent_norms(shape)) + _indexer(shape)


def _compressed(shape: ModelShape, sizes: CompressedAttention, mixer: str) -> Parameters:
    small = compressed_small(shape, sizes, mixer)
    count = Parameters(attention=compressed_matrices(shape, sizes, mixer), extra=small)
    if mixer != "sparse" or shape.indexer is None:
        return count
    matrices, rest = compressed_indexer(shape, sizes, shape.indexer)
    return count + Parameters(indexer=matrices, extra=rest)


def _mamba(hidden: int, sizes: Mamba2) -> Parameters:
    """Projections; the convolution, the gated norm and three numbers per head are read by no matrix multiplication."""
    width = sizes.inner_size + sizes.conv_channels + sizes.num_heads
    biases = (width + hidden) * sizes.projection_bias + sizes.conv_channels * sizes.conv_bias
    small = sizes.conv_channels * sizes.conv_size + sizes.inner_size + 3 * sizes.num_heads
    return Parameters(recurrent=hidden * (width + sizes.inner_size), extra=small + biases)


def _delta(hidden: int, sizes: GatedDeltaNet) -> Parameters:
    width = 2 * sizes.key_size + 2 * sizes.value_size + 2 * sizes.num_value_heads
    convolved = (2 * sizes.key_size + sizes.value_size) * sizes.conv_size
    small = convolved + 2 * sizes.num_value_heads + sizes.value_head_size
    return Parameters(recurrent=hidden * (width + sizes.value_size), extra=small)


def _indexer(shape: ModelShape) -> Parameters:
    """Queries from the low rank, one key for all heads with a LayerNorm, a weight per head (DeepSeek-V3.2-Exp)."""
    sizes, latent = shape.indexer, shape.latent_attention
    if sizes is None:
        return Parameters()
    source = latent.query_rank if latent and latent.query_rank else shape.hidden_size
    keys_and_weights = shape.hidden_size * (sizes.head_size + sizes.num_heads)
    return Parameters(indexer=source * sizes.num_heads * sizes.head_size + keys_and_weights, norms=2 * sizes.head_size)


def _adapter(shape: ModelShape, mixer: str, feed_forward: str) -> int:
    """Two matrices of the adapter's rank beside every target."""
    if shape.adapter is None:
        return 0
    hidden, ffn = shape.hidden_size, shape.ffn_size
    heads, groups = shape.num_heads * shape.head_size, shape.num_kv_heads * shape.head_size
    queries = heads * (2 if shape.output_gate else 1)
    present: dict[str, int] = {}
    if mixer == "attention":
        present = {
            "query": hidden + queries,
            "key": hidden + groups,
            "value": hidden + groups,
            "qkv": hidden + queries + 2 * groups,
            "output": hidden + heads,
        }
    if feed_forward == "mlp":
        gates = {"gate": hidden + ffn} if shape.gated_mlp else {}
        both = hidden + ffn * (2 if shape.gated_mlp else 1)
        present |= {"up": hidden + ffn, "down": hidden + ffn, "gate_up": both, **gates}
    return shape.adapter.rank * sum(present.get(name, 0) for name in shape.adapter.targets)


def mtp_projection_parameters(shape: ModelShape) -> Parameters:
    """What a multi-token-prediction layer has besides a layer: the projection, two norms before it, one at the end."""
    hidden = shape.hidden_size
    return Parameters(projection=2 * hidden * hidden, norms=3 * hidden)


def _attention(shape: ModelShape) -> int:
    hidden, heads = shape.hidden_size, shape.num_heads
    latent = shape.latent_attention
    if latent is None:
        gate = heads if shape.output_gate else 0
        return hidden * shape.head_size * (2 * heads + gate + 2 * shape.num_kv_heads)
    head_sizes = heads * latent.head_size
    queries = latent.query_rank * (hidden + head_sizes) if latent.query_rank else hidden * head_sizes
    down = hidden * (latent.key_value_rank + latent.rotary_head_size)
    up = latent.key_value_rank * heads * (latent.plain_head_size + latent.value_head_size)
    return queries + down + up + heads * latent.value_head_size * hidden


def _latent_norms(shape: ModelShape) -> int:
    latent = shape.latent_attention
    return latent.query_rank + latent.key_value_rank if latent else 0
