"""What the host is and did to this process: boot id, CPU pressure, involuntary context switches, cores it may use."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

_PRESSURE = Path("/proc/pressure/cpu")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_TOTAL = re.compile(r"^some .*total=(\d+)", re.MULTILINE)


def cpu_pressure_us() -> int | None:
    """Microseconds since boot in which some task waited for a CPU; None if the kernel does not say."""
    try:
        match = _TOTAL.search(_PRESSURE.read_text())
    except OSError:
        return None
    return int(match[1]) if match else None


def involuntary_switches() -> int:
    """How often this process was taken off a CPU against its will so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def boot() -> str:
    """Identifies the running kernel, containers included; empty if it does not say."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def cores() -> tuple[int, ...]:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))
