"""Makes a computation last a stated time: the real computation, then sleep to a deadline (on a GPU: a busy device).

With more ranks than cores real computations disturb one another; a sleeping rank leaves its core to the others, so
the timeline stays the one the schedule asks for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from instrumented_runs.pacing.device import DevicePacer

WAKE_UP_NS = 80_000
"""A sleeping process resumes about this much too late (measured on Linux 6, time.sleep)."""
CONTINUATION_NS = 2_000_000
"""A computation that starts this soon after the previous one continues it: the host's overhead between the two then
counts as part of the second, as on a device that is kept busy."""
SETTLE_S = 0.005
SETTLE_SHARE = 0.1
"""The real computation begins this much after the slot does (at most this share of it): ranks that hand over to one
another at the same moment first get the cores for sending and receiving."""


class Pacer:
    """Slots of stated length; `continues`: back to back where the work is back to back.

    On a GPU the device is kept busy instead of the host asleep; its slots are back to back by themselves.
    """

    def __init__(self, *, continues: bool = True) -> None:
        self._continues = continues
        self._previous_end_ns = 0
        self._on_device: DevicePacer | None = None

    def slot(self, duration_ms: float) -> AbstractContextManager[None]:
        """Whatever runs inside ends `duration_ms` after its start (later if it takes longer).

        Raises `JobError` if a GPU cannot be paced.
        """
        if not torch.cuda.is_available():
            return self._host_slot(duration_ms)
        if self._on_device is None:
            self._on_device = DevicePacer()
        return self._on_device.slot(duration_ms)

    @contextmanager
    def _host_slot(self, duration_ms: float) -> Iterator[None]:
        now = time.monotonic_ns()
        continues = self._continues and now - self._previous_end_ns < CONTINUATION_NS
        deadline = (self._previous_end_ns if continues else now) + int(duration_ms * 1e6)
        time.sleep(min(SETTLE_S, duration_ms * SETTLE_SHARE / 1e3))
        yield
        remaining = deadline - WAKE_UP_NS - time.monotonic_ns()
        if remaining > 0:
            time.sleep(remaining / 1e9)
        self._previous_end_ns = time.monotonic_ns()
