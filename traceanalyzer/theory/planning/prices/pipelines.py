"""Pipelines that a plan compares: which there are, what their ranks hold, and their bubble as a formula over arrays.

The bubble of a schedule is (P−1)/v times one of four sums of T_F, T_B and T_W, and hops times the latency of a message; the
letters, domains and sources are those of `traceanalyzer.theory.schedules.laws`, to which `tests/theory/planning/test_prices.py` holds these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from traceanalyzer.errors import DomainError
from traceanalyzer.model import ModelShape
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.memory.stages import (
    Holding,
    distinct_ranks,
    held_microbatches,
    holdings,
    num_copies,
)
from traceanalyzer.theory.planning.frameworks import Framework
from traceanalyzer.theory.schedules.orders import check, chunks_per_rank

Floats = NDArray[np.float64]
CHUNKS = (2, 3, 4, 5, 6, 7, 8, 12, 16)
"""Chunks per rank that are tried where a schedule leaves them open."""

FILL = (ScheduleName("GPipe"), ScheduleName("1F1B"), ScheduleName("Interleaved1F1B"))
"""Schedules whose bubble is one filling and draining."""
PAIRED = (ScheduleName("DualPipe"), ScheduleName("DualPipeV"))
"""Schedules that hide the exchanges of one microbatch behind the computation of another."""
_SPLIT = (ScheduleName("ZBH1"), ScheduleName("InterleavedZeroBubble"))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A schedule on so many ranks and chunks."""

    schedule: ScheduleName
    num_ranks: int
    num_chunks: int


@dataclass(frozen=True, slots=True)
class RankKinds:
    """Ranks of a pipeline by what they hold."""

    holdings: tuple[Holding, ...]
    counts: tuple[int, ...]
    first: tuple[int, ...]
    """The first rank of each kind: it holds most microbatches."""


@cache
def pipelines(shape: ModelShape, num_ranks: int, framework: Framework) -> tuple[Pipeline, ...]:
    """Every schedule that the framework has and the model's layers suffice for."""
    if num_ranks == 1:
        return (Pipeline(ScheduleName("GradAccumulation"), 1, 1),)
    found: list[Pipeline] = []
    for schedule in framework.schedules:
        fixed = chunks_per_rank(schedule)
        for chunks in CHUNKS if fixed is None else (fixed,):
            stages = num_ranks * chunks
            uneven = framework.even_stages and shape.num_layers % stages
            if stages <= shape.num_layers and not uneven:
                found.append(Pipeline(schedule, num_ranks, chunks))
    return tuple(found)


@cache
def rank_kinds(shape: ModelShape, pipeline: Pipeline) -> RankKinds:
    """What its ranks hold, each kind once."""
    place = (shape, pipeline.schedule, pipeline.num_ranks, pipeline.num_chunks)
    held = holdings(*place)
    first = distinct_ranks(*place)
    return RankKinds(tuple(held[rank] for rank in first), tuple(held.count(held[rank]) for rank in first), first)


@cache
def refusal(pipeline: Pipeline, num_microbatches: int) -> str:
    """Why the schedule cannot run so many microbatches, or where no formula shows its bubble; empty if it can."""
    try:
        check(pipeline.schedule, pipeline.num_ranks, num_microbatches, pipeline.num_chunks)
    except DomainError as error:
        return error.message
    least = {
        ScheduleName("ZBVZeroBubble"): 2 * pipeline.num_ranks - 1,
        ScheduleName("ZBH1"): pipeline.num_ranks,
        ScheduleName("1F1B"): 1,
    }.get(pipeline.schedule, 1)
    if num_microbatches < least:
        return f"{pipeline.schedule} on {pipeline.num_ranks} ranks needs {least} microbatches, not {num_microbatches}"
    if pipeline.schedule == ScheduleName("InterleavedZeroBubble") and num_microbatches % pipeline.num_ranks:
        return f"there is no formula for the bubble of {pipeline.schedule} with {num_microbatches} microbatches on {pipeline.num_ranks} ranks"
    return ""


@cache
def held_by_kind(shape: ModelShape, at: tuple[Pipeline, ...], counts: tuple[int, ...]) -> Floats:
    """Microbatches that each kind of rank holds, of all its layers: by pipeline, number of microbatches, kind."""
    kinds = [rank_kinds(shape, pipeline).first for pipeline in at]
    found = np.zeros((len(at), len(counts), max(map(len, kinds))))
    for row, (pipeline, first) in enumerate(zip(at, kinds, strict=True)):
        copies = num_copies(pipeline.schedule)
        for column, count in enumerate(counts):
            for index, rank in enumerate(first):
                held = held_microbatches(pipeline.schedule, pipeline.num_ranks, count, pipeline.num_chunks, rank)
                found[row, column, index] = held / copies
    return found


@cache
def hops_of(at: tuple[Pipeline, ...], counts: tuple[int, ...]) -> Floats:
    """`hops` by pipeline and number of microbatches."""
    return np.array([[hops(pipeline, count) for count in counts] for pipeline in at])


@cache
def refusals(at: tuple[Pipeline, ...], counts: tuple[int, ...]) -> tuple[tuple[int, int, str], ...]:
    """Pipeline, number of microbatches (by index) and reason, of what cannot run."""
    every = ((row, column, refusal(p, count)) for row, p in enumerate(at) for column, count in enumerate(counts))
    return tuple(each for each in every if each[2])


def bubble_ns(
    at: Sequence[Pipeline], num_microbatches: Floats, forward: Floats, inputs: Floats, weights: Floats
) -> Floats:
    """Bubble of every pipeline (first axis of the arrays) from the times of one microbatch on a rank's share.

    Times may have further axes; `num_microbatches` has those of the pipelines and of the microbatch sizes.
    """
    total = forward + inputs + weights
    found = np.zeros(np.broadcast_shapes(total.shape, num_microbatches.shape))
    for index, pipeline in enumerate(at):
        f, b, w = forward[index], inputs[index], weights[index]
        if pipeline.schedule in FILL:
            units = total[index]
        elif pipeline.schedule in _SPLIT:
            units = np.maximum(np.maximum(f + b - w, f), b)
        elif pipeline.schedule == ScheduleName("ZBVZeroBubble"):
            units = np.maximum(b - w, b / 2) * 2
        elif pipeline.schedule in PAIRED:
            units = f + 2 * b - w
        else:
            continue
        p, v = pipeline.num_ranks, pipeline.num_chunks
        if pipeline.schedule == ScheduleName("DualPipe"):
            found[index] = (p / 2 - 1) * units
            continue
        short = np.maximum(0, p - num_microbatches[index]) * (v - 1)
        found[index] = (p - 1 + short) / v * units
    return found


def hops(pipeline: Pipeline, num_microbatches: int) -> float:
    """Latencies of a message that lengthen the pipeline phase."""
    p, m, v = pipeline.num_ranks, num_microbatches, pipeline.num_chunks
    steady = 2 * (p - 1) * m / p + 2 * (p - 2)
    grouped = m % p == 0
    by_schedule = {
        ScheduleName("GPipe"): 2 * (p - 1),
        ScheduleName("1F1B"): steady,
        ScheduleName("Interleaved1F1B"): 2 * (v * p - 1) if grouped else 2 * (p - 1),
        ScheduleName("ZBH1"): 4 * (p - 1),
        ScheduleName("InterleavedZeroBubble"): v * p + 3 * p - 4,
        ScheduleName("ZBVZeroBubble"): 5 * p - 7,
        ScheduleName("DualPipe"): (p - 1) * m / p + 3 * (p / 2 - 1),
        ScheduleName("DualPipeV"): steady,
    }
    return 0.0 if p == 1 else max(0.0, float(by_schedule.get(pipeline.schedule, 2 * (p - 1))))
