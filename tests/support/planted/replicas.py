"""What replicas exchange while the pipeline runs: buckets of gradients, gathered parameters; and exchanges that end a chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planted.job import Action
    from planted.rank import Rank

MIX = ("gemm", "attention", "elementwise")


def act_beside_replicas(rank: Rank, action: Action, duration: int, after: list[int]) -> None:
    """The action's computation, with what its replicas exchange before, in and after it."""
    job, group = rank.job, rank.job.stage_group(rank.rank)
    phase, _, microbatch = action
    if job.sharded and job.dp > 1:
        after = [*after, rank.collective("dp", "all_gather", group, job.gather_bytes)]
    reduces = phase in "BW" and job.dp > 1
    last = job.overlapped == "last" and microbatch == job.num_microbatches - 1
    if not reduces or not (last or job.overlapped == "each" or job.sharded):
        rank.compute(duration, MIX, after, job.kernels_per_action)
        return
    kind, buckets = "all_reduce" if last else "reduce_scatter", job.gradient_buckets
    for bucket in range(buckets):
        part = duration * (bucket + 1) // buckets - duration * bucket // buckets
        slowed = round(part * (job.overlap_slowdown if bucket else 1.0))
        rank.compute(slowed, MIX, after if bucket == 0 else [], max(1, job.kernels_per_action // buckets))
        rank.collective("dp", kind, group, job.gradient_bytes // buckets)


def end_in_exchange(rank: Rank) -> None:
    """An even all-to-all that the next computation waits for, as all-reduces of tensor parallelism are."""
    ended = rank.collective("ep", "all_to_all", rank.job.expert_group(rank.rank), rank.job.tail_exchange_bytes)
    rank.last[7] = rank.graph.add(rank.rank, 0, [ended, rank.last.get(7)])
