"""A rank's trace as Parquet before the job ends: thousands of ranks leave what is read at once, not terabytes of JSON.

Another process reads the trace into a capture of its own (`FOLDER/captures/NAME`) with the lowest priority and one thread,
and then removes it. The training loop goes on meanwhile.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import IO

from traceanalyzer.job import CAPTURES, TRACE_FILE

MOST_SECONDS = 600
"""How long the end of a job waits for a capture; what is not ready then stays a trace."""
_CODE = "import sys; from traceanalyzer.traces.capture.many.in_job import keep; sys.exit(keep(*sys.argv[1:]))"
_THREADS = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")


class InBackground:
    """The captures that this rank's traces become."""

    def __init__(self, folder: Path, *, wanted: bool) -> None:
        """`folder` is the run's; traces stay as they are unless captures are `wanted`."""
        self._folder = folder
        self._wanted = wanted
        self._running: list[tuple[Path, subprocess.Popen[bytes], IO[bytes]]] = []

    def clear(self, rank: int) -> None:
        """Remove what an earlier run of this rank left."""
        for left in (self._folder / CAPTURES).glob(f"{Path(TRACE_FILE.format(rank=rank)).name.split('.')[0]}*"):
            shutil.rmtree(left, ignore_errors=True)

    def begin(self, trace: Path) -> None:
        """Start to read a finished trace; where there is none, do nothing."""
        if not self._wanted or not trace.exists():
            return
        capture = self._folder / CAPTURES / trace.name.split(".json")[0]
        output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `finish`
        environment = {**os.environ, **dict.fromkeys(_THREADS, "1")}
        command = [sys.executable, "-c", _CODE, str(trace), str(capture)]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )
        self._running.append((trace, process, output))

    def finish(self) -> None:
        """Wait for what was begun, and warn of traces that stay as they are."""
        for trace, process, output in self._running:
            try:
                failed = process.wait(MOST_SECONDS) != 0
            except subprocess.TimeoutExpired:
                failed = True
            if failed:
                output.seek(0)
                reason = output.read(2000).decode(errors="replace").strip().splitlines()[-1:] or ["not ready in time"]
                warnings.warn(f"{trace} was not made a capture and stays: {reason[0]}", stacklevel=2)
            output.close()
        self._running.clear()
