"""Makes torch's pipeline schedules, by name or from an order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining import schedules as torch_schedules

from instrumented_runs.settings import ORDER_FILE, PipelineSettings
from traceanalyzer.errors import JobError

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def make_schedule(settings: PipelineSettings, stages: list[PipelineStage], loss: Loss) -> Any:  # noqa: ANN401 - two unrelated torch classes
    """Torch's schedule over this rank's stages. Raises `JobError` if this torch is too old to have it."""
    order = Path(settings.folder) / ORDER_FILE
    if order.exists():
        runtime = _find("_PipelineScheduleRuntime")(stages, settings.num_microbatches, loss_fn=loss)
        runtime._load_csv(str(order), format="compute_only")  # noqa: SLF001 - torch has no public way in
        return runtime
    schedule_class = _by_name(settings.schedule)
    if issubclass(schedule_class, torch_schedules.PipelineScheduleSingle):
        return schedule_class(stages[0], settings.num_microbatches, loss_fn=loss)
    return schedule_class(stages, settings.num_microbatches, loss_fn=loss)


def _find(name: str) -> Any:  # noqa: ANN401 - a class
    if not hasattr(torch_schedules, name):
        raise JobError(f"torch {torch.__version__} has no {name}", "newer versions of torch have it (2.13 does)")
    return getattr(torch_schedules, name)


def _by_name(name: str) -> Any:  # noqa: ANN401 - a class
    try:
        return _find("get_schedule_class")(name)
    except ValueError:
        raise JobError(f"torch {torch.__version__} has no schedule {name}", "newer versions have it") from None
