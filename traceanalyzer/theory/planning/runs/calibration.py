"""A job to plan with numbers of a run in the place of those that are assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from traceanalyzer.theory.planning.job import PlanJob

_OF_CLUSTERS = ("gemm", "attention", "attention_backward", "near_share", "far_share")
_OF_JOBS = ("gemm_fill", "load_ratio", "host_share", "step_factor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One number, by its name in `Cluster` or `PlanJob`."""

    name: str
    assumed: float
    value: float
    basis: str
    """What it was measured on, in words."""
    held_out_error: float | None = None
    """Mean relative error of what is predicted with it, on measurements that it was not taken from; None: there are none."""


def assumed(job: PlanJob, name: str) -> float:
    """What the job's plan assumes without a run."""
    return float(getattr(job.cluster if name in _OF_CLUSTERS else job, name))


def calibrated(job: PlanJob, measured: Sequence[Measured]) -> PlanJob:
    """The job with these numbers; the others stay."""
    values = {each.name: each.value for each in measured}
    cluster = replace(job.cluster, **{name: values[name] for name in _OF_CLUSTERS if name in values})
    return replace(job, cluster=cluster, **{name: values[name] for name in _OF_JOBS if name in values})
