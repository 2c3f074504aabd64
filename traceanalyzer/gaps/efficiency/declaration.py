"""What is declared of a job beside its traces, and what MFU needs of it: flags win over run.json or a model's file."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.job import Job
from traceanalyzer.model import ModelShape
from traceanalyzer.tables.computation.taxonomy import KernelRule
from traceanalyzer.theory.model.flops import Recompute


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredFlops:
    """Model FLOPs, forward and backward, that are given instead of counted; one of the two."""

    per_token: float | None = None
    per_step: float | None = None
    """Over the whole job."""
    basis: str = "declared"

    def of_step(self, tokens_per_step: int | None) -> float | None:
        """FLOPs of a step; None if the tokens are missing."""
        if self.per_step is not None:
            return self.per_step
        return self.per_token * tokens_per_step if self.per_token and tokens_per_step else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """Given by whoever asks for the analysis; None: not given."""

    job: Job | None = None
    """A whole description, as reference runs write it."""
    action_pattern: str | None = None
    """Regular expression of names that label compute actions (`tables.action_labels`)."""
    model: ModelShape | None = None
    tokens_per_step: int | None = None
    """Over the whole job."""
    sequence_length: int | None = None
    num_devices: int | None = None
    dtype: str | None = None
    recompute: str | None = None
    peak_flops_per_device: float | None = None
    """Dense, in the number format computed in."""
    flops: DeclaredFlops | None = None
    """In place of a count from the model's shape."""
    kernel_rules: tuple[KernelRule, ...] = ()
    """Tried before the rules of the package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a step trains, and on how many devices."""

    num_devices: int
    model: ModelShape | None = None
    tokens_per_step: int | None = None
    sequence_length: int | None = None
    """All three are known where `flops` is None."""
    dtype: str | None = None
    recompute: Recompute = Recompute.NONE
    hardware_flops_known: bool = True
    """False if the traces show recomputation whose amount is unknown, and none is declared."""
    flops: DeclaredFlops | None = None
    """In place of a count from the model's shape."""


NOTHING = Declaration()


def declared_recompute(job: Job | None, declared: Declaration) -> str | None:
    """What is declared to be computed again in backward; options win over the run's own description."""
    return declared.recompute or (job.recompute if job else None)


UNDECLARED = "not known without run.json: "


def is_undeclared(reason: str) -> bool:
    """Whether `training` gave this reason because something was not declared."""
    return reason.startswith(UNDECLARED)


def training(
    job: Job | None, declared: Declaration, ranks: pl.DataFrame, detected: str | None = None
) -> Training | str:
    """What is trained, or what is missing and how to give it.

    `ranks` is `RANKS`; `detected` is what traces tell of recomputation (`measurements.recompute`), used where none is
    declared.
    """
    again = declared_recompute(job, declared) or detected
    model = declared.model or (job.model if job and job.model.num_layers else None)
    tokens = declared.tokens_per_step or (job.tokens_per_step if job else None)
    sequence = declared.sequence_length or (job.sequence_length if job else None)
    devices = num_devices(job, declared, ranks)
    flops = declared.flops
    missing = _missing(model, tokens, sequence, devices, flops)
    if missing or devices is None:
        return f"{UNDECLARED}{', '.join(missing)}"
    return Training(
        model=model,
        tokens_per_step=tokens or None,
        sequence_length=sequence or None,
        num_devices=devices,
        dtype=declared.dtype or (job.dtype if job else None),
        recompute=Recompute(again if again and again != "partial" else "none"),
        hardware_flops_known=again == "none" if flops else again != "partial",
        flops=flops,
    )


def num_devices(job: Job | None, declared: Declaration, ranks: pl.DataFrame) -> int | None:
    """Devices of the whole job, as declared, described or recorded in `RANKS`."""
    recorded = ranks["world_size"].max()
    return declared.num_devices or (
        job.world_size if job and job.world_size else recorded if isinstance(recorded, int) and recorded > 0 else None
    )


def _missing(
    model: ModelShape | None, tokens: int | None, sequence: int | None, devices: int | None, flops: DeclaredFlops | None
) -> list[str]:
    """What is not known and how to give it."""
    needs_tokens = flops is None or flops.per_step is None
    needed = (
        (model or flops, "the model (--job FILE, or --flops-per-token or --flops-per-step)"),
        (tokens or not needs_tokens, "tokens per step (--tokens-per-step)"),
        (sequence or flops, "the sequence length (--sequence-length)"),
        (devices, "the number of devices (--num-devices)"),
    )
    return [text for known, text in needed if not known]
