"""What ranks tell each other before any of them records: one name of the run, one layout, and one refusal for all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from instrumented_runs.recorder.start.environment import Surroundings
from instrumented_runs.recorder.start.groups import Group, check_declared, chosen_ranks, layout_of, own_groups
from instrumented_runs.recorder.start.identity import agreed_job_id, new_job_id
from instrumented_runs.recorder.start.ranks import Ranks
from traceanalyzer.errors import TraceAnalyzerError, UsageError
from traceanalyzer.job import DECLARED, LAYOUT_BASIS, Job

Problem = tuple[type[TraceAnalyzerError], str, str]


@dataclass(frozen=True, slots=True)
class Opening:
    """One rank's part."""

    job_id: str
    groups: tuple[Group, ...]
    problem: Problem | None = None
    """Why this rank cannot record."""


def problem_of(attempt: Callable[[], None]) -> Problem | None:
    """What `attempt` raises of what a user can do something about."""
    try:
        attempt()
    except TraceAnalyzerError as error:
        return type(error), error.message, error.hint
    return None


def open_together(ranks: Ranks, found: Surroundings, problem: Problem | None) -> list[Opening]:
    """The parts of all ranks, by rank; of this one alone where ranks do not speak. Collective.

    Raises the first rank's problem on every rank: none is left waiting for one that gave up.
    """
    job_id = new_job_id() if ranks.grouped else agreed_job_id(found)
    openings = ranks.gather(Opening(job_id, own_groups(), problem))
    for rank, opening in enumerate(openings):
        if opening.problem is not None:
            kind, message, hint = opening.problem
            raise kind(message if len(openings) == 1 else f"rank {rank}: {message}", hint)
    return openings


def opened_job(
    job: Job, openings: Sequence[Opening], num_ranks: int, found: Surroundings, ranks: Collection[int] | None
) -> Job:
    """The description with what start has shown: its name, its ranks, its layout and which ranks are traced.

    Raises `UsageError` if what was declared does not fit the job.
    """
    layout, basis = job.layout, DECLARED
    if layout is None and job.degrees is not None:
        layout = job.degrees.layout(num_ranks)
    elif layout is None:
        layout, basis = layout_of([opening.groups for opening in openings], num_ranks)
    elif layout.world_size != num_ranks:
        raise UsageError(
            f"the declared layout has {layout.world_size} ranks, and the job has {num_ranks}",
            "correct the layout, or leave it out: the recorder reads the process groups",
        )
    if basis == DECLARED and layout is not None:
        check_declared(layout, (group for opening in openings for group in opening.groups))
    traced, why = chosen_ranks(layout, num_ranks, openings[0].groups, found.ranks_per_node)
    if ranks is not None:
        traced, why = tuple(sorted(set(ranks))), DECLARED
    return dataclasses.replace(
        job,
        layout=layout,
        degrees=None,
        traced_ranks=traced,
        job_id=openings[0].job_id,
        num_ranks=num_ranks,
        basis={**job.basis, LAYOUT_BASIS: basis, "traced_ranks": why},
    )
