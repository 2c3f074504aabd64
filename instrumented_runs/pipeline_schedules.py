"""Makes torch's pipeline schedules, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import PipelineScheduleSingle, get_schedule_class

from instrumented_runs.settings import PipelineSettings
from traceanalyzer.schedule import ScheduleName

V_SHAPED = (ScheduleName.ZBV, ScheduleName.DUALPIPE_V)
"""Schedules whose second half of stages runs back along the ranks."""


def stages_of(settings: PipelineSettings, rank: int) -> tuple[int, ...]:
    """The stages that `rank` holds, in the order of its chunks."""
    if settings.schedule in V_SHAPED:
        return (rank, settings.num_stages - 1 - rank)
    return tuple(range(rank, settings.num_stages, settings.num_ranks))


def make_schedule(
    settings: PipelineSettings,
    stages: list[PipelineStage],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Any:  # noqa: ANN401 - two unrelated torch classes
    """Torch's schedule over this rank's stages."""
    schedule_class = get_schedule_class(settings.schedule)
    if issubclass(schedule_class, PipelineScheduleSingle):
        return schedule_class(stages[0], settings.num_microbatches, loss_fn=loss)
    return schedule_class(stages, settings.num_microbatches, loss_fn=loss)
