"""How much a change of configuration saves: between the least and the most that independent estimates say.

The estimates: the plan's price scaled to the run's own step, the same price as it is, and, for a pipeline whose actions were
measured, both orders simulated at the run's own times. The simulation takes stages as even, which the price does not. It is
made with and without the messages' transfer; with an unsplit backward's weight-gradient as half and as two fifths of it (attention
scores have none); and, where a microbatch or a rank's share changes, with times in proportion and as the plan prices them.
What the plan exposes outside the pipeline phase (data parallelism, optimizer) is added to each. The noise of the run's step, and at
least the floor between two runs, widens the range on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.gaps.pipeline.ideal import uniform_times
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.model.stage_times import from_times
from traceanalyzer.theory.planning.job import Configuration, PlanJob
from traceanalyzer.theory.planning.prices.pricing import price
from traceanalyzer.theory.prediction.comparison import Workload, predict
from traceanalyzer.theory.simulator.op_times import OpTimes, PairMode

RUN_TO_RUN = 0.01
"""Share of the step by which two runs of one job differ, where nothing else is known."""
_OUTSIDE = ("dp", "optimizer")
_DEGREES = ("pp", "tp", "cp", "ep", "etp")
_WORK = ("compute", "recompute", "tp", "ep", "cp")
_WEIGHTS = (0.5, 0.4)
_MAX_OPS = 200_000


class RankTimes(NamedTuple):
    """One microbatch on a rank's share of the model, nanoseconds, mean over stages."""

    forward_ns: float
    backward_ns: float
    """Both halves."""
    weight_ns: float | None
    """Of the backward; None where it is not split."""
    hop_ns: int
    """What a message takes."""


class Saving(NamedTuple):
    """Nanoseconds of a step."""

    low_ns: float
    best_ns: float
    high_ns: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the estimates are made from."""

    job: PlanJob
    """Its factor scales prices to the run's own step."""
    own: Configuration
    times: RankTimes | None
    """None: no pipeline was measured."""
    noise_ns: float


def rank_times(actions: pl.DataFrame, messages: pl.DataFrame) -> RankTimes | None:
    """From `ACTIONS` of whole pipelines and `COMMUNICATIONS`; None without forwards and backwards."""
    if actions.is_empty():
        return None
    times = uniform_times(actions)
    if "F" not in times or not {"B", "I"} & times.keys():
        return None
    ranks = actions.filter(pl.col("pipeline") == pl.col("pipeline").first())["rank"].n_unique()
    chunks = actions["stage"].n_unique() / ranks
    backward = times["I"] + times.get("W", 0) if "I" in times else times["B"]
    weight = times["W"] * chunks if "W" in times else None
    hop = messages.filter((pl.col("role") == "pp") & (pl.col("transfer_ns") > 0))["transfer_ns"].median()
    hop_ns = round(hop) if isinstance(hop, int | float) else 0
    return RankTimes(times["F"] * chunks, backward * chunks, weight, hop_ns)


def saving(known: Known, other: Configuration) -> Saving:
    """Of `other` against the run's own configuration; the best is the mean of what was simulated, else the scaled price."""
    priced = price(known.job, known.own).step_ns - price(known.job, other).step_ns
    estimates = [priced, priced / known.job.step_factor]
    simulated = list(_simulated(known, other))
    best = sum(simulated) / len(simulated) if simulated else priced
    estimates += simulated
    return Saving(min(estimates) - known.noise_ns, best, max(estimates) + known.noise_ns)


def _simulated(known: Known, other: Configuration) -> Iterator[float]:
    """Saved, by every way to share out the times."""
    times, own = known.times, known.own
    if times is None:
        return
    before, after = (price(known.job, each).parts_ns for each in (own, other))
    outside = sum(before[name] - after[name] for name in _OUTSIDE)
    for scale in dict.fromkeys(_scales(own, other, before, after)):
        for weight in _weights(times):
            for hop in dict.fromkeys((times.hop_ns, 0)):
                now = _phase_ns(own, times, weight, hop, 1.0)
                then = _phase_ns(other, times, weight, hop, scale)
                if now is not None and then is not None:
                    yield now - then + outside


def _scales(
    own: Configuration, other: Configuration, before: dict[str, float], after: dict[str, float]
) -> Iterator[float]:
    """Time of a microbatch on a rank's share in `other` over that in `own`: in proportion, and as priced."""
    shares = [each.microbatch_size / (each.pp * each.tp * each.cp) for each in (own, other)]
    if own.policy == other.policy and own.num_recomputed_layers == other.num_recomputed_layers:
        yield shares[1] / shares[0]
        if all(getattr(own, name) == getattr(other, name) for name in (*_DEGREES, "microbatch_size")):
            return
    work = [
        sum(parts[name] for name in _WORK) / each.num_microbatches for parts, each in ((before, own), (after, other))
    ]
    yield work[1] / work[0]


def _weights(times: RankTimes) -> tuple[float, ...]:
    """Weight-gradient's shares of the backward."""
    return _WEIGHTS if times.weight_ns is None else (times.weight_ns / times.backward_ns,)


def _phase_ns(chosen: Configuration, times: RankTimes, weight: float, hop_ns: int, scale: float) -> float | None:
    """The pipeline phase of a configuration, simulated; None where it cannot be."""
    if chosen.pp * chosen.num_chunks * chosen.num_microbatches * 3 > _MAX_OPS:
        return None
    backward = times.backward_ns * scale
    cut = from_times(chosen.pp, (times.forward_ns * scale, backward * (1 - weight), backward * weight))
    work = Workload(
        num_ranks=chosen.pp,
        num_microbatches=chosen.num_microbatches,
        num_chunks=chosen.num_chunks,
        cut=cut,
        costs=OpTimes(forward_ns=0, hop_ns=hop_ns, pairs=PairMode.SERIAL_LATE),
    )
    try:
        return float(predict(ScheduleName(chosen.schedule), work).simulation.makespan_ns)
    except TraceAnalyzerError:
        return None
