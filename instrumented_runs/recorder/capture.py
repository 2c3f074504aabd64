"""One profiled window of a training loop on one rank."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from instrumented_runs.recorder.trace_export import publish_trace
from traceanalyzer.errors import UsageError
from traceanalyzer.job import StepRecord


@dataclass(frozen=True, slots=True)
class Window:
    """Which steps are recorded: after `wait` steps the profiler runs `warmup` steps unrecorded, then `active` more."""

    wait: int = 1
    warmup: int = 1
    active: int = 5

    def __post_init__(self) -> None:
        """Raise `UsageError` for a window that records nothing."""
        if min(self.wait, self.warmup) < 0 or self.active < 1:
            raise UsageError(f"a window with {self}: nothing would be recorded", "record at least one step (active=1)")

    def steps(self, begin: int) -> tuple[int, ...]:
        """The recorded steps when warm-up begins in step `begin`."""
        return tuple(range(begin + self.warmup, begin + self.warmup + self.active))


def shortfall(window: Window, records: Sequence[StepRecord], captured: tuple[int, ...] | None) -> str | None:
    """What a loop that has ended after the steps of `records` left of its window, in words; None if all was recorded.

    `captured`: the steps of the window that is still open.
    """
    first, profiled = window.steps(window.wait)[0], sum(record.profiled for record in records)
    if len(records) <= first and not profiled:
        return f"the loop ended before step {first}, the first to be recorded: there is no trace"
    if captured is None:
        return None
    num = sum(record.step in captured for record in records)
    return f"the loop ended within the window: {num} of its {len(captured)} steps are recorded"


class Capture:
    """Profiles from its making on; no profiler exists before or after."""

    def __init__(
        self,
        window: Window,
        begin: int,
        path: Path,
        rank: int,
        clock_error_ns: int = 0,
        note: tuple[str, str] | None = None,
    ) -> None:
        """`begin` is the number of the step that starts now; the trace goes to `path`, with `note`: a key and its JSON."""
        self.steps = window.steps(begin)
        self.path = path
        self._at = begin
        self._end = begin + window.warmup + window.active
        plan = schedule(wait=0, warmup=window.warmup, active=window.active, repeat=1)
        self._profiler: profile | None = profile(
            activities=_activities(),
            schedule=lambda step: plan(max(0, step - begin)),
            record_shapes=True,
            on_trace_ready=lambda profiler: _ignore(publish_trace(profiler, path, rank, clock_error_ns)),
            experimental_config=sync_events()[0],
        )
        self._profiler.step_num = begin  # the profiler names steps by it
        preset = getattr(self._profiler, "preset_metadata_json", None)
        if note is not None and preset is not None:
            preset(*note)
        self._collects_garbage = gc.isenabled()
        gc.collect()
        gc.freeze()
        gc.disable()
        self._profiler.start()

    @property
    def is_over(self) -> bool:
        """Everything asked for is recorded and written."""
        return self._profiler is None

    def step(self) -> None:
        """A step ended. The end of the last one writes the trace."""
        if self._profiler is None:
            return
        self._at += 1
        if self._at == self._end:
            self.stop()
            return
        with termination_postponed():
            self._profiler.step()

    def stop(self) -> None:
        """Write what there is. Raises `OutputError` if that cannot be done."""
        if self._profiler is None:
            return
        profiler, self._profiler = self._profiler, None
        with termination_postponed():
            profiler.stop()
        gc.unfreeze()
        if self._collects_garbage:
            gc.enable()


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


def _activities() -> list[ProfilerActivity]:
    return [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])


def sync_events() -> tuple[Any, str]:
    """Settings that put stream waits and event records into the trace, or None; and whether they do, in words."""
    if not torch.cuda.is_available():
        return None, "not recorded: no CUDA device"
    config = getattr(torch.profiler, "_ExperimentalConfig", None)
    try:
        if config is not None:
            return config(enable_cuda_sync_events=True), "recorded"
    except TypeError:  # it has other settings only
        pass
    return None, f"not recorded: torch {torch.__version__} cannot"


def _ignore(_: object) -> None:
    """The profiler wants a callback without a result."""
