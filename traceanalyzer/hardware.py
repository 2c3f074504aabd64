"""What a device can do at most, as data with its source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPeak:
    """The best matrix-multiply rate seen on this very device: an achievable peak, not a datasheet's."""

    flops_per_second: float
    shape: tuple[int, int, int]
    """m, k, n of the matrix multiply."""
    dtype: str
    num_threads: int
    samples: tuple[float, ...] = ()
    """FLOP/s of every repetition; the peak is their maximum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The device type a job ran on."""

    device: str
    """`cpu`, or the name the CUDA or ROCm driver gives."""
    num_devices: int = 1
    measured_peak: MeasuredPeak | None = None
