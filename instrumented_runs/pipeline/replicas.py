"""Data-parallel replicas of a pipeline: who belongs to which, and gradients averaged over the replicas of a stage."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from traceanalyzer.layout import Layout


@dataclass(frozen=True, slots=True)
class Place:
    """Where this rank stands among pipelines and replicas, and the groups it talks to."""

    pipeline_rank: int
    replica: int
    num_replicas: int
    pipeline: dist.ProcessGroup | None = None
    """The ranks of this pipeline; None: all ranks of the job."""
    replicas: dist.ProcessGroup | None = None
    """The ranks that hold the same stages; None: this one alone."""


def find_place(layout: Layout) -> Place:
    """Make the groups of `layout`. Collective over all ranks of the job."""
    rank = dist.get_rank()
    place, replica = layout.pipeline_rank(rank), layout.replica(rank)
    if layout.dp == 1:
        return Place(place, replica, 1)
    pipelines = [layout.pipeline(first) for first in range(layout.dp)]
    stages = [tuple(range(first, first + layout.dp)) for first in range(0, layout.world_size, layout.dp)]
    return Place(place, replica, layout.dp, _own(pipelines, "pp", rank), _own(stages, "dp", rank))


def average_gradients(
    parameters: Sequence[torch.nn.Parameter], loss: torch.Tensor | None, place: Place
) -> torch.Tensor | None:
    """Replace gradients by their mean over the replicas of this stage, in one all-reduce; the mean loss likewise."""
    if place.replicas is None:
        return loss
    gradients = [p.grad for p in parameters if p.grad is not None]
    tensors = gradients if loss is None else [*gradients, loss.detach()]
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat, group=place.replicas)
    flat /= place.num_replicas
    for gradient, mean in zip(gradients, flat.split([tensor.numel() for tensor in tensors]), strict=False):
        gradient.copy_(mean.view_as(gradient))
    return None if loss is None else flat[-1]


def _own(groups: Sequence[Sequence[int]], role: str, rank: int) -> dist.ProcessGroup:
    """Of these groups, which every rank makes in the same order, the one that `rank` is in."""
    # traces then say what a group is for; torch before 2.4 has no place for that
    described: dict[str, Any] = (
        {"group_desc": role} if "group_desc" in inspect.signature(dist.new_group).parameters else {}
    )
    made = {tuple(members): dist.new_group(list(members), **described) for members in groups}
    (own,) = [group for members, group in made.items() if rank in members]
    assert isinstance(own, dist.ProcessGroup)  # noqa: S101 - this rank is a member
    return own
