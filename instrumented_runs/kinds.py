"""Kinds of jobs: the settings of each, and the module that runs it."""

from __future__ import annotations

from instrumented_runs.mixes.settings import MixSettings
from instrumented_runs.settings import DenseSettings, ExpertSettings, PipelineSettings, RunSettings

SETTINGS: dict[str, type[RunSettings]] = {
    "pipeline": PipelineSettings,
    "experts": ExpertSettings,
    "dense": DenseSettings,
    "mix": MixSettings,
}
"""Kind of job to its settings."""

JOBS = {kind: f"instrumented_runs.jobs.{kind}" for kind in SETTINGS}
"""Kind of job to the module whose `run(settings)` does it."""
