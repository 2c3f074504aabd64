"""The shape of a transformer, as far as parameters, FLOPs, memory and messages depend on it."""

from __future__ import annotations

from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder-only transformer. All sizes are element counts.

    Every layer has two norms of `hidden_size` and the model a final one; biases, learned positions and further norms
    are counted in `extra_parameters`: no matrix multiplication reads them.

    `num_experts = 0` is a dense model. With experts, the first `num_dense_layers` layers stay dense; every other
    layer has `num_experts` experts of inner size `expert_ffn_size`, of which a token visits `experts_per_token`,
    and one shared expert of inner size `shared_expert_ffn_size` (0: none).
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
    num_dense_layers: int = 0
    latent_attention: LatentAttention | None = None
    """If set, `head_size` and `num_kv_heads` are not used."""
    num_mtp_layers: int = 0
    """Multi-token-prediction layers after the last one: a projection from 2h to h, a layer like the last, logits."""
    extra_parameters: int = 0

    @property
    def num_moe_layers(self) -> int:
        """Layers with experts."""
        return self.num_layers - self.num_dense_layers if self.num_experts else 0

    @property
    def head_sizes(self) -> tuple[int, int]:
        """Size of a query or key head, and of a value head."""
        latent = self.latent_attention
        if latent is None:
            return self.head_size, self.head_size
        return latent.plain_head_size + latent.rotary_head_size, latent.value_head_size

    def is_moe_layer(self, layer: int) -> bool:
        """Whether `layer`, counted from 0, has experts."""
        return bool(self.num_experts) and layer >= self.num_dense_layers
