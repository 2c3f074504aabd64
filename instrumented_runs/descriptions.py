"""The layout and the model of a job from its settings, without torch."""

from __future__ import annotations

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
    if isinstance(settings, PipelineSettings):
        return pipeline_shape(settings)
    if isinstance(settings, ExpertSettings):
        return expert_shape(settings)
    if isinstance(settings, MixSettings):
        return mix_shape(settings)
    assert isinstance(settings, DenseSettings)  # noqa: S101 - there is no other kind
    return dense_shape(settings)


def pipeline_shape(settings: PipelineSettings) -> ModelShape:
    """The model of a pipeline job."""
    return ModelShape(
        num_layers=settings.num_layers,
        hidden_size=settings.hidden_size,
        num_heads=settings.num_heads,
        num_kv_heads=settings.num_heads,
        head_size=settings.hidden_size // settings.num_heads,
        ffn_size=4 * settings.hidden_size,
        vocab_size=settings.vocab_size,
    )


def expert_shape(settings: ExpertSettings) -> ModelShape:
    """The model of an expert job."""
    return ModelShape(
        num_layers=settings.num_layers,
        hidden_size=settings.hidden_size,
        num_heads=settings.num_heads,
        num_kv_heads=settings.num_heads,
        head_size=settings.hidden_size // settings.num_heads,
        ffn_size=0,
        vocab_size=settings.vocab_size,
        num_experts=settings.num_experts,
        experts_per_token=settings.experts_per_token,
        expert_ffn_size=settings.expert_ffn_size,
        shared_expert_ffn_size=settings.shared_ffn_size,
    )


def dense_shape(settings: DenseSettings) -> ModelShape:
    """The model of a dense job."""
    return ModelShape(
        num_layers=settings.num_layers,
        hidden_size=settings.hidden_size,
        num_heads=settings.num_heads,
        num_kv_heads=settings.num_heads,
        head_size=settings.hidden_size // settings.num_heads,
        ffn_size=4 * settings.hidden_size,
        vocab_size=settings.vocab_size,
    )


def mix_shape(settings: MixSettings) -> ModelShape:
    """The model of a mixed job."""
    return ModelShape(
        num_layers=settings.num_layers,
        hidden_size=settings.hidden_size,
        num_heads=settings.num_heads,
        num_kv_heads=settings.num_kv_heads,
        head_size=settings.hidden_size // settings.num_heads,
        ffn_size=0 if settings.num_experts else settings.ffn_size,
        vocab_size=settings.vocab_size,
        num_experts=settings.num_experts,
        experts_per_token=settings.experts_per_token if settings.num_experts else 0,
        expert_ffn_size=settings.ffn_size if settings.num_experts else 0,
    )
