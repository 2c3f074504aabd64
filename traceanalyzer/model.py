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
class ModelShape:
    """A decoder-only transformer. All sizes are element counts; `num_layers = 0` says that the model is unknown.

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
    extra_parameters: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no model. Raises `UsageError`."""
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

    def is_moe_layer(self, layer: int) -> bool:
        """Whether `layer`, counted from 0, has experts."""
        if not self.num_experts:
            return False
        return layer in self.moe_layers if self.moe_layers else layer >= self.num_dense_layers


def _fault(shape: ModelShape) -> str | None:
    for field in fields(shape):
        value = getattr(shape, field.name)
        if isinstance(value, int) and value < 0:
            return f"{field.name} is {value}"
    if shape.num_layers == 0:
        return None
    if min(shape.hidden_size, shape.num_heads, shape.vocab_size) < 1:
        return "hidden size, heads and vocabulary must be at least 1"
    if shape.num_experts and not (1 <= shape.experts_per_token <= shape.num_experts and shape.expert_ffn_size):
        return f"a token visits {shape.experts_per_token} of {shape.num_experts} experts of {shape.expert_ffn_size}"
    if shape.latent_attention is None and shape.num_kv_heads * shape.head_size < 1:
        return "key and value heads, and their size, must be at least 1"
    return None
