"""How the recorders of a job speak to each other: over the job's own process group, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

from instrumented_runs.recorder.clocks import cpu_group_of_all, measure_offset
from instrumented_runs.recorder.start.environment import Surroundings
from traceanalyzer.job import ClockOffset

Said = TypeVar("Said")


class Ranks:
    """This rank among all. Whether ranks speak is settled when it is made: all of them had a process group, or none."""

    def __init__(self, found: Surroundings, group: dist.ProcessGroup | None) -> None:
        """`group` moves CPU tensors between all ranks; by default one is made where the default group is not gloo."""
        self.grouped = dist.is_initialized()
        self.rank = dist.get_rank() if self.grouped else found.rank
        self.num_ranks = dist.get_world_size() if self.grouped else found.num_ranks
        self.group = group

    @property
    def speak(self) -> bool:
        """Whether collectives may be called: there was a group, and it is still there."""
        return self.grouped and self.num_ranks > 1 and dist.is_initialized()

    @property
    def backend(self) -> str:
        """The default group's; `none` without one."""
        return dist.get_backend() if dist.is_initialized() else "none"

    def prepare(self) -> None:
        """Make the group that is needed. Collective."""
        if self.speak and self.group is None and dist.get_backend() != "gloo":
            self.group = cpu_group_of_all()

    def gather(self, mine: Said) -> list[Said]:
        """What every rank says, by rank; this one alone where ranks do not speak. Collective."""
        said = [mine]
        if self.speak:
            said = [mine] * self.num_ranks
            dist.all_gather_object(said, mine, group=self.group)
        return said

    def measure_offset(self, now_ns: Callable[[], int]) -> ClockOffset | None:
        """This rank's clock against rank 0's; None if ranks do not speak. Collective."""
        return measure_offset(self.group, now_ns) if self.speak else None
