"""What one microbatch keeps for backward on every stage of a dense pipeline.

Counted as Korthikanti et al. (arXiv 2205.05198, section 4) count, without dropout and with attention fused, which keeps
no scores: per token and layer the inputs of both norms, of the QKV and output projections and of the MLP (5h with
h = heads × head size), queries, keys and values, the MLP's inner activations before and after their non-linearity (2f),
and what norms and fused attention keep in 32 bits: two statistics per norm and one logarithm per head. The first
stage keeps token ids, the last one its norm (2h and statistics), log-probabilities (V) and targets.
"""

from __future__ import annotations

from traceanalyzer.errors import DomainError
from traceanalyzer.model import ModelShape

_WORD = 4
"""Bytes of statistics, whatever the number format of the model."""
_TOKEN_ID = 8


def stage_activation_bytes(
    shape: ModelShape, num_stages: int, num_tokens: int, element_bytes: int, recompute: str | None = None
) -> tuple[int, ...]:
    """Bytes that one microbatch of `num_tokens` tokens keeps on each of `num_stages` stages of equal layers.

    `recompute` as in `Job`: `full` keeps each layer's input only; `selective` is what fused attention does anyway.
    Raises `DomainError` if the count above does not hold.
    """
    outside = _outside(shape, num_stages)
    if outside is not None:
        raise DomainError(f"activations are not counted for {outside}", "they are for dense layers without gates")
    layer = element_bytes * shape.hidden_size if recompute == "full" else _layer_bytes(shape, element_bytes)
    stages = [_layers(shape.num_layers, num_stages, stage) * layer for stage in range(num_stages)]
    stages[0] += _TOKEN_ID
    stages[-1] += element_bytes * (2 * shape.hidden_size + shape.vocab_size) + 2 * _WORD + _TOKEN_ID
    return tuple(num_tokens * stage for stage in stages)


def _layer_bytes(shape: ModelShape, element_bytes: int) -> int:
    """Per token."""
    heads = shape.num_heads * shape.head_size
    projected = heads + 2 * shape.num_kv_heads * shape.head_size
    kept = 4 * shape.hidden_size + projected + heads + 2 * shape.ffn_size
    return element_bytes * kept + _WORD * (2 * 2 + shape.num_heads)


def _layers(num_layers: int, num_stages: int, stage: int) -> int:
    """Layers of a stage where they are cut as equally as can be."""
    return (stage + 1) * num_layers // num_stages - stage * num_layers // num_stages


def _outside(shape: ModelShape, num_stages: int) -> str | None:
    reasons = {
        "models with experts": shape.num_experts > 0,
        "gated MLPs": shape.gated_mlp,
        "latent attention": shape.latent_attention is not None,
        "layers that predict several tokens": shape.num_mtp_layers > 0,
        f"{shape.num_layers} layers on {num_stages} stages": shape.num_layers < num_stages,
    }
    return next((text for text, applies in reasons.items() if applies), None)
