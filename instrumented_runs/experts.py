"""A layer of experts spread over ranks: tokens travel to their experts and back, forward and backward.

Every part runs inside a range named by `traceanalyzer.job.EXPERT_RANGE`. Shapes: T tokens on this rank, k experts
per token, H hidden; R = sum of the receive splits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.profiler import record_function

from instrumented_runs.pacing import Pacer
from instrumented_runs.routing import Routing
from traceanalyzer.job import EXPERT_RANGE
from traceanalyzer.model import ModelShape


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


class Exchange(torch.autograd.Function):
    """An all-to-all of rows whose backward is the all-to-all the other way."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        rows: torch.Tensor,
        send: list[int],
        receive: list[int],
        group: dist.ProcessGroup | None,
        name: str,
        layer: int,
    ) -> torch.Tensor:
        """Rows sorted by destination to rows sorted by source."""
        ctx.arguments = (send, receive, group, f"{name}_backward", layer)
        return _exchange(rows, send, receive, group, name, layer)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401 - torch's context
        """The gradient of each row travels back to where the row came from."""
        (gradient,) = grad_outputs
        send, receive, group, name, layer = ctx.arguments
        return _exchange(gradient, receive, send, group, name, layer), None, None, None, None, None


def _exchange(
    rows: torch.Tensor, send: list[int], receive: list[int], group: dist.ProcessGroup | None, name: str, layer: int
) -> torch.Tensor:
    with part(name, layer):
        arrived = rows.new_empty((sum(receive), *rows.shape[1:]))
        dist.all_to_all_single(arrived, rows.contiguous(), receive, send, group=group)
        return arrived


class Ranged(torch.autograd.Function):
    """A computation with a range, and a pace, around its forward and around its backward."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        rows: torch.Tensor,
        compute: Callable[[torch.Tensor], torch.Tensor],
        inside: Callable[[str], AbstractContextManager[Any]],
    ) -> torch.Tensor:
        """Compute on a graph of its own, which backward walks inside the range."""
        with inside("experts"), torch.enable_grad():
            ctx.given = rows.detach().requires_grad_()
            ctx.result = compute(ctx.given)
        ctx.inside = inside
        return ctx.result.detach()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401 - torch's context
        """Weights collect their gradient here; the rows' gradient is returned."""
        with ctx.inside("experts_backward"):
            torch.autograd.backward(ctx.result, grad_outputs[0])
        return ctx.given.grad, None, None


class Expert(nn.Module):
    """One expert: `[rows, H]` to the same."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.up = nn.Linear(hidden, inner, bias=False)
        self.down = nn.Linear(inner, hidden, bias=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """The MLP."""
        return self.down(F.gelu(self.up(rows)))


class ExpertGroup:
    """The ranks that share a layer's experts, and how long a received token takes."""

    def __init__(
        self, group: dist.ProcessGroup | None, us_per_token: float | None, stretch: Callable[[], float] = lambda: 1.0
    ) -> None:
        """`stretch`: by what the next paced computation takes longer."""
        self.group = group
        self.size = dist.get_world_size(group) if dist.is_initialized() else 1
        self._us_per_token = us_per_token
        self._stretch = stretch
        self._pacer = Pacer(continues=False)

    def count_exchange(self, visits: torch.Tensor, layer: int) -> Splits:
        """Tell every rank how many rows it will get. `visits`: rows for each expert of the layer."""
        with part("count_exchange", layer):
            counts = visits.view(self.size, -1)
            arriving = torch.empty_like(counts)
            dist.all_to_all_single(arriving, counts, group=self.group)
            return Splits(counts.sum(1).tolist(), arriving.sum(1).tolist(), arriving)

    def inside(self, num_rows: int, layer: int) -> Callable[[str], AbstractContextManager[None]]:
        """Range and pace of an expert computation over `num_rows` rows; backward takes twice the forward."""

        @contextmanager
        def enter(name: str) -> Iterator[None]:
            with part(name, layer), self._slot(num_rows * (1 if name == "experts" else 2)):
                yield

        return enter

    def _slot(self, num_rows: int) -> AbstractContextManager[None]:
        if self._us_per_token is None:
            return nullcontext()
        return self._pacer.slot(num_rows * self._us_per_token / 1e3 * self._stretch())


class ExpertLayer(nn.Module):
    """The MoE half of a transformer block, residual included; this rank holds `experts`."""

    def __init__(self, shape: ModelShape, layer: int, group: ExpertGroup, routing: Routing) -> None:
        super().__init__()
        self.layer, self.group, self.routing = layer, group, routing
        self.num_experts, self.per_token = shape.num_experts, shape.experts_per_token
        self.norm = nn.LayerNorm(shape.hidden_size)
        self.router = nn.Linear(shape.hidden_size, shape.num_experts, bias=False)
        self.experts = nn.ModuleList(
            Expert(shape.hidden_size, shape.expert_ffn_size) for _ in range(shape.num_experts // group.size)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, length, H]` to the same."""
        tokens = self.norm(x).flatten(0, 1)
        with part("router", self.layer):
            probabilities = self.router(tokens).softmax(dim=1)
            chosen = self.routing.choose(probabilities, self.layer)
            gates = probabilities.gather(1, chosen)
            gates = gates / gates.sum(dim=1, keepdim=True)
            order = chosen.flatten().argsort(stable=True)
            visits = chosen.flatten().bincount(minlength=self.num_experts)
            source = order // self.per_token
        splits = self.group.count_exchange(visits, self.layer)
        self.routing.note(self.layer, visits, splits.send, splits.receive)
        arrived = Exchange.apply(tokens[source], splits.send, splits.receive, self.group.group, "dispatch", self.layer)
        inside = self.group.inside(sum(splits.receive), self.layer)
        done = Ranged.apply(arrived, compute_experts(self.experts, splits.per_expert), inside)
        returned = Exchange.apply(done, splits.receive, splits.send, self.group.group, "combine", self.layer)
        weighted = returned * gates.flatten()[order].unsqueeze(1)
        return x + torch.zeros_like(tokens).index_add(0, source, weighted).view_as(x)


def compute_experts(experts: nn.ModuleList, per_expert: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from rows as they arrive (by source, then expert) to results in the same order."""
    counts = per_expert.flatten().tolist()
    num_local = len(experts)

    def compute(rows: torch.Tensor) -> torch.Tensor:
        pieces = rows.split(counts)
        results: list[torch.Tensor] = [rows] * len(pieces)
        for index, expert in enumerate(experts):
            mine = range(index, len(pieces), num_local)
            done = expert(torch.cat([pieces[i] for i in mine])).split([counts[i] for i in mine])
            for i, result in zip(mine, done, strict=True):
                results[i] = result
        return torch.cat(results)

    return compute
