"""How far this rank's clock is from rank 0's, by ping-pong over a CPU process group."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from traceanalyzer.job import ClockOffset


def measure_offset(
    group: dist.ProcessGroup | None = None, now_ns: Callable[[], int] = time.time_ns, num_rounds: int = 200
) -> ClockOffset:
    """This rank's clock minus rank 0's. Collective over `group` (which must move CPU tensors).

    The usual four timestamps: with t0, t3 on this rank and t1, t2 on rank 0, rank 0 is ahead by
    ((t1 - t0) + (t2 - t3)) / 2, wrong by at most half the round trip (t3 - t0) - (t2 - t1). Of all rounds the one
    with the smallest round trip counts: queueing only ever lengthens it.
    """
    result = ClockOffset(offset_ns=0, uncertainty_ns=0, at_ns=now_ns())
    for peer in range(1, dist.get_world_size(group)):
        if dist.get_rank(group) == 0:
            _answer(_global_rank(group, peer), group, now_ns, num_rounds)
        elif dist.get_rank(group) == peer:
            result = _ask(group, now_ns, num_rounds)
    dist.barrier(group)
    return result


def _global_rank(group: dist.ProcessGroup | None, position: int) -> int:
    """The rank in the job of a place in `group`: torch before 2.6 takes no places."""
    return position if group is None else dist.get_global_rank(group, position)


def _answer(peer: int, group: dist.ProcessGroup | None, now_ns: Callable[[], int], num_rounds: int) -> None:
    request, reply = torch.zeros(1, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    for _ in range(num_rounds):
        dist.recv(request, src=peer, group=group)
        received_ns = now_ns()
        reply[0] = received_ns
        reply[1] = now_ns()
        dist.send(reply, dst=peer, group=group)


def _ask(group: dist.ProcessGroup | None, now_ns: Callable[[], int], num_rounds: int) -> ClockOffset:
    request, reply = torch.zeros(1, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    first = _global_rank(group, 0)
    best: tuple[int, int] | None = None
    for _ in range(num_rounds):
        sent_ns = now_ns()
        dist.send(request, dst=first, group=group)
        dist.recv(reply, src=first, group=group)
        back_ns = now_ns()
        there_ns, answered_ns = reply.tolist()
        round_trip = (back_ns - sent_ns) - (answered_ns - there_ns)
        ahead = ((there_ns - sent_ns) + (answered_ns - back_ns)) // 2
        if best is None or round_trip < best[0]:
            best = (round_trip, -ahead)
    assert best is not None  # noqa: S101 - num_rounds is positive
    return ClockOffset(offset_ns=best[1], uncertainty_ns=(best[0] + 1) // 2, at_ns=now_ns())


def cpu_group_of_all() -> dist.ProcessGroup:
    """A gloo group of all ranks, beside a default group that cannot move CPU tensors."""
    group = dist.new_group(backend="gloo")
    assert isinstance(group, dist.ProcessGroup)  # noqa: S101 - every rank is a member
    return group
