"""What one change of a configuration would give: everything a plan knows that differs in one decision.

One decision is the schedule with its chunks, the size of microbatches, the ZeRO stage, what is recomputed, or the layout:
one degree that grows or shrinks at the cost of replicas, or of another degree. Prices are `prices.pricing`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.memory.activations import Policy
from traceanalyzer.theory.planning.found import Found
from traceanalyzer.theory.planning.job import Configuration, PlanJob
from traceanalyzer.theory.planning.prices.pipelines import Pipeline, refusal
from traceanalyzer.theory.planning.prices.pricing import Axes, Place, price
from traceanalyzer.theory.planning.space import space

Decision = Literal["schedule", "microbatch", "zero", "recompute", "layout"]
_DEGREES = ("tp", "cp", "pp", "ep", "etp")
LEAST_SAVING = 0.005
"""Of the step: what saves less is not a change worth making."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Another configuration that differs in one decision."""

    decision: Decision
    configuration: Configuration
    words: str
    """What is other, and what it was."""
    step_ns: float
    saves_ns: float
    memory_bytes: float
    """Of the fullest rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The best of each decision that fits and saves time, and what would save more but does not fit."""

    best: tuple[Change, ...]
    """Best first."""
    too_large: Change | None
    """The one that saves most of those that do not fit; None if it saves less than the best that does."""


def best_changes(job: PlanJob, own: Configuration, most: int = 3) -> Changes | None:
    """What single changes of `own` give; None if a plan does not know `own` itself."""
    places = dict(space(job, Found()))
    here = Place(own.tp, own.cp, own.pp, own.ep, own.etp)
    if here not in places or not _is_valid(own, places[here]):
        return None
    before = price(job, own)[0]
    known = [_change(job, own, before, *each) for each in _neighbours(own, here, places, job)]
    saving = sorted((each for each in known if each.saves_ns >= LEAST_SAVING * before), key=lambda each: -each.saves_ns)
    best: dict[Decision, Change] = {}
    for each in saving:
        if each.memory_bytes <= job.capacity_bytes:
            best.setdefault(each.decision, each)
    large = saving[0] if saving and saving[0].memory_bytes > job.capacity_bytes else None
    return Changes(best=tuple(best.values())[:most], too_large=large)


def _change(job: PlanJob, own: Configuration, before: float, decision: Decision, other: Configuration) -> Change:
    step, memory, _ = price(job, other)
    return Change(
        decision=decision,
        configuration=other,
        words=_words(decision, own, other),
        step_ns=step,
        saves_ns=before - step,
        memory_bytes=memory,
    )


def _neighbours(
    own: Configuration, here: Place, places: dict[Place, Axes], job: PlanJob
) -> Iterator[tuple[Decision, Configuration]]:
    axes = places[here]
    yield from _pipelined_otherwise(own, axes, job)
    for zero in sorted(set(axes.zeros) - {own.zero}):
        yield "zero", replace(own, zero=zero)
    for policy in dict.fromkeys(each.policy for each in axes.recomputes):
        if policy is not own.policy:
            yield "recompute", replace(own, policy=policy, num_recomputed_layers=0)
    for place, there in places.items():
        if _is_one_change(here, place) and _is_valid(other := _at(own, place, job), there):
            yield "layout", other


def _pipelined_otherwise(own: Configuration, axes: Axes, job: PlanJob) -> Iterator[tuple[Decision, Configuration]]:
    """Other schedules, chunks and sizes of microbatches."""
    for each in axes.pipelines:
        other = replace(own, schedule=each.schedule, num_chunks=each.num_chunks)
        if other != own and _is_valid(other, axes):
            yield "schedule", other
    for size in axes.sizes:
        other = replace(own, microbatch_size=size, num_microbatches=job.batch_size // (own.dp * size))
        if other != own and _is_valid(other, axes):
            yield "microbatch", other


def _is_one_change(here: Place, there: Place) -> bool:
    """One degree differs; or two of which one grows as much as the other shrinks."""
    pairs = [(getattr(here, name), getattr(there, name)) for name in _DEGREES]
    other = [(a, b) for a, b in pairs if a != b]
    if len(other) == 2:
        return other[0][0] * other[1][0] == other[0][1] * other[1][1]
    return len(other) == 1


def _at(own: Configuration, place: Place, job: PlanJob) -> Configuration:
    dp = place.replicas(job.num_devices)
    schedule, chunks = own.schedule, own.num_chunks
    if place.pp == 1:
        schedule, chunks = ScheduleName("GradAccumulation"), 1
    elif own.pp == 1:
        schedule, chunks = ScheduleName("1F1B"), 1
    return replace(
        own,
        **{name: getattr(place, name) for name in _DEGREES},
        dp=dp,
        schedule=schedule,
        num_chunks=chunks,
        num_microbatches=max(1, job.batch_size // (dp * own.microbatch_size)),
    )


def _is_valid(chosen: Configuration, axes: Axes) -> bool:
    pipeline = Pipeline(chosen.schedule, chosen.pp, chosen.num_chunks)
    return (
        pipeline in axes.pipelines
        and chosen.microbatch_size in axes.sizes
        and (chosen.zero in axes.zeros or len(axes.zeros) == 1)
        and not refusal(pipeline, chosen.num_microbatches)
    )


def _words(decision: Decision, own: Configuration, other: Configuration) -> str:
    settings = [_setting(decision, each) for each in (other, own)]
    return f"{settings[0]} in place of {settings[1]}"


def _setting(decision: Decision, chosen: Configuration) -> str:
    if decision == "schedule":
        return f"{chosen.schedule} with {chosen.num_chunks} chunks" if chosen.num_chunks > 1 else str(chosen.schedule)
    if decision == "microbatch":
        return f"{chosen.num_microbatches} x {chosen.microbatch_size} sequences"
    if decision == "zero":
        return f"ZeRO-{chosen.zero}"
    if decision == "recompute":
        return "no recomputation" if chosen.policy is Policy.NONE else chosen.recompute_text()
    degrees = [f"{name.upper()}{value}" for name in ("tp", "cp", "pp", "dp", "ep", "etp") if (value := getattr(chosen, name)) > 1]  # fmt: skip
    return " ".join(degrees) or "one device"
