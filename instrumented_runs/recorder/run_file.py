"""`run.json` and what goes into it that a process can find out by itself."""

from __future__ import annotations

import dataclasses
import os
import statistics
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import torch
import torch.distributed as dist

from instrumented_runs.recorder.capture import Window
from traceanalyzer.job import RUN_FILE, Job, RankRecord, StepRecord
from traceanalyzer.layout import Layout
from traceanalyzer.model import ModelShape

MAX_TRACED_RANKS = 64
"""Jobs up to this size are recorded on every rank unless the user says otherwise."""


def write_run(folder: Path, job: Job) -> None:
    """Write `run.json` so that a reader sees the old one or the new one, never half of either."""
    path = folder / RUN_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{RUN_FILE}.{os.getpid()}.tmp")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(job), indent=2) + b"\n")
    temporary.replace(path)


def unknown_job() -> Job:
    """The description of a loop of which nobody said anything."""
    shape = ModelShape(num_layers=0, hidden_size=0, num_heads=0, num_kv_heads=0, head_size=0, ffn_size=0, vocab_size=0)
    return Job(
        kind="other",
        layout=None,
        model=shape,
        compute_mode="real",
        backend=dist.get_backend() if dist.is_initialized() else "none",
        dtype="unknown",
        tokens_per_step=0,
        sequence_length=0,
    )


def default_ranks(layout: Layout | None, num_ranks: int = 1) -> tuple[int, ...]:
    """Ranks worth recording: all of a small job, else one whole pipeline and one whole expert group."""
    if layout is None or layout.world_size <= MAX_TRACED_RANKS:
        return tuple(range(layout.world_size if layout is not None else num_ranks))
    return tuple(sorted({*layout.pipeline(0), *layout.expert_group(0)}))


def versions() -> dict[str, str]:
    """What the job ran on."""
    found = {"python": sys.version.split()[0], "torch": str(torch.__version__)}
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found


def device_name() -> str:
    """The device this process computes on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def cuda_peaks() -> dict[str, int]:
    """Most bytes in use since the peaks were reset; nothing without CUDA."""
    if not torch.cuda.is_available():
        return {}
    return {
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(),
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
    }


def unprofiled_step_ms(records: Sequence[StepRecord], window: Window) -> float | None:
    """Median over steps after a window.

    The first one is left out, as ranks leave the export at different times.
    """
    after = [
        (now.end_ns - now.start_ns) / 1e6
        for before, now in pairwise(records)
        if now.step > window.steps(window.wait)[-1] and not before.profiled and not now.profiled
    ]
    return statistics.median(after) if after else None


Gathered = tuple[RankRecord, float | None, tuple[int, ...]]
"""What a rank knows of itself: its record, the median of its unprofiled steps in ms, its profiled steps."""


def joined_run(job: Job, gathered: Sequence[Gathered], extras: dict[str, str], status: str) -> Job:
    """The job's description with what every rank knows of itself."""
    medians = [median for _, median, _ in gathered if median is not None]
    return dataclasses.replace(
        job,
        ranks=tuple(record for record, _, _ in gathered),
        profiled_steps=tuple(sorted({step for _, _, steps in gathered for step in steps})),
        unprofiled_step_ms=statistics.median(medians) if medians else None,
        extras=extras,
        status=status,
    )
