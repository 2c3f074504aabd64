"""A recording that a framework begins, advances and ends by calls of its own."""

from __future__ import annotations

import atexit
import os
from typing import TypedDict

from instrumented_runs.recorder.capture import Window
from instrumented_runs.recorder.recording import Recorder
from traceanalyzer.job import Job


class RecorderOptions(TypedDict, total=False):
    """What `Recorder` takes beside folder and job."""

    window: Window | None
    ranks: tuple[int, ...] | None
    measure_peak: bool
    replace: bool


class Recording:
    """One recorder from the first step to the last. What was recorded is kept also where the last never comes."""

    def __init__(self, folder: str | os.PathLike[str], options: RecorderOptions) -> None:
        self._folder = folder
        self._options = options
        self._recorder: Recorder | None = None

    def begin(self, job: Job) -> None:
        """Start recording; the process group is there by now. Collective."""
        self._recorder = Recorder(self._folder, job, **self._options)
        self._recorder.start()
        atexit.register(self.abandon)

    def step(self) -> None:
        """An optimizer step ended."""
        if self._recorder is not None:
            self._recorder.step()

    def end(self) -> None:
        """Complete the recording. Collective."""
        recorder = self._left()
        if recorder is not None:
            recorder.close()

    def abandon(self) -> None:
        """Keep what there is, without speaking to other ranks: the loop did not come to its end."""
        recorder = self._left()
        if recorder is not None:
            recorder.abandon()

    def _left(self) -> Recorder | None:
        """The recorder, the first time this is asked."""
        recorder, self._recorder = self._recorder, None
        atexit.unregister(self.abandon)
        return recorder
