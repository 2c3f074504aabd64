"""What ranks that share a layer's experts tell and send each other, forward and backward.

Every part runs inside a range named by `traceanalyzer.job.EXPERT_RANGE`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.profiler import record_function

from instrumented_runs.pacing.host import Pacer
from traceanalyzer.job import EXPERT_RANGE


def part(name: str, layer: int) -> AbstractContextManager[Any]:
    """The profiler range of one part of a layer."""
    return record_function(EXPERT_RANGE.format(part=name, layer=layer))


@dataclass(frozen=True, slots=True)
class Splits:
    """How many rows go to, and come from, each rank of the expert group."""

    send: list[int]
    receive: list[int]
    per_expert: torch.Tensor
    """`[ranks, local experts]`: rows received from each rank for each of this rank's experts."""


class ExpertGroup:
    """The ranks that share a layer's experts, and how long a received token takes."""

    def __init__(
        self,
        group: dist.ProcessGroup | None,
        us_per_token: float | None,
        stretch: Callable[[], float] = lambda: 1.0,
        slow_links_s: Mapping[int, float] | None = None,
    ) -> None:
        """What is planted: by what the next paced computation takes longer, and how late a position's rows arrive here."""
        self.group = group
        self.size = dist.get_world_size(group) if dist.is_initialized() else 1
        self.position = dist.get_rank(group) if dist.is_initialized() else 0
        self._us_per_token = us_per_token
        self._stretch = stretch
        self._slow_links_s = dict(slow_links_s or {})
        self._pacer = Pacer(continues=False)

    def count_exchange(self, visits: torch.Tensor, layer: int) -> Splits:
        """Tell every rank how many rows it will get. `visits`: rows for each slot of the layer, rank by rank."""
        with part("count_exchange", layer):
            counts = visits.view(self.size, -1)
            arriving = torch.empty_like(counts)
            dist.all_to_all_single(arriving, counts, group=self.group)
            return Splits(counts.sum(1).tolist(), arriving.sum(1).tolist(), arriving)

    def exchange(self, rows: torch.Tensor, send: list[int], receive: list[int]) -> torch.Tensor:
        """Rows sorted by destination to rows sorted by source."""
        arrived = rows.new_empty((sum(receive), *rows.shape[1:]))
        dist.all_to_all_single(arrived, rows.contiguous(), receive, send, group=self.group)
        late = [delay for source, delay in self._slow_links_s.items() if receive[source]]
        if late:
            time.sleep(max(late))
        return arrived

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows of all ranks, in their order; not differentiable."""
        everything = rows.new_empty((self.size * rows.shape[0], *rows.shape[1:]))
        dist.all_gather_into_tensor(everything, rows.contiguous(), group=self.group)
        return everything

    def reduce(self, rows: torch.Tensor) -> torch.Tensor:
        """This rank's part of the rows summed over ranks; not differentiable."""
        mine = rows.new_empty((rows.shape[0] // self.size, *rows.shape[1:]))
        dist.reduce_scatter_tensor(mine, rows.contiguous(), group=self.group)
        return mine

    def inside(self, num_rows: float, layer: int) -> Callable[[str], AbstractContextManager[None]]:
        """Range and pace of an expert computation over `num_rows` rows; backward takes twice the forward."""

        @contextmanager
        def enter(name: str) -> Iterator[None]:
            with part(name, layer), self._slot(num_rows * (1 if name == "experts" else 2)):
                yield

        return enter

    def _slot(self, num_rows: float) -> AbstractContextManager[None]:
        if self._us_per_token is None:
            return nullcontext()
        return self._pacer.slot(num_rows * self._us_per_token / 1e3 * self._stretch())


class Exchange(torch.autograd.Function):
    """An all-to-all of rows whose backward is the all-to-all the other way."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        rows: torch.Tensor,
        send: list[int],
        receive: list[int],
        group: ExpertGroup,
        name: str,
        layer: int,
    ) -> torch.Tensor:
        """Rows sorted by destination to rows sorted by source."""
        ctx.arguments = (send, receive, group, f"{name}_backward", layer)
        with part(name, layer):
            return group.exchange(rows, send, receive)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401 - torch's context
        """The gradient of each row travels back to where the row came from."""
        (gradient,) = grad_outputs
        send, receive, group, name, layer = ctx.arguments
        with part(name, layer):
            return group.exchange(gradient, receive, send), None, None, None, None, None


class Gather(torch.autograd.Function):
    """The rows of all ranks on every rank; backward sums the gradients of a rank's rows over all ranks."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, group: ExpertGroup, name: str, layer: int) -> torch.Tensor:  # noqa: ANN401 - torch's context
        """`[rows, …]` to `[ranks · rows, …]`."""
        ctx.arguments = (group, f"{name}_backward", layer)
        with part(name, layer):
            return group.gather(rows)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401 - torch's context
        """Reduce and scatter."""
        group, name, layer = ctx.arguments
        with part(name, layer):
            return group.reduce(grad_outputs[0]), None, None, None


class Reduce(torch.autograd.Function):
    """A rank's part of rows that are summed over ranks; backward gathers."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, group: ExpertGroup, name: str, layer: int) -> torch.Tensor:  # noqa: ANN401 - torch's context
        """`[ranks · rows, …]` to `[rows, …]`."""
        ctx.arguments = (group, f"{name}_backward", layer)
        with part(name, layer):
            return group.reduce(rows)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401 - torch's context
        """Gather."""
        group, name, layer = ctx.arguments
        with part(name, layer):
            return group.gather(grad_outputs[0]), None, None, None
