"""The shape of a transformer, as far as parameters, FLOPs, memory and messages depend on it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from traceanalyzer.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2): queries, keys and values pass through low ranks."""

    query_rank: int
    """0: queries are projected directly, without a low rank."""
    key_value_rank: int
    plain_head_size: int
    """Part of a query or key head without rotary position (`qk_nope_head_dim`)."""
    rotary_head_size: int
    """Part with rotary position; its key is shared by all heads (`qk_rope_head_dim`)."""
    value_head_size: int

    @property
    def head_size(self) -> int:
        """Size of a query or key head."""
        return self.plain_head_size + self.rotary_head_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba2:
    """A state-space mixer (Mamba-2, arXiv 2405.21060): one input projection, a short convolution, a recurrence."""

    num_heads: int
    head_size: int
    state_size: int
    num_groups: int = 1
    """Groups of heads that share the input and output matrices of their state."""
    conv_size: int = 4
    projection_bias: bool = False
    conv_bias: bool = True

    @property
    def inner_size(self) -> int:
        """Channels of all heads."""
        return self.num_heads * self.head_size

    @property
    def conv_channels(self) -> int:
        """Channels of the short convolution."""
        return self.inner_size + 2 * self.num_groups * self.state_size


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedDeltaNet:
    """Linear attention with the gated delta rule (arXiv 2412.06464), as in Qwen3-Next."""

    num_key_heads: int
    key_head_size: int
    num_value_heads: int
    value_head_size: int
    conv_size: int = 4

    @property
    def key_size(self) -> int:
        """Channels of all query heads, and of all key heads."""
        return self.num_key_heads * self.key_head_size

    @property
    def value_size(self) -> int:
        """Channels of all value heads."""
        return self.num_value_heads * self.value_head_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexer:
    """DeepSeek sparse attention: small heads score all keys, and attention reads the `top_k` best of them."""

    num_heads: int
    head_size: int
    top_k: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedAttention:
    """DeepSeek-V4's attention: one head of keys, which are the values too, in a window, and compressed ones beyond it.

    A `sparse` layer compresses by `sparse_rate` and reads what the indexer chooses; a `heavy` layer compresses by
    `heavy_rate` and reads everything; a `window` layer has the window alone.
    """

    query_rank: int
    output_groups: int
    output_rank: int
    """Of each group of heads in the output projection."""
    window: int
    sparse_rate: int = 4
    heavy_rate: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Low-rank adapters (LoRA, arXiv 2106.09685): every other matrix is frozen and gets no weight gradient."""

    rank: int
    targets: tuple[str, ...]
    """Of `ADAPTER_TARGETS`: the matrices that have an adapter, in every layer."""
    trains_output: bool = False
    """The output matrix is trained in full."""


ADAPTER_TARGETS = ("query", "key", "value", "qkv", "output", "gate", "up", "gate_up", "down")
"""`qkv` and `gate_up` are one adapter beside several matrices that are stored as one."""
MIXERS = ("attention", "mamba", "delta", "window", "sparse", "heavy", "none")
"""`window`, `sparse` and `heavy` are `CompressedAttention`."""
FEED_FORWARDS = ("mlp", "experts", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A transformer or a hybrid. All sizes are element counts; `num_layers = 0` says that the model is unknown.

    A layer has a mixer (attention unless `mixers` says otherwise) and a feed-forward part (an MLP, or experts).

    Every layer has two norms of `hidden_size` and the model a final one; biases, learned positions and further norms
    are counted in `extra_parameters`: no matrix multiplication reads them.

    `num_experts = 0` is a dense model. With experts, the first `num_dense_layers` layers stay dense; every other
    layer (or every layer of `moe_layers`) has `num_experts` experts of inner size `expert_ffn_size`, of which a token
    visits `experts_per_token`, and one shared expert of inner size `shared_expert_ffn_size` (0: none).
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    ffn_size: int
    vocab_size: int
    gated_mlp: bool = False
    """SwiGLU-like: three matrices instead of two."""
    tied_embeddings: bool = False
    num_experts: int = 0
    experts_per_token: int = 0
    expert_ffn_size: int = 0
    shared_expert_ffn_size: int = 0
    expert_groups: int = 0
    """Groups that experts are chosen from (DeepSeek's group-limited routing, groups are nodes); 0: no groups."""
    groups_per_token: int = 0
    """Groups that a token's experts lie on at most."""
    num_dense_layers: int = 0
    moe_layers: tuple[int, ...] = ()
    """The layers with experts, from 0, where they are not all those after the dense ones."""
    latent_attention: LatentAttention | None = None
    """If set, `head_size` and `num_kv_heads` are not used."""
    num_mtp_layers: int = 0
    """Multi-token-prediction layers after the last one: a projection from 2h to h, a layer like the last, logits."""
    attention_window: int = 0
    """Keys that a query of `windowed_layers` reads at most; 0: no limit."""
    windowed_layers: tuple[int, ...] = ()
    chunked_attention: bool = False
    """In `windowed_layers` a query reads its own chunk of `attention_window` keys (Llama 4), not a sliding window."""
    mixers: tuple[str, ...] = ()
    """Of `MIXERS`, one per layer; empty: attention in every layer."""
    feed_forwards: tuple[str, ...] = ()
    """Of `FEED_FORWARDS`, one per layer; empty: as `is_moe_layer` says."""
    mtp_mixers: tuple[str, ...] = ()
    mtp_feed_forwards: tuple[str, ...] = ()
    """The layers of one multi-token-prediction module, where it is not one layer like the last."""
    mamba: Mamba2 | None = None
    delta: GatedDeltaNet | None = None
    indexer: Indexer | None = None
    """If set, every attention layer reads the keys that it chooses."""
    compressed: CompressedAttention | None = None
    residual_streams: int = 0
    """Above 1, learned projections mix this many residual streams around every part of a layer (hyper-connections)."""
    output_gate: bool = False
    """Attention's result is multiplied by a gate, as large as the queries and projected like them."""
    expert_latent_size: int = 0
    """Routed experts work on this size, between two projections that every token passes; 0: on the hidden size."""
    num_encoder_layers: int = 0
    """Layers, from the first, whose queries read the whole sequence; later ones attend to their result as well."""
    input_size: int = 0
    """Elements of an image patch, which is multiplied by a matrix; 0: tokens are looked up."""
    head_parameters: int = 0
    """Of a matrix between the last layer and the output matrix (BERT)."""
    adapter: Adapter | None = None
    """If set, the model itself is frozen."""
    not_counted: str = ""
    """A part of the model that is left out, in words."""
    extra_parameters: int = 0

    def __post_init__(self) -> None:
        """Refuse what is not a model. Raises `UsageError`."""
        fault = _fault(self)
        if fault is not None:
            raise UsageError(f"the model's shape is impossible: {fault}", "correct the model's description")

    @property
    def num_moe_layers(self) -> int:
        """Layers with experts."""
        return sum(self.is_moe_layer(layer) for layer in range(self.num_layers))

    @property
    def head_sizes(self) -> tuple[int, int]:
        """Size of a query or key head, and of a value head."""
        latent = self.latent_attention
        if latent is None:
            return self.head_size, self.head_size
        return latent.head_size, latent.value_head_size

    def mixer(self, layer: int) -> str:
        """What mixes tokens in `layer`, counted from 0: one of `MIXERS`."""
        return self.mixers[layer] if self.mixers else "attention"

    def feed_forward(self, layer: int) -> str:
        """The feed-forward part of `layer`: one of `FEED_FORWARDS`."""
        if self.feed_forwards:
            return self.feed_forwards[layer]
        return "experts" if self.is_moe_layer(layer) else "mlp"

    @property
    def mtp_layers(self) -> tuple[tuple[str, str], ...]:
        """Mixer and feed-forward part of every layer of one multi-token-prediction module."""
        if self.mtp_mixers:
            return tuple(zip(self.mtp_mixers, self.mtp_feed_forwards, strict=True))
        return ((self.mixer(self.num_layers - 1), self.feed_forward(self.num_layers - 1)),)

    def is_moe_layer(self, layer: int) -> bool:
        """Whether `layer`, counted from 0, has experts."""
        if not self.num_experts:
            return False
        if self.feed_forwards:
            return self.feed_forwards[layer] == "experts"
        return layer in self.moe_layers if self.moe_layers else layer >= self.num_dense_layers


def _fault(shape: ModelShape) -> str | None:
    for field in fields(shape):
        value = getattr(shape, field.name)
        if isinstance(value, int) and value < 0:
            return f"{field.name} is {value}"
    if shape.num_layers == 0:
        return None
    if shape.hidden_size < 1 or (shape.vocab_size < 1 and not shape.input_size):
        return "hidden size and vocabulary must be at least 1"
    if shape.num_experts and not (1 <= shape.experts_per_token <= shape.num_experts and shape.expert_ffn_size):
        return f"a token visits {shape.experts_per_token} of {shape.num_experts} experts of {shape.expert_ffn_size}"
    return _attention_fault(shape) or _layers_fault(shape)


def _attention_fault(shape: ModelShape) -> str | None:
    if shape.mixers and "attention" not in shape.mixers and "attention" not in shape.mtp_mixers:
        return None
    if shape.num_heads < 1:
        return "heads must be at least 1"
    if shape.latent_attention is None and shape.num_kv_heads * shape.head_size < 1:
        return "key and value heads, and their size, must be at least 1"
    return None


def _layers_fault(shape: ModelShape) -> str | None:
    """What the kinds of layers lack."""
    for name, kinds, known in (
        ("mixers", shape.mixers, MIXERS),
        ("feed_forwards", shape.feed_forwards, FEED_FORWARDS),
    ):
        if kinds and (len(kinds) != shape.num_layers or not set(kinds) <= set(known)):
            return f"{name} does not name one of {', '.join(known)} for each of {shape.num_layers} layers"
    return _kinds_fault(shape)


def _kinds_fault(shape: ModelShape) -> str | None:
    mixers, parts = {*shape.mixers, *shape.mtp_mixers}, {*shape.feed_forwards, *shape.mtp_feed_forwards}
    lacking = {
        "mtp_mixers and mtp_feed_forwards are of different length": len(shape.mtp_mixers)
        != len(shape.mtp_feed_forwards),
        "there are Mamba layers without sizes": "mamba" in mixers and shape.mamba is None,
        "there are gated-delta-net layers without sizes": "delta" in mixers and shape.delta is None,
        "there are layers of compressed attention without sizes": bool(mixers & {"window", "sparse", "heavy"})
        and shape.compressed is None,
        "there are layers of experts without a number of experts": "experts" in parts and not shape.num_experts,
        "the encoder has more layers than the model": shape.num_encoder_layers > shape.num_layers,
        f"adapter targets must be among {', '.join(ADAPTER_TARGETS)}": shape.adapter is not None
        and not set(shape.adapter.targets) <= set(ADAPTER_TARGETS),
    }
    return next((text for text, is_so in lacking.items() if is_so), None)
