"""The shape of a transformer, as far as parameters, FLOPs, memory and messages depend on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder-only transformer. All sizes are element counts; biases and norms are left out.

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

    @property
    def num_moe_layers(self) -> int:
        """Layers with experts."""
        return self.num_layers - self.num_dense_layers if self.num_experts else 0
