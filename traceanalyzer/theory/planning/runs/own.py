"""The configuration of a run as a plan writes it, from what is known of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from traceanalyzer.errors import UsageError
from traceanalyzer.model import ModelShape
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.memory.activations import Policy
from traceanalyzer.theory.planning.job import Configuration, PlanJob

_POLICIES = {"none": Policy.NONE, "selective": Policy.SELECTIVE, "full": Policy.FULL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is known of a run; None: not known."""

    shape: ModelShape | None
    degrees: Mapping[str, int] | None
    schedule: str | None
    num_chunks: int | None
    num_microbatches: int | None
    tokens_per_step: int | None
    sequence_length: int | None
    recompute: str | None
    has_steps: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRun:
    """A run's job and configuration, and what was taken for them without being known."""

    job: PlanJob
    configuration: Configuration
    taken: tuple[str, ...]


def own_run(run: Run, job: PlanJob) -> OwnRun:
    """The run on the cluster of `job`, at its rates. Raises `UsageError` with what is not known."""
    shape, degrees, tokens, length = run.shape, run.degrees, run.tokens_per_step, run.sequence_length
    if shape is None or degrees is None or tokens is None or length is None or not run.has_steps:
        raise UsageError(f"not known: {', '.join(_unknown(run))}", "analyze it with --job FILE")
    dp, pp = degrees["dp"], degrees["pp"]
    count, taken = run.num_microbatches, [] if dp == 1 else ["ZeRO-1 is taken for the run"]
    if count is None:
        count, taken = 1, [*taken, "one microbatch is taken for the run's step"]
    size, rest = divmod(tokens, length * dp * count)
    if rest or not size:
        raise UsageError(f"{tokens} tokens are not {dp} x {count} microbatches of {length}", "check the job's figures")
    if run.recompute is None:
        taken.append("no recomputation is taken for the run")
    elif run.recompute not in _POLICIES:
        raise UsageError(f"recomputation is {run.recompute}", "calibrate on a run that recomputes all or nothing")
    plain = ScheduleName("GradAccumulation")
    configuration = Configuration(
        **degrees,
        zero=1 if dp > 1 else 0,
        schedule=plain if pp == 1 else ScheduleName(run.schedule or ""),
        num_chunks=run.num_chunks or 1,
        microbatch_size=size,
        num_microbatches=count,
        policy=_POLICIES[run.recompute or "none"],
    )
    devices = degrees["tp"] * degrees["cp"] * pp * dp
    own = replace(job, shape=shape, num_devices=devices, sequence_length=length, batch_size=tokens // length)
    return OwnRun(job=own, configuration=configuration, taken=tuple(taken))


def _unknown(run: Run) -> list[str]:
    named = {
        "the model": run.shape,
        "its layout": run.degrees,
        "tokens per step": run.tokens_per_step,
        "the sequence length": run.sequence_length,
        "a whole step": run.has_steps or None,
    }
    return [name for name, value in named.items() if value is None]
