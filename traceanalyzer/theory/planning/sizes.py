"""The fastest configuration of models of several sizes on several numbers of devices: fewer or more of the same layers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.model import ModelShape
from traceanalyzer.theory.model.parameters import parameters
from traceanalyzer.theory.planning.job import PlanJob
from traceanalyzer.theory.planning.plan import model_flops_utilisation
from traceanalyzer.theory.planning.search import search

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeCell:
    """One size on so many devices, with the batch of the job."""

    num_layers: int
    num_parameters: int
    num_devices: int
    mfu: float | None
    """None: nothing fits."""
    step_ns: float | None
    configuration: str
    """The fastest; what came nearest where nothing fits."""


def sizes_and_devices(job: PlanJob) -> tuple[SizeCell, ...]:
    """A quarter to four times the layers on a quarter to four times the devices, smallest first."""
    shapes = [shape for factor in FACTORS if (shape := _scaled(job.shape, factor)) is not None]
    devices = sorted({max(1, round(job.num_devices * factor)) for factor in FACTORS})
    return tuple(_cell(replace(job, shape=shape, num_devices=count)) for shape in shapes for count in devices)


def _scaled(shape: ModelShape, factor: float) -> ModelShape | None:
    """With that many times the layers; None if such a model cannot be."""
    count = round(shape.num_layers * factor)
    if factor == 1 or not count:
        return shape if factor == 1 else None
    try:
        return replace(shape, num_layers=count)
    except TraceAnalyzerError:
        return None


def _cell(job: PlanJob) -> SizeCell:
    found = search(job)
    best = found.ranked[0] if found.ranked else None
    memory = found.rejections.get("memory")
    if best is not None:
        text = best.configuration.text()
    elif memory is not None:
        text = f"nothing fits; nearest: {memory.nearest}, {memory.by:.3g} GiB over"
    else:
        text = "no configuration is valid"
    return SizeCell(
        num_layers=job.shape.num_layers,
        num_parameters=parameters(job.shape).total,
        num_devices=job.num_devices,
        mfu=None if best is None else model_flops_utilisation(job, best.step_ns),
        step_ns=None if best is None else best.step_ns,
        configuration=text,
    )
