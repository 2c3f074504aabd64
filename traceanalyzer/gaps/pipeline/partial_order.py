"""Which schedules the captured ranks of a pipeline can have run, where the others are not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from traceanalyzer.errors import DomainError
from traceanalyzer.schedule import Action, Phase, ScheduleName, actions_of
from traceanalyzer.theory.schedules.known import full_backward_loops, schedules
from traceanalyzer.theory.schedules.orders import chunks_per_rank, order, placement

_MOST_CHUNKS = 8
_MOST_ACTIONS = 200_000

Observed = Mapping[int, Sequence[Action]]
"""Actions in order, by place along the pipeline. Without labels only their phases count."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A schedule that does what was observed."""

    schedule: ScheduleName
    num_chunks: int
    num_microbatches: int


def observed_orders(actions: pl.DataFrame, places: pl.DataFrame) -> dict[int, list[Action]]:
    """The order that each place ran in most of its steps, from `ACTIONS` and `rank`, `place`.

    Of several ranks at one place (replicas) the lowest counts.
    """
    found: dict[int, list[Action]] = {}
    ranked = actions.join(places.select("rank", "place"), on="rank").sort("place", "rank", "step", "position")
    for (place, _), rows in ranked.group_by("place", "rank", maintain_order=True):
        steps = [
            tuple(Action(stage, Phase(phase), microbatch) for stage, phase, microbatch in step.rows())
            for _, step in rows.select("step", "stage", pl.col("phase").cast(pl.String), "microbatch")
            .partition_by("step", as_dict=True, include_key=False, maintain_order=True)
            .items()
        ]
        if isinstance(place, int) and place not in found:
            found[place] = list(max(steps, key=steps.count))
    return found


def fitting_schedules(observed: Observed, num_places: int, *, labelled: bool) -> list[Fit]:
    """Every schedule on `num_places` ranks that does what was observed; simplest first, each once."""
    fits: dict[ScheduleName, Fit] = {}
    for fit in _candidates(observed, num_places, labelled=labelled):
        if fit.schedule not in fits and _does(fit, observed, num_places, labelled=labelled):
            fits[fit.schedule] = fit
    return list(fits.values())


def _candidates(observed: Observed, num_places: int, *, labelled: bool) -> Iterator[Fit]:
    first = next(iter(observed.values()), ())
    num_forwards = sum(action.phase is Phase.FORWARD for action in first)
    stages = len({action.stage for action in first})
    for name in _run_by_frameworks() if labelled else full_backward_loops():
        fixed = chunks_per_rank(name)
        for num_chunks in [stages] if labelled else [fixed] if fixed else range(2, _MOST_CHUNKS + 1):
            whole = num_forwards and num_forwards % num_chunks == 0 and (fixed is None or fixed == num_chunks)
            if whole and num_places * num_forwards <= _MOST_ACTIONS:
                yield Fit(name, num_chunks, num_forwards // num_chunks)


def _does(fit: Fit, observed: Observed, num_places: int, *, labelled: bool) -> bool:
    try:
        orders = order(fit.schedule, num_places, fit.num_microbatches, fit.num_chunks)
        stage_ranks = placement(fit.schedule, num_places, fit.num_chunks)
    except DomainError:
        return False
    if not labelled and stage_ranks != tuple(range(num_places)) * fit.num_chunks:
        return False
    for place, actions in observed.items():
        if not 0 <= place < num_places:
            return False
        expected = [action for op in orders[place] for action in actions_of(op)]
        if labelled and expected != list(actions):
            return False
        if [action.phase for action in expected] != [action.phase for action in actions]:
            return False
    return True


def _run_by_frameworks() -> list[ScheduleName]:
    return [name for name, record in schedules().items() if record.in_frameworks]
