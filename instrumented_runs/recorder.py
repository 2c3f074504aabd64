"""Records a training loop: a Kineto trace per rank, the wall clock of every step, and the run's description.

Three lines in any loop, after `init_process_group` if there are several ranks:

    with Recorder("runs/mine") as recorder:
        for batch in data:
            train(batch)
            recorder.step()
"""

from __future__ import annotations

import dataclasses
import gc
import os
import signal
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile, schedule

from instrumented_runs import host_load
from instrumented_runs.clocks import measure_offset
from instrumented_runs.trace_export import publish_trace
from traceanalyzer.hardware import Hardware
from traceanalyzer.job import (
    ROUTING_FILE,
    RUN_FILE,
    STEPS_FILE,
    TRACE_FILE,
    ClockOffset,
    Job,
    RankRecord,
    RoutingRecord,
    StepRecord,
)
from traceanalyzer.layout import Layout
from traceanalyzer.model import ModelShape


@dataclass(frozen=True, slots=True)
class Window:
    """Which steps the profiler records: it idles for `wait`, runs unrecorded for `warmup`, records `active`."""

    wait: int = 1
    warmup: int = 1
    active: int = 5

    @property
    def steps(self) -> tuple[int, ...]:
        """The recorded steps."""
        first = self.wait + self.warmup
        return tuple(range(first, first + self.active))


def unknown_job(num_ranks: int) -> Job:
    """The description of a loop of which nothing is known but its ranks."""
    shape = ModelShape(num_layers=0, hidden_size=0, num_heads=0, num_kv_heads=0, head_size=0, ffn_size=0, vocab_size=0)
    return Job(
        kind="other",
        layout=Layout(dp=num_ranks),
        model=shape,
        compute_mode="real",
        backend=dist.get_backend() if dist.is_initialized() else "none",
        dtype="unknown",
        tokens_per_step=0,
        sequence_length=0,
    )


class Recorder:
    """Writes `folder` as `traceanalyzer.job` describes it. Every rank of the job makes one, with equal arguments."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        job: Job | None = None,
        window: Window | None = None,
        cpu_group: dist.ProcessGroup | None = None,
        clock_error_ns: int = 0,
    ) -> None:
        """`cpu_group`: a gloo group of all ranks; by default one is made where the default group is not gloo.

        `clock_error_ns` is added to every time this rank writes: a planted fault.
        """
        self.folder = Path(folder)
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.num_ranks = dist.get_world_size() if dist.is_initialized() else 1
        self.window = window or Window()
        job = job or unknown_job(self.num_ranks)
        self.job = dataclasses.replace(
            job,
            hardware=job.hardware or Hardware(device=device_name(), num_devices=self.num_ranks),
            versions=job.versions or versions(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._cpu_group = cpu_group
        self._clock_error_ns = clock_error_ns
        self._step = 0
        self._records: list[StepRecord] = []
        self._routing: list[RoutingRecord] = []
        self._profiler: profile | None = None
        self._rank_record = RankRecord(
            rank=self.rank, host=socket.gethostname(), pid=os.getpid(), cores=host_load.cores()
        )
        self._trace_path = self.folder / TRACE_FILE.format(rank=self.rank)

    def __enter__(self) -> Self:
        """Start recording. Collective."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the recording; after an error keep what was recorded, without speaking to other ranks."""
        if error is None:
            self.close()
        else:
            self.abandon()

    def start(self) -> None:
        """Measure the clocks, begin `run.json`, start the profiler. Collective."""
        if self.num_ranks > 1:
            if self._cpu_group is None and dist.get_backend() != "gloo":
                self._cpu_group = cpu_group_of_all()
            self._rank_record = dataclasses.replace(self._rank_record, clock_start=self._measure_offset())
        for name in (STEPS_FILE, ROUTING_FILE):
            (self.folder / name.format(rank=self.rank)).unlink(missing_ok=True)
        self._write_run("started", self.window.steps)
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        window = self.window
        self._profiler = profile(
            activities=activities,
            schedule=schedule(wait=window.wait, warmup=window.warmup, active=window.active, repeat=1),
            record_shapes=True,
            on_trace_ready=self._publish,
        )
        gc.collect()
        gc.freeze()
        gc.disable()
        self._profiler.start()
        self._begin_step()

    def step(self, loss: float | None = None) -> StepRecord:
        """End a step and begin the next. `loss`: only on a rank that has it."""
        record = StepRecord(
            step=self._step,
            rank=self.rank,
            start_ns=self._start_ns,
            end_ns=self._now_ns(),
            profiled=self._step in self.window.steps,
            loss=loss,
            cpu_pressure_us=_growth(self._pressure, host_load.cpu_pressure_us()),
            involuntary_switches=host_load.involuntary_switches() - self._switches,
            **self._memory,
            **cuda_peaks(),
        )
        self._records.append(record)
        self._append(STEPS_FILE, [record])
        if self._routing:
            self._append(ROUTING_FILE, self._routing)
            self._routing = []
        if self._profiler is not None:
            with termination_postponed():
                self._profiler.step()
            if self._step == self.window.steps[-1]:
                self._stop_profiler()
        self._step += 1
        self._begin_step()
        return record

    def record_routing(
        self,
        layer: int,
        tokens_to_expert: Sequence[int],
        send_splits: Sequence[int],
        receive_splits: Sequence[int],
        group: Sequence[int],
        dropped: int = 0,
    ) -> None:
        """Note where this rank's tokens went in one layer of the current step; written when the step ends."""
        self._routing.append(
            RoutingRecord(
                step=self._step,
                layer=layer,
                rank=self.rank,
                tokens_to_expert=tuple(tokens_to_expert),
                send_splits=tuple(send_splits),
                receive_splits=tuple(receive_splits),
                dropped=dropped,
                group=tuple(group),
            )
        )

    def note_memory(self, peak_in_flight: int, peak_saved_bytes: int | None) -> None:
        """What the loop metered itself in the current step."""
        self._memory = {"peak_in_flight": peak_in_flight, "peak_saved_bytes": peak_saved_bytes}

    def close(self) -> None:
        """Finish the trace and complete `run.json`. Collective."""
        self._stop_profiler()
        if self.num_ranks > 1:
            self._rank_record = dataclasses.replace(self._rank_record, clock_end=self._measure_offset())
        self._write_run("completed", tuple(r.step for r in self._records if r.profiled))

    def abandon(self) -> None:
        """Keep what this rank has recorded; other ranks may be gone."""
        self._stop_profiler()

    def _append(self, name: str, records: Sequence[StepRecord | RoutingRecord]) -> None:
        """Add lines to a side file of this rank, after the step they tell of."""
        path = self.folder / name.format(rank=self.rank)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.writelines(msgspec.json.encode(record) + b"\n" for record in records)

    def _begin_step(self) -> None:
        self._memory: dict[str, int | None] = {}
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._pressure = host_load.cpu_pressure_us()
        self._switches = host_load.involuntary_switches()
        self._start_ns = self._now_ns()

    def _now_ns(self) -> int:
        return time.time_ns() + self._clock_error_ns

    def _measure_offset(self) -> ClockOffset:
        return measure_offset(self._cpu_group, self._now_ns)

    def _publish(self, profiler: profile) -> None:
        publish_trace(profiler, self._trace_path, self.rank, self._clock_error_ns)

    def _stop_profiler(self) -> None:
        if self._profiler is not None:
            profiler, self._profiler = self._profiler, None
            with termination_postponed():
                profiler.stop()
            gc.enable()

    def _write_run(self, status: str, profiled_steps: tuple[int, ...]) -> None:
        """Gather what every rank knows of itself; rank 0 writes. Collective."""
        last = self._records[-1].step if self._records else None
        mine = (dataclasses.replace(self._rank_record, last_step=last), self._unprofiled_step_ms())
        gathered: list[tuple[RankRecord, float | None]] = [mine]
        if self.num_ranks > 1:
            gathered = [mine] * self.num_ranks
            dist.all_gather_object(gathered, mine, group=self._cpu_group)
        if self.rank != 0:
            return
        medians = [median for _, median in gathered if median is not None]
        write_run(
            self.folder,
            dataclasses.replace(
                self.job,
                ranks=tuple(record for record, _ in gathered),
                profiled_steps=profiled_steps,
                unprofiled_step_ms=statistics.median(medians) if medians else None,
                status=status,
            ),
        )

    def _unprofiled_step_ms(self) -> float | None:
        """Median over the steps after the window; the first is left out, as ranks leave the export at different times."""
        after = [r for r in self._records if r.step > self.window.steps[-1] + 1]
        return statistics.median((r.end_ns - r.start_ns) / 1e6 for r in after) if after else None


def write_run(folder: Path, job: Job) -> None:
    """Write `run.json` so that a reader sees the old one or the new one, never half of either."""
    path = folder / RUN_FILE
    temporary = path.with_name(f".{RUN_FILE}.{os.getpid()}.tmp")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(job), indent=2) + b"\n")
    temporary.replace(path)


def cuda_peaks() -> dict[str, int]:
    """Most bytes in use since the peaks were reset; nothing without CUDA."""
    if not torch.cuda.is_available():
        return {}
    return {
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(),
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
    }


def versions() -> dict[str, str]:
    """What the job ran on."""
    found = {"python": sys.version.split()[0], "torch": str(torch.__version__)}
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found


def cpu_group_of_all() -> dist.ProcessGroup:
    """A gloo group of all ranks, beside a default group that cannot move CPU tensors."""
    group = dist.new_group(backend="gloo")
    assert isinstance(group, dist.ProcessGroup)  # noqa: S101 - every rank is a member
    return group


def device_name() -> str:
    """The device this process computes on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


@contextmanager
def termination_postponed() -> Iterator[None]:
    """Let a SIGTERM wait until what runs inside is done: launchers send one when another rank failed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handler = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        if came:
            os.kill(os.getpid(), signal.SIGTERM)


def _growth(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before
