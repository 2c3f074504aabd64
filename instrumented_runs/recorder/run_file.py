"""`run.json` and what goes into it that a process can find out by itself."""

from __future__ import annotations

import dataclasses
import os
import socket
import statistics
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import torch

from instrumented_runs.pacing.gemm_peak import device_peaks
from instrumented_runs.recorder import host_load
from instrumented_runs.recorder.capture import Window, sync_events
from instrumented_runs.recorder.nccl_inspector import inspector_note
from instrumented_runs.recorder.start.environment import Surroundings
from traceanalyzer.errors import OutputError
from traceanalyzer.hardware import Hardware
from traceanalyzer.job import RUN_FILE, Job, RankRecord, RoutingRecord, StepRecord
from traceanalyzer.output import write_atomically


def write_run(folder: Path, job: Job) -> None:
    """Write `run.json` so that a reader sees the old one or the new one, never half of either. Raises `OutputError`."""
    path = folder / RUN_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.format(msgspec.json.encode(job), indent=2) + b"\n")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}", "is the disk full?") from None


def append_records(path: Path, records: Sequence[StepRecord | RoutingRecord]) -> None:
    """Add lines to a side file of this rank. Raises `OutputError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.writelines(msgspec.json.encode(record) + b"\n" for record in records)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}", "is the disk full?") from None


def own_record(rank: int, found: Surroundings) -> RankRecord:
    """Where this process runs."""
    return RankRecord(
        rank=rank,
        host=socket.gethostname(),
        pid=os.getpid(),
        cores=host_load.cores(),
        boot=host_load.boot(),
        local_rank=found.local_rank,
        node=found.node,
    )


def with_peak(job: Job, num_ranks: int) -> Job:
    """The description with the matrix-multiply rate that this device reaches, measured now."""
    hardware = job.hardware or Hardware(device=device_name(), num_devices=num_ranks)
    peaks = device_peaks()
    return dataclasses.replace(
        job, hardware=dataclasses.replace(hardware, measured_peak=peaks[0], measured_peaks=peaks)
    )


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


def growth(before: int | None, after: int | None) -> int | None:
    """By how much a counter grew; None if it cannot be read."""
    return None if before is None or after is None else after - before


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


def extras(job: Job, no_device_state: str | None, flight_note: str, backend: str) -> dict[str, str]:
    """What a rank could record beside traces and steps."""
    return {
        **job.extras,
        "clocks_and_power": no_device_state or "recorded",
        "cuda_sync_events": sync_events()[1],
        "flight_recorder": flight_note,
        "nccl_inspector": inspector_note(os.environ, backend),
    }
