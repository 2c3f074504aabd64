"""Records a training loop: a Kineto trace per rank, the wall clock of every step, and the run's description.

Three lines in any loop, after `init_process_group` if there are several ranks:

    with Recorder("runs/mine") as recorder:
        for batch in data:
            train(batch)
            recorder.step()

A further window is recorded on demand: `echo 1200 > runs/mine/record_at` starts one in step 1200 on every rank, and so
does `touch runs/mine/record_at`, or SIGUSR1 to any rank of a recorder made with `start_signal=signal.SIGUSR1`, a few
steps later.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import time
import warnings
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import msgspec
import torch
import torch.distributed as dist

from instrumented_runs.pacing.gemm_peak import device_peaks
from instrumented_runs.ranges import RoutingMore
from instrumented_runs.recorder import host_load
from instrumented_runs.recorder.capture import Capture, Window, sync_events
from instrumented_runs.recorder.clocks import cpu_group_of_all, measure_offset
from instrumented_runs.recorder.device_state import DeviceState
from instrumented_runs.recorder.flight_dump import FLIGHT_FILE, dump_flight
from instrumented_runs.recorder.guards import FolderLock, check_process, check_ranks
from instrumented_runs.recorder.nccl_inspector import inspector_note
from instrumented_runs.recorder.on_demand import Requests
from instrumented_runs.recorder.parquet import InBackground
from instrumented_runs.recorder.run_file import (
    cuda_peaks,
    default_ranks,
    device_name,
    joined_run,
    unknown_job,
    unprofiled_step_ms,
    versions,
    write_run,
)
from traceanalyzer.errors import UsageError
from traceanalyzer.hardware import Hardware
from traceanalyzer.job import (
    ROUTING_FILE,
    STEPS_FILE,
    TRACE_FILE,
    ClockOffset,
    Job,
    RankRecord,
    RoutingRecord,
    StepRecord,
)


class Recorder:
    """Writes `folder` as `traceanalyzer.job` describes it. Every rank of the job makes one, with equal arguments."""

    def __init__(  # noqa: PLR0913 - one argument per choice
        self,
        folder: str | os.PathLike[str],
        job: Job | None = None,
        window: Window | None = None,
        ranks: Collection[int] | None = None,
        cpu_group: dist.ProcessGroup | None = None,
        clock_error_ns: int = 0,
        start_signal: signal.Signals | None = None,
        *,
        measure_peak: bool = False,
        parquet: bool = False,
    ) -> None:
        """Nothing is recorded before `start`.

        Args:
            folder: where the run goes; one file system for all ranks, or each its own.
            job: what is known of the job; without it the analysis infers what it can.
            window: which steps are profiled.
            ranks: which ranks write a trace; by default all of a small job, else one pipeline and one expert group.
            cpu_group: a gloo group of all ranks; by default one is made where the default group is not gloo.
            clock_error_ns: added to every time this rank writes: a planted fault.
            start_signal: asks for a further window when any one rank gets it.
            parquet: each trace becomes a capture in `folder/captures` while the loop goes on, and is removed then.
            measure_peak: rank 0 measures the device's matrix-multiply rate before the loop (a second or two).

        Raises:
            UsageError: several processes were launched and no process group is there yet.
        """
        check_ranks(os.environ)
        self.folder = Path(folder)
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.num_ranks = dist.get_world_size() if dist.is_initialized() else 1
        self.window = window or Window()
        job = job or unknown_job()
        traced = tuple(sorted(ranks)) if ranks is not None else default_ranks(job.layout, self.num_ranks)
        self.job = dataclasses.replace(
            job,
            hardware=job.hardware or Hardware(device=device_name(), num_devices=self.num_ranks),
            versions=job.versions or versions(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            traced_ranks=traced,
        )
        self._start_signal = start_signal
        self._measure_peak = measure_peak
        self._captures = InBackground(self.folder, wanted=parquet)
        self._device = DeviceState()
        self._cpu_group = cpu_group
        self._clock_error_ns = clock_error_ns
        self._step = 0
        self._records: list[StepRecord] = []
        self._routing: list[RoutingRecord] = []
        self._capture: Capture | None = None
        self._lock: FolderLock | None = None
        self._num_captures = 0
        self._flight_note = "not recorded: the job has one rank" if self.num_ranks == 1 else "not recorded yet"
        self._rank_record = RankRecord(
            rank=self.rank,
            host=socket.gethostname(),
            pid=os.getpid(),
            cores=host_load.cores(),
            boot=host_load.boot(),
        )

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
        """Measure peak and clocks, begin `run.json`, begin the first step. Collective.

        What an earlier run of this rank left in the folder is removed.

        Raises:
            UsageError: this process records already, another profiler is active, or another run records into the folder.
            OutputError: the folder cannot be written.
        """
        check_process(self.folder)
        self._lock = FolderLock(self.folder, self.rank)
        if self._measure_peak and self.rank == 0:
            self._note_peak()
        if self.num_ranks > 1:
            if self._cpu_group is None and dist.get_backend() != "gloo":
                self._cpu_group = cpu_group_of_all()
            self._rank_record = dataclasses.replace(self._rank_record, clock_start=self._measure_offset())
        for name in (STEPS_FILE, ROUTING_FILE, FLIGHT_FILE, TRACE_FILE.replace(".json", "*.json")):
            for left in self.folder.glob(name.format(rank=self.rank)):
                left.unlink(missing_ok=True)
        self._captures.clear(self.rank)
        self._requests = Requests(self.folder, self.rank, self._start_signal)
        self._write_run("started", self.window.steps(self.window.wait))
        self._begin_step()

    def step(self, loss: float | None = None) -> StepRecord:
        """End a step and begin the next. `loss`: only on a rank that has it.

        Raises:
            UsageError: the recorder was not started.
        """
        if self._lock is None:
            raise UsageError(
                "step() was called on a recorder that is not running", "use it inside `with`, or call start()"
            )
        end_ns = self._now_ns()
        profiled = self._capture is not None and self._step in self._capture.steps
        record = StepRecord(
            step=self._step,
            rank=self.rank,
            start_ns=self._start_ns,
            end_ns=end_ns,
            profiled=profiled,
            loss=loss,
            cpu_pressure_us=_growth(self._pressure, host_load.cpu_pressure_us()),
            involuntary_switches=host_load.involuntary_switches() - self._switches,
            **self._memory,
            **cuda_peaks(),
            **(self._device.read() if profiled else {}),
        )
        self._records.append(record)
        self._append(STEPS_FILE, [record])
        if self._routing:
            self._append(ROUTING_FILE, self._routing)
            self._routing = []
        if self._capture is not None:
            self._capture.step()
            if self._capture.is_over:
                self._captures.begin(self._capture.path)
                self._capture = None
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
        **more: Unpack[RoutingMore],
    ) -> None:
        """Note where this rank's tokens went in one layer of the current step; written when the step ends.

        The arguments are the fields of `traceanalyzer.job.RoutingRecord`.
        """
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
                **more,
            )
        )

    def note_memory(self, peak_in_flight: int, peak_saved_bytes: int | None) -> None:
        """What the loop metered itself in the current step."""
        self._memory = {"peak_in_flight": peak_in_flight, "peak_saved_bytes": peak_saved_bytes}

    def close(self) -> None:
        """Finish the trace and complete `run.json`. Collective."""
        self._end()
        if self.num_ranks > 1:
            self._rank_record = dataclasses.replace(self._rank_record, clock_end=self._measure_offset())
        profiled = tuple(r.step for r in self._records if r.profiled)
        if self._num_captures == 0 and self.rank == 0 and 0 in (self.job.traced_ranks or (0,)):
            first = self.window.steps(self.window.wait)[0]
            warnings.warn(f"the loop ended before step {first}, the first to be recorded: no trace", stacklevel=2)
        self._write_run("completed", profiled)
        self._release()

    def abandon(self) -> None:
        """Keep what this rank has recorded; other ranks may be gone."""
        try:
            self._end()
        finally:
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _append(self, name: str, records: Sequence[StepRecord | RoutingRecord]) -> None:
        """Add lines to a side file of this rank, after the step they tell of."""
        path = self.folder / name.format(rank=self.rank)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.writelines(msgspec.json.encode(record) + b"\n" for record in records)

    def _begin_step(self) -> None:
        asked = self._requests.begins(self._step)
        if self._capture is None and (asked or self._step == self.window.wait):
            self._begin_capture()
        self._memory: dict[str, int | None] = {}
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._pressure = host_load.cpu_pressure_us()
        self._switches = host_load.involuntary_switches()
        self._start_ns = self._now_ns()

    def _begin_capture(self) -> None:
        if self.job.traced_ranks is not None and self.rank not in self.job.traced_ranks:
            return
        path = self.folder / TRACE_FILE.format(rank=self.rank)
        if self._num_captures:
            path = path.with_name(path.name.replace(".json", f".{self._num_captures}.json"))
        self._num_captures += 1
        self._capture = Capture(self.window, self._step, path, self.rank, self._clock_error_ns)

    def _end(self) -> None:
        """Write what this rank still has; the trace last, as it alone can fail."""
        self._requests.close()
        if self.num_ranks > 1:
            self._flight_note = dump_flight(self.folder, self.rank, dist.get_backend())
        if self._capture is not None:
            capture, self._capture = self._capture, None
            capture.stop()
            self._captures.begin(capture.path)
        self._captures.finish()

    def _note_peak(self) -> None:
        hardware = self.job.hardware or Hardware(device=device_name(), num_devices=self.num_ranks)
        peaks = device_peaks()
        hardware = dataclasses.replace(hardware, measured_peak=peaks[0], measured_peaks=peaks)
        self.job = dataclasses.replace(self.job, hardware=hardware)

    def _extras(self) -> dict[str, str]:
        """What this rank could record beside traces and steps."""
        backend = dist.get_backend() if dist.is_initialized() else "none"
        return {
            **self.job.extras,
            "clocks_and_power": self._device.why_not or "recorded",
            "cuda_sync_events": sync_events()[1],
            "flight_recorder": self._flight_note,
            "nccl_inspector": inspector_note(os.environ, backend),
        }

    def _now_ns(self) -> int:
        return time.time_ns() + self._clock_error_ns

    def _measure_offset(self) -> ClockOffset:
        return measure_offset(self._cpu_group, self._now_ns)

    def _write_run(self, status: str, profiled_steps: tuple[int, ...]) -> None:
        """Gather what every rank knows of itself; rank 0 writes. Collective."""
        last = self._records[-1].step if self._records else None
        mine = (
            dataclasses.replace(self._rank_record, last_step=last),
            unprofiled_step_ms(self._records, self.window),
            profiled_steps,
        )
        gathered = [mine]
        if self.num_ranks > 1:
            gathered = [mine] * self.num_ranks
            dist.all_gather_object(gathered, mine, group=self._cpu_group)
        if self.rank != 0:
            return
        write_run(self.folder, joined_run(self.job, gathered, self._extras(), status))


def _growth(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before
