"""The order of operations of every schedule that is known by name, and where its stages live.

A schedule is cut into `num_ranks * num_chunks` stages. DualPipe keeps two copies of the model: its stages 0 to P-1 are
the first copy (stage s on rank s, microbatches 0 to M/2-1) and stages P to 2P-1 the second (stage P+k on rank P-1-k,
microbatches M/2 to M-1); each of them is 1/P of the model.
"""

from __future__ import annotations

from traceanalyzer.errors import DomainError
from traceanalyzer.schedule import RankOrders, ScheduleName
from traceanalyzer.theory.schedules.known import schedule
from traceanalyzer.theory.schedules.record import OrderPoint, Placement, Schedule


def chunks_per_rank(name: ScheduleName) -> int | None:
    """Pieces of one model copy on every rank: a fixed number, or None if it is free (2 or more)."""
    return schedule(name).num_chunks


def placement(name: ScheduleName, num_ranks: int, num_chunks: int = 1) -> tuple[int, ...]:
    """The rank of every stage. DualPipe has the stages of both its copies. Raises `DomainError`."""
    _check_chunks(name, num_ranks, num_chunks)
    forth = tuple(range(num_ranks))
    return forth * num_chunks if schedule(name).placement is Placement.LOOP else forth + forth[::-1]


def order(
    name: ScheduleName,
    num_ranks: int,
    num_microbatches: int,
    num_chunks: int = 1,
    group_size: int | None = None,
) -> RankOrders:
    """The order of every rank.

    `group_size` is for the schedules that turn from chunk to chunk after a group of microbatches: `num_ranks` is depth
    first, `num_microbatches` breadth first; without it the groups are as PyTorch chooses them, the smallest equal
    groups of at least `num_ranks`. Raises `DomainError` if the schedule does not exist.
    """
    group = check(name, num_ranks, num_microbatches, num_chunks, group_size)
    point = OrderPoint(num_ranks, num_microbatches, num_chunks, group)
    return [schedule(name).order(rank, point) for rank in range(num_ranks)]


def check(
    name: ScheduleName,
    num_ranks: int,
    num_microbatches: int,
    num_chunks: int = 1,
    group_size: int | None = None,
) -> int:
    """The size of the groups of microbatches (all of them where the schedule has no groups).

    Raises `DomainError` if the schedule does not exist, with what would fit.
    """
    _check_chunks(name, num_ranks, num_chunks)
    if num_microbatches < 1:
        raise DomainError(f"a step needs microbatches, got {num_microbatches}", "ask for at least 1 microbatch")
    _check_microbatches(schedule(name), num_ranks, num_microbatches)
    if schedule(name).is_grouped:
        return _group_size(name, num_ranks, num_microbatches, group_size)
    if group_size is not None:
        raise DomainError(f"{name} has no groups of microbatches", "leave the group size out")
    return num_microbatches


def _check_chunks(name: ScheduleName, num_ranks: int, num_chunks: int) -> None:
    if num_ranks < 1:
        raise DomainError(f"a pipeline needs ranks, got {num_ranks}", "ask for at least 1 rank")
    most = schedule(name).max_ranks
    if most is not None and num_ranks > most:
        raise DomainError(
            f"{name} has no pipeline, so {num_ranks} ranks cannot share the model",
            f"ask for {most} rank, or for another schedule",
        )
    fixed = chunks_per_rank(name)
    if fixed is None and num_chunks < 2:
        raise DomainError(f"{name} needs at least 2 chunks per rank, got {num_chunks}", "ask for 2 chunks or more")
    if fixed is not None and num_chunks != fixed:
        raise DomainError(f"{name} has {fixed} chunk(s) per rank, not {num_chunks}", f"ask for {fixed}")


def _check_microbatches(record: Schedule, num_ranks: int, num_microbatches: int) -> None:
    least = record.min_microbatches_per_rank * num_ranks
    if num_microbatches < least:
        raise DomainError(
            f"{record.name} on {num_ranks} ranks needs at least {least} microbatches, got {num_microbatches}",
            f"ask for {least} microbatches or more, or for fewer ranks",
        )
    if record.needs_even and (num_ranks % 2 or num_microbatches % 2):
        raise DomainError(
            f"{record.name} feeds from both ends, so ranks and microbatches must be even: got {num_ranks} ranks and "
            f"{num_microbatches} microbatches",
            f"ask for {num_ranks + num_ranks % 2} ranks and {num_microbatches + num_microbatches % 2} microbatches",
        )


def _group_size(name: ScheduleName, num_ranks: int, num_microbatches: int, group_size: int | None) -> int:
    if group_size is None:
        num_groups = max(1, num_microbatches // num_ranks)
        if num_microbatches % num_groups:
            below = num_microbatches - num_microbatches % num_ranks
            raise DomainError(
                f"{name} on {num_ranks} ranks cannot cut {num_microbatches} microbatches into {num_groups} equal groups",
                f"ask for {below} or {below + num_ranks} microbatches, or give a group size",
            )
        return num_microbatches // num_groups
    last = num_microbatches % group_size if group_size > 0 else 0
    if not min(num_ranks, num_microbatches) <= group_size <= num_microbatches or 0 < last < num_ranks:
        raise DomainError(
            f"{name} on {num_ranks} ranks cannot run {num_microbatches} microbatches in groups of {group_size}",
            f"every group, the last one included, needs at least {num_ranks} microbatches (Megatron-LM asks the same)",
        )
    return group_size
