"""Makes a computation on a GPU last a stated time: the real kernels, then a kernel that only spins.

A sleeping host would leave the device idle, and the trace would show a bubble where a computation is meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from traceanalyzer.errors import JobError

_CALIBRATION_CYCLES = 20_000_000
"""Some 10 ms on today's clocks: long enough that launching costs nothing beside it."""


class DevicePacer:
    """Slots of stated length on the current stream of this process's GPU."""

    def __init__(self) -> None:
        if not hasattr(torch.cuda, "_sleep"):
            raise JobError(
                f"torch {torch.__version__} lacks the spinning kernel that pacing on a GPU needs",
                "compute for real: --compute real",
            )
        self._cycles_per_ms = 0.0

    @contextmanager
    def slot(self, duration_ms: float) -> Iterator[None]:
        """Kernels launched inside, and then a spinning one, end `duration_ms` after the first could begin.

        The host waits for the real kernels, as only then it is known how long to spin; it does not wait for the spin.
        """
        if not self._cycles_per_ms:
            self._cycles_per_ms = _calibrate()
        begin, end = _event(), _event()
        begin.record()  # passed when all earlier work of the stream, the previous spin included, is done
        yield
        end.record()
        end.synchronize()
        remaining_ms = duration_ms - begin.elapsed_time(end)
        if remaining_ms > 0:
            _spin(int(remaining_ms * self._cycles_per_ms))


def _calibrate() -> float:
    """Cycles of the spinning kernel per millisecond, at the clock the device runs at under it."""
    _spin(_CALIBRATION_CYCLES)  # loads the kernel and raises the clock
    begin, end = _event(), _event()
    begin.record()
    _spin(_CALIBRATION_CYCLES)
    end.record()
    end.synchronize()
    return _CALIBRATION_CYCLES / begin.elapsed_time(end)


def _spin(cycles: int) -> None:
    torch.cuda._sleep(cycles)  # noqa: SLF001 - torch's own tests keep a device busy with it


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)
