"""What is declared of a job beside its traces, and what MFU needs of it: flags win over run.json or a model's file."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.job import Job
from traceanalyzer.model import ModelShape
from traceanalyzer.theory.model.flops import Recompute


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a step trains, and on how many devices."""

    model: ModelShape
    tokens_per_step: int
    sequence_length: int
    num_devices: int
    dtype: str | None
    recompute: Recompute
    hardware_flops_known: bool = True
    """False where the traces show recomputation of an amount they do not tell, and none is declared."""


NOTHING = Declaration()


def declared_recompute(job: Job | None, declared: Declaration) -> str | None:
    """What is declared to be computed again in backward; options win over the run's own description."""
    return declared.recompute or (job.recompute if job else None)


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
    recorded = ranks["world_size"].max()
    devices = declared.num_devices or (
        job.layout.world_size if job else recorded if isinstance(recorded, int) and recorded > 0 else None
    )
    if model and tokens and sequence and devices:
        return Training(
            model=model,
            tokens_per_step=tokens,
            sequence_length=sequence,
            num_devices=devices,
            dtype=declared.dtype or (job.dtype if job else None),
            recompute=Recompute(again if again and again != "partial" else "none"),
            hardware_flops_known=again != "partial",
        )
    missing = [
        text
        for value, text in (
            (model, "the model (--job FILE)"),
            (tokens, "tokens per step (--tokens-per-step)"),
            (sequence, "the sequence length (--sequence-length)"),
            (devices, "the number of devices (--num-devices)"),
        )
        if not value
    ]
    return f"not known without run.json: {', '.join(missing)}"
