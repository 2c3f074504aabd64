"""Which rank to profile next, where a lone rank's collectives show with whom it shares them."""

from __future__ import annotations

from pathlib import Path

import pytest
from inputs.tiny_device import TinyDevice

from traceanalyzer.analysis.assemble import analyze, read


def next_sentence(folder: Path, rank: int, world: int, members: list[int] | None) -> str:
    """A rank's steps of 3 ms with an all-reduce over `members` (None: not recorded)."""
    trace = TinyDevice(rank=rank, world_size=world)
    told = {"Collective name": "allreduce", "In msg nelems": 512, "Out msg nelems": 512, "dtype": "Float"}
    if members is not None:
        told |= {"Group size": len(members), "Process Group Name": "3", "Process Group Ranks": str(members)}
    for step in range(3):
        at = 3_000 * step
        trace.step(step, at, at + 2_995).kernel(at + 50, at + 1_400, launched=at + 20)
        name = "ncclDevKernel_AllReduce_Sum_f32_RING_LL()"
        trace.communicate(at + 1_400, at + 1_800, launched=at + 30, name=name, stream=20, **told)
        trace.kernel(at + 1_800, at + 2_900, launched=at + 40)
    trace.write(folder)
    return next(line for line in analyze(read(folder)).review.headline.sentences if line.startswith("Next: "))


@pytest.mark.parametrize(
    ("rank", "members", "said"),
    [
        (5, list(range(6)), "profile rank 0: it shares collectives with rank 5; two ranks of a group show"),
        (2, [2, 5], "profile rank 5: all replicas of a stage show which of them is late"),
        (4, [4], "profile rank 0: the groups of the"),
        (0, None, "profile rank 1: the groups of the ranks are not known"),
    ],
)
def test_a_member_of_the_recorded_group_is_named(
    tmp_path: Path, rank: int, members: list[int] | None, said: str
) -> None:
    assert said in next_sentence(tmp_path, rank, 6, members)
