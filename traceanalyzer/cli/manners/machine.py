"""What is installed here and what this machine allows: what a bug report should hold."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

from traceanalyzer import __version__

PACKAGES = ("polars", "numpy", "numba", "bokeh", "holoviews", "torch", "perfetto", "mcp", "duckdb")
_NVIDIA = Path("/proc/driver/nvidia/params")
_CLOCK = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this machine has; nothing in it names a host, a user or a path."""

    version: str
    python: str
    system: str
    num_cores: int
    memory_bytes: int | None
    clock: str
    clock_resolution_ns: float
    compiled_decoder: bool
    devices: tuple[str, ...]
    nccl: str | None
    profiler_permission: str
    browser: str | None
    packages: dict[str, str | None]
    """Name to version; None if it is not installed."""


def machine() -> Machine:
    """Look at this machine; takes a moment if torch has to be imported."""
    return Machine(
        version=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        num_cores=_num_cores(),
        memory_bytes=_memory_bytes(),
        clock=_text(_CLOCK) or "unknown",
        clock_resolution_ns=time.get_clock_info("monotonic").resolution * 1e9,
        compiled_decoder=_compiled_decoder(),
        devices=_devices(),
        nccl=_nccl(),
        profiler_permission=_profiler_permission(),
        browser=next((name for name in _BROWSERS if shutil.which(name)), None),
        packages={name: installed(name) for name in PACKAGES},
    )


def installed(package: str) -> str | None:
    """The version of `package`; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _compiled_decoder() -> bool:
    try:
        import_module("numba")
    except Exception:  # noqa: BLE001 - whatever keeps numba from loading
        return False
    return True


def _devices() -> tuple[str, ...]:
    """Names of GPUs, as their vendor's tool lists them."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    asked = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip()) if done.returncode == 0 else ()


def _nccl() -> str | None:
    """The NCCL that torch was built with; None without one."""
    if installed("torch") is None:
        return None
    try:
        version = import_module("torch.cuda.nccl").version()
    except Exception:  # noqa: BLE001 - a build without CUDA says so in several ways
        return None
    return ".".join(map(str, version))


def _profiler_permission() -> str:
    """Whether a user may record GPU activity, by the driver's own setting."""
    lines = _text(_NVIDIA).splitlines()
    if not lines:
        return "no NVIDIA driver"
    if "RmProfilingAdminOnly: 1" in lines:
        return "administrators only (NVreg_RestrictProfilingToAdminUsers=1): kernels may be missing from traces"
    return "every user"
