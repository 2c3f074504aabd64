"""Clock and power of the GPU a process computes on, where they can be read."""

from __future__ import annotations

import torch


class DeviceState:
    """Reads through NVML by torch's own functions, which know which of the visible devices is meant."""

    def __init__(self) -> None:
        self.why_not: str | None = None
        """Why nothing can be read; None: it can."""
        self.read()

    def read(self) -> dict[str, int]:
        """`device_clock_mhz` and `device_power_mw` now; nothing where they cannot be read."""
        if self.why_not is None:
            try:
                return _read()
            except (AttributeError, ImportError, OSError, RuntimeError) as error:  # too old, no NVML, no permission
                self.why_not = f"not recorded: {error}".splitlines()[0]
        return {}


def _read() -> dict[str, int]:
    if not torch.cuda.is_available():
        raise RuntimeError("no CUDA device")
    return {"device_clock_mhz": int(torch.cuda.clock_rate()), "device_power_mw": int(torch.cuda.power_draw())}
