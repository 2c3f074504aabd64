"""What `plan job` was asked: options to a job."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from traceanalyzer.errors import InputError, UsageError
from traceanalyzer.gaps.efficiency.configurations.calibration import Calibration, calibration
from traceanalyzer.model import ModelShape
from traceanalyzer.options.job_file import read_job_file
from traceanalyzer.review import REVIEW_FILE, read_review
from traceanalyzer.theory.interconnect.dimension_volumes import ContextExchange
from traceanalyzer.theory.interconnect.topology import find_cluster
from traceanalyzer.theory.memory.rank import Allowance
from traceanalyzer.theory.memory.recipes import find_recipe
from traceanalyzer.theory.planning.frameworks import find_framework
from traceanalyzer.theory.planning.job import PlanJob
from traceanalyzer.theory.planning.runs.calibration import calibrated

_GIB = 2**30
_MOST_GIB = 1024
"""More than any device holds: such a number is of MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """The command's options, by their own names."""

    model: str
    gpus: int
    hardware: str
    seq: int
    batch: int
    recipe: str
    framework: str
    context: ContextExchange
    dedup: bool
    load_ratio: float
    memory_gib: float | None
    fixed_gib: float
    fragmentation: float
    calibrate: str | None
    most: int
    json_file: str | None
    html_file: str | None
    torchtitan: str | None
    megatron: str | None
    deepspeed: str | None

    @property
    def outputs(self) -> tuple[tuple[str, str], ...]:
        """Frameworks to write files for, and where to."""
        wanted = (("torchtitan", self.torchtitan), ("megatron", self.megatron), ("deepspeed", self.deepspeed))
        return tuple((name, target) for name, target in wanted if target is not None)

    def job(self, framework: str | None = None) -> PlanJob:
        """The job, for the framework that was asked for or another one, with the numbers of the run that calibrates it."""
        calibration = self.calibration()
        job = self._assumed(framework)
        return job if calibration is None else calibrated(job, calibration.measured)

    def calibration(self) -> Calibration | None:
        """What the run has; None without one. Raises where it cannot be read or is of another device."""
        if self.calibrate is None:
            return None
        path = Path(self.calibrate)
        return calibration(read_review(path / REVIEW_FILE if path.is_dir() else path), self._assumed())

    def _assumed(self, framework: str | None = None) -> PlanJob:
        """The job as options and data say. Raises where names are not known."""
        model = read_job_file(self.model).model
        if model is None:
            raise InputError(f"{self.model}: describes a job without a model", "give a preset or a configuration file")
        self._check_experts(model)
        job = PlanJob(
            shape=model,
            cluster=find_cluster(self.hardware),
            num_devices=self.gpus,
            sequence_length=self.seq,
            batch_size=self.batch,
            recipe=find_recipe(self.recipe),
            framework=find_framework(framework or self.framework),
            allowance=Allowance(fixed_bytes=self.fixed_gib * _GIB, fragmentation=self.fragmentation),
            context_exchange=self.context,
            deduplicated=self.dedup,
            load_ratio=self.load_ratio,
            memory_bytes=None if self.memory_gib is None else self.memory_gib * _GIB,
        )
        if job.allowance.fixed_bytes >= job.capacity_bytes:
            raise UsageError(
                f"--fixed-gib {self.fixed_gib:g} leaves nothing of a device's {job.capacity_bytes / _GIB:.3g} GiB",
                "give GiB that hold no weights and activations: 1 to 4 are usual",
            )
        return job

    def _check_experts(self, model: ModelShape) -> None:
        """Refuse what only experts have, and loads that they cannot have."""
        if not model.num_experts:
            given = "--load-ratio" if self.load_ratio > 1 else "--dedup" if self.dedup else None
            if given is not None:
                raise UsageError(f"{self.model}: has no experts, so {given} says nothing of it", f"leave {given} out")
            return
        most = model.num_experts / model.experts_per_token
        if self.load_ratio > most:
            raise UsageError(
                f"--load-ratio {self.load_ratio:g} is more than {most:g}, where every token goes to the same "
                f"{model.experts_per_token} of {model.num_experts} experts",
                "give tokens of the fullest rank ÷ mean of all ranks",
            )


def read_options(options: Mapping[str, object]) -> PlanOptions:
    """The options as one object. Raises `UsageError` for what is not a number."""
    for name, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--{name.replace('_', '-')} {value} is not a finite number", "give a finite number")
    given = msgspec.convert(dict(options), PlanOptions)
    if given.memory_gib is not None and given.memory_gib > _MOST_GIB:
        raise UsageError(
            f"--memory-gib {given.memory_gib:g} is more than any device holds",
            f"give GiB; {given.memory_gib:g} MiB are {given.memory_gib / 1024:.4g}",
        )
    return given
