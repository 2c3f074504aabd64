"""The best matrix-multiply rate of the device a job runs on, measured with the shapes that matter to it."""

from __future__ import annotations

import time
from collections.abc import Iterable

import torch

from traceanalyzer.hardware import MeasuredPeak

MIN_SAMPLE_S = 0.02
"""A sample repeats the multiply until it takes about this long, so that the clock's and the launch's cost vanish."""


def measure_peaks(
    shapes: Iterable[tuple[int, int, int]], dtype: torch.dtype, device: torch.device, num_samples: int = 12
) -> tuple[MeasuredPeak, ...]:
    """One peak per shape (m, k, n), fastest first; every sample is kept."""
    peaks = [_measure(shape, dtype, device, num_samples) for shape in shapes]
    return tuple(sorted(peaks, key=lambda peak: -peak.flops_per_second))


def device_peaks() -> tuple[MeasuredPeak, ...]:
    """The rate of a large square multiply on the device of this process, in the number format that trains there."""
    if torch.cuda.is_available():
        return measure_peaks([(8192, 8192, 8192)], torch.bfloat16, torch.device("cuda", torch.cuda.current_device()))
    return measure_peaks([(1024, 1024, 1024)], torch.float32, torch.device("cpu"))


def _measure(shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device, num_samples: int) -> MeasuredPeak:
    m, k, n = shape
    left, right = torch.randn(m, k, device=device).to(dtype), torch.randn(k, n, device=device).to(dtype)
    out = torch.empty(m, n, dtype=dtype, device=device)
    once_s = min(_seconds(left, right, out, 1) for _ in range(3))  # also warms up
    repeats = max(1, round(MIN_SAMPLE_S / once_s))
    flops = 2 * m * k * n * repeats
    samples = tuple(flops / _seconds(left, right, out, repeats) for _ in range(num_samples))
    return MeasuredPeak(
        flops_per_second=max(samples),
        shape=shape,
        dtype=str(dtype).removeprefix("torch."),
        num_threads=torch.get_num_threads(),
        samples=samples,
    )


def _seconds(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor, repeats: int) -> float:
    _synchronize(out.device)
    start = time.perf_counter()
    for _ in range(repeats):
        torch.mm(left, right, out=out)
    _synchronize(out.device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
