"""Parameters of a transformer, counted from its shape."""

from __future__ import annotations

from dataclasses import dataclass

from traceanalyzer.model import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Parameters by part. `experts` holds the routed experts of all layers, `active_experts` those a token visits."""

    attention: int = 0
    mlp: int = 0
    router: int = 0
    experts: int = 0
    active_experts: int = 0
    shared_experts: int = 0
    projection: int = 0
    """From 2h to h, in front of a multi-token-prediction layer."""
    output: int = 0
    """The matrix behind the logits, whether it is the embedding table (tied) or not."""
    embedding: int = 0
    """The embedding table; 0 where it is tied to `output`."""
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
        layers = self.attention + self.mlp + self.router + self.active_experts + self.shared_experts
        return layers + self.projection + self.output


def parameters(shape: ModelShape, *, with_mtp: bool = False) -> Parameters:
    """Parameters of the whole model.

    Multi-token-prediction layers serve training only and published sizes leave them out; `with_mtp` adds them. They
    share the embedding table and the output matrix with the model (DeepSeek-V3, arXiv 2412.19437, section 2.2).
    """
    count = edge_parameters(shape)
    for layer in range(shape.num_layers):
        count += layer_parameters(shape, layer)
    for _ in range(shape.num_mtp_layers if with_mtp else 0):
        count += mtp_projection_parameters(shape) + layer_parameters(shape, shape.num_layers - 1)
    return count


def edge_parameters(shape: ModelShape) -> Parameters:
    """Parameters before the first and after the last layer."""
    table = shape.hidden_size * shape.vocab_size
    return Parameters(
        output=table,
        embedding=0 if shape.tied_embeddings else table,
        norms=shape.hidden_size,
        extra=shape.extra_parameters,
    )


def layer_parameters(shape: ModelShape, layer: int) -> Parameters:
    """Parameters of one layer, counted from 0; a multi-token-prediction layer is like the last one."""
    hidden, matrices = shape.hidden_size, 3 if shape.gated_mlp else 2
    common = Parameters(attention=_attention(shape), norms=2 * hidden + _latent_norms(shape))
    if not shape.is_moe_layer(layer):
        return common + Parameters(mlp=matrices * hidden * shape.ffn_size)
    expert = matrices * hidden * shape.expert_ffn_size
    return common + Parameters(
        router=hidden * shape.num_experts,
        experts=shape.num_experts * expert,
        active_experts=shape.experts_per_token * expert,
        shared_experts=matrices * hidden * shape.shared_expert_ffn_size,
    )


def mtp_projection_parameters(shape: ModelShape) -> Parameters:
    """What a multi-token-prediction layer has besides a layer: the projection, two norms before it, one at the end."""
    hidden = shape.hidden_size
    return Parameters(projection=2 * hidden * hidden, norms=3 * hidden)


def _attention(shape: ModelShape) -> int:
    hidden, heads = shape.hidden_size, shape.num_heads
    latent = shape.latent_attention
    if latent is None:
        return 2 * hidden * shape.head_size * (heads + shape.num_kv_heads)
    head_sizes = heads * latent.head_size
    queries = latent.query_rank * (hidden + head_sizes) if latent.query_rank else hidden * head_sizes
    down = hidden * (latent.key_value_rank + latent.rotary_head_size)
    up = latent.key_value_rank * heads * (latent.plain_head_size + latent.value_head_size)
    return queries + down + up + heads * latent.value_head_size * hidden


def _latent_norms(shape: ModelShape) -> int:
    latent = shape.latent_attention
    return latent.query_rank + latent.key_value_rank if latent else 0
