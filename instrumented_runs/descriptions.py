"""The layout and the model of a job from its settings, without torch."""

from __future__ import annotations

from dataclasses import replace

from instrumented_runs.mixes.settings import MixSettings
from instrumented_runs.settings import DenseSettings, ExpertSettings, PipelineSettings, RunSettings
from traceanalyzer.layout import Layout
from traceanalyzer.model import ModelShape


def layout_of(settings: RunSettings) -> Layout:
    """Parallel degrees."""
    if isinstance(settings, PipelineSettings):  # pipelines side by side, each rank's stages shared with its replicas
        return Layout(pp=settings.ranks_per_pipeline, dp=settings.num_replicas)
    if isinstance(settings, ExpertSettings):
        return Layout(dp=settings.num_ranks, ep=settings.num_ranks if settings.experts_by == "ep" else 1)
    if isinstance(settings, MixSettings):
        return Layout(pp=settings.pp, dp=settings.dp, tp=settings.tp, ep=settings.ep, cp=settings.cp)
    return Layout(dp=settings.num_ranks)


def shape_of(settings: RunSettings) -> ModelShape:
    """The model's shape."""
    assert isinstance(settings, (PipelineSettings, ExpertSettings, DenseSettings, MixSettings))  # noqa: S101 - there is no other kind
    plain = ModelShape(
        num_layers=settings.num_layers,
        hidden_size=settings.hidden_size,
        num_heads=settings.num_heads,
        num_kv_heads=settings.num_heads,
        head_size=settings.hidden_size // settings.num_heads,
        ffn_size=4 * settings.hidden_size,
        vocab_size=settings.vocab_size,
    )
    if isinstance(settings, ExpertSettings):
        return _with_experts(plain, settings, settings.expert_ffn_size, shared_expert_ffn_size=settings.shared_ffn_size)
    if isinstance(settings, MixSettings):
        grouped = replace(plain, num_kv_heads=settings.num_kv_heads, ffn_size=settings.ffn_size)
        if settings.num_experts:
            return _with_experts(grouped, settings, settings.ffn_size)
        return replace(grouped, gated_mlp=True)
    return plain


def _with_experts(
    shape: ModelShape, settings: ExpertSettings | MixSettings, ffn_size: int, shared_expert_ffn_size: int = 0
) -> ModelShape:
    """`shape` with experts of `ffn_size` in place of every layer's MLP."""
    return replace(
        shape,
        ffn_size=0,
        num_experts=settings.num_experts,
        experts_per_token=settings.experts_per_token,
        expert_ffn_size=ffn_size,
        shared_expert_ffn_size=shared_expert_ffn_size,
    )
