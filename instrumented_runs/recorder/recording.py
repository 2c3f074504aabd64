"""Records a training loop: a Kineto trace per rank, the wall clock of every step, and the run's description.

Three lines in any loop, after `init_process_group` if there are several ranks:

    with Recorder("runs/mine") as recorder:
        for batch in data:
            train(batch)
            recorder.step()

A further window is recorded on demand: `echo 1200 > runs/mine/record_at` starts one in step 1200 on every rank. So does
`touch runs/mine/record_at`, or SIGUSR1 to any rank (of `start_signal=signal.SIGUSR1`), a few steps later.
"""

from __future__ import annotations

import dataclasses
import os
import signal
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

from instrumented_runs.ranges import RoutingMore
from instrumented_runs.recorder import host_load
from instrumented_runs.recorder.capture import Capture, Window, shortfall
from instrumented_runs.recorder.device_state import DeviceState
from instrumented_runs.recorder.ending.heartbeat import Heartbeat
from instrumented_runs.recorder.ending.signals import Termination, first_line, tell_end, why
from instrumented_runs.recorder.flight_dump import dump_flight
from instrumented_runs.recorder.on_demand import Requests
from instrumented_runs.recorder.parquet import InBackground
from instrumented_runs.recorder.run_file import (
    append_records,
    cuda_peaks,
    device_name,
    extras,
    growth,
    joined_run,
    own_record,
    unprofiled_step_ms,
    versions,
    with_peak,
    write_run,
)
from instrumented_runs.recorder.start.environment import surroundings
from instrumented_runs.recorder.start.guards import FolderLock, claim, other_profiler, remove_earlier
from instrumented_runs.recorder.start.opening import open_together, opened_job, problem_of
from instrumented_runs.recorder.start.ranks import Ranks
from traceanalyzer.errors import UsageError
from traceanalyzer.hardware import Hardware
from traceanalyzer.job import (
    METADATA_KEY,
    ROUTING_FILE,
    STEPS_FILE,
    TRACE_FILE,
    Job,
    RoutingRecord,
    StepRecord,
)


class Recorder:
    """Writes `folder` as `traceanalyzer.job` describes it. Every rank of the job makes one, with equal arguments."""

    def __init__(  # noqa: PLR0913 - each is one thing that a user may choose
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
        replace: bool = False,
    ) -> None:
        """Nothing is recorded before `start`.

        Args:
            folder: where the run goes; one file system for all ranks, or each its own.
            job: what is known of the job, for example `Job.of(pp=4, model="llama-3-8b")`; the rest is read from process
                groups at start, or inferred by the analysis.
            window: which steps are profiled.
            ranks: ranks that write a trace; by default all of a small job, else one pipeline and one expert group.
            cpu_group: a gloo group of all ranks; by default one is made where the default group is not gloo.
            clock_error_ns: added to every time this rank writes: a planted fault.
            start_signal: asks for a further window when any one rank gets it.
            parquet: each trace becomes a capture in `folder/captures` while the loop goes on, and is removed then.
            measure_peak: rank 0 measures the device's matrix-multiply rate before the loop (a second or two).
            replace: an earlier run in `folder` is replaced, not refused, as an earlier attempt of a restarted run always is.
        """
        self._found = surroundings(os.environ)
        self._all, self.folder = Ranks(self._found, cpu_group), Path(folder)
        self.rank, self.num_ranks = self._all.rank, self._all.num_ranks
        self.window = window or Window()
        self._ranks = ranks
        self._replace = replace or self._found.attempt > 0
        job = job or Job.of()
        self.job = dataclasses.replace(
            job,
            backend=self._all.backend if job.backend == "none" else job.backend,
            hardware=job.hardware or Hardware(device=device_name(), num_devices=self.num_ranks),
            versions=job.versions or versions(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._start_signal = start_signal
        self._measure_peak = measure_peak
        self._captures = InBackground(self.folder, wanted=parquet)
        self._device = DeviceState()
        self._clock_error_ns = clock_error_ns
        self._step = 0
        self._records: list[StepRecord] = []
        self._routing: list[RoutingRecord] = []
        self._capture: Capture | None = None
        self._lock: FolderLock | None = None
        self._requests: Requests | None = None
        self._ended = False
        self._num_captures = 0
        self._flight_note = "not recorded: the job has one rank" if self.num_ranks == 1 else "not recorded yet"
        self._rank_record = own_record(self.rank, self._found)
        self._heartbeat: Heartbeat | None = None
        self._termination: Termination | None = None

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
            self.abandon(why(error))

    def start(self) -> None:
        """Agree on the run's name and layout, measure peak and clocks, begin `run.json` and the first step. Collective.

        Without a process group, rank and number of ranks are the launcher's, and ranks do not speak to each other.

        Raises:
            UsageError, OutputError: of `start.guards`, or of a declaration that does not fit; the same on every rank.
        """
        if self._ended or self._lock is not None:
            state = "has ended" if self._ended else "is running already"
            raise UsageError(f"this recorder {state}", "make one recorder per loop, and enter it once")
        problem = problem_of(self._claim)
        self._all.prepare()
        try:
            openings = open_together(self._all, self._found, problem)
            self.job = opened_job(self.job, openings, self.num_ranks, self._found, self._ranks)
            remove_earlier(self.folder, self.rank)
            self._captures.clear(self.rank)
            self._heartbeat = Heartbeat(self.folder, self.job.job_id, self._rank_record, self.num_ranks)
            self._termination = Termination()
            if self._measure_peak and self.rank == 0:
                self.job = with_peak(self.job, self.num_ranks)
            offset = self._all.measure_offset(self._now_ns)
            self._rank_record = dataclasses.replace(self._rank_record, clock_start=offset)
            self._requests = Requests(self.folder, self.rank, self._start_signal)
            self._write_run("started", self.window.steps(self.window.wait))
            self._begin_step()
        except BaseException as error:
            self._release("stopped", why(error))
            raise

    def _claim(self) -> None:
        self._lock = claim(self.folder, self.rank, grouped=self._all.grouped, replace=self._replace)

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
            job_id=self.job.job_id,
            cpu_pressure_us=growth(self._pressure, host_load.cpu_pressure_us()),
            involuntary_switches=host_load.involuntary_switches() - self._switches,
            **self._memory,
            **cuda_peaks(),
            **(self._device.read() if profiled else {}),
        )
        self._records.append(record)
        if self._heartbeat is not None:
            self._heartbeat.at_step(self._step)
        append_records(self.folder / STEPS_FILE.format(rank=self.rank), [record])
        if self._routing:
            append_records(self.folder / ROUTING_FILE.format(rank=self.rank), self._routing)
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
                job_id=self.job.job_id,
                **more,
            )
        )

    def note_memory(self, peak_in_flight: int, peak_saved_bytes: int | None) -> None:
        """What the loop metered itself in the current step."""
        self._memory = {"peak_in_flight": peak_in_flight, "peak_saved_bytes": peak_saved_bytes}

    def close(self) -> None:
        """Finish the trace and complete `run.json`. Collective."""
        if self._lock is None:
            return
        if self.rank == min(self.job.traced_ranks or (0,)):
            missing = shortfall(self.window, self._records, None if self._capture is None else self._capture.steps)
            if missing is not None:
                warnings.warn(missing, stacklevel=2)
        try:
            self._end()
            self._rank_record = dataclasses.replace(self._rank_record, clock_end=self._all.measure_offset(self._now_ns))
            self._write_run("completed", tuple(r.step for r in self._records if r.profiled))
        except RuntimeError as error:  # torch's, of ranks that are gone: this one's loop ended as it should
            warnings.warn(f"rank {self.rank} ended, another rank did not: {first_line(error)}", stacklevel=2)
        finally:
            self._release("completed")

    def abandon(self, reason: str = "the loop did not come to its end") -> None:
        """Keep what this rank has recorded; other ranks may be gone."""
        if self._lock is None:
            return
        try:
            self._end()
        finally:
            tell_end(self.rank, self._step, reason, self.folder)
            self._release("stopped", reason)

    def _release(self, state: str = "stopped", reason: str = "") -> None:
        if self._heartbeat is not None:
            self._heartbeat.end(state, reason)
        if self._termination is not None:
            self._termination.close()
            self._ended = True
        if self._lock is not None:
            self._lock.release()
        self._heartbeat = self._termination = self._lock = None

    def _begin_step(self) -> None:
        asked = self._requests is not None and self._requests.begins(self._step)
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
        if other_profiler():
            text = f"another profiler is active in step {self._step}: nothing is recorded; turn the framework's own off"
            warnings.warn(text, stacklevel=4)
            return
        path = self.folder / TRACE_FILE.format(rank=self.rank)
        if self._num_captures:
            path = path.with_name(path.name.replace(".json", f".{self._num_captures}.json"))
        self._num_captures += 1
        facts = {"job_id": self.job.job_id, "rank": self.rank, "world_size": self.num_ranks}
        note = METADATA_KEY, msgspec.json.encode(facts).decode()
        self._capture = Capture(self.window, self._step, path, self.rank, self._clock_error_ns, note)

    def _end(self) -> None:
        """Write what this rank still has; the trace last, as it alone can fail."""
        if self._termination is not None and self._heartbeat is not None:
            self._termination.ending.set()
            self._heartbeat.loop_ended.set()
        if self._requests is not None:
            self._requests.close()
        if self.num_ranks > 1 and dist.is_initialized():
            self._flight_note = dump_flight(self.folder, self.rank, dist.get_backend(), self.job.job_id)
        if self._capture is not None:
            capture, self._capture = self._capture, None
            capture.stop()
            self._captures.begin(capture.path)
        self._captures.finish()

    def _now_ns(self) -> int:
        return time.time_ns() + self._clock_error_ns

    def _write_run(self, status: str, profiled_steps: tuple[int, ...]) -> None:
        """Gather what every rank knows of itself; rank 0 writes. Collective."""
        last = self._records[-1].step if self._records else None
        mine = (
            dataclasses.replace(self._rank_record, last_step=last),
            unprofiled_step_ms(self._records, self.window),
            profiled_steps,
        )
        gathered = self._all.gather(mine)
        if self.rank != 0:
            return
        recorded = extras(self.job, self._device.why_not, self._flight_note, self._all.backend)
        write_run(self.folder, joined_run(self.job, gathered, recorded, status))
