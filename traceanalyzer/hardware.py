"""What a device can do at most, as data with its source.

`data/devices.csv` holds the published peaks, always dense and per device as torch sees it. A look-up either finds the
one row that names the device or refuses and says what to declare: there is no default device.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Annotated

from msgspec import Meta

from traceanalyzer.errors import UsageError
from traceanalyzer.spelling import did_you_mean

DTYPES = ("fp32", "tf32", "fp16", "bf16", "fp8", "fp4")
"""Number formats with a peak of their own. `float32` without more is `fp32`: torch multiplies in TF32 only if reported."""

_DTYPE_NAMES = {
    "float32": "fp32",
    "float": "fp32",
    "tensorfloat32": "tf32",
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
    "float8": "fp8",
    "nvfp4": "fp4",
    "mxfp4": "fp4",
    "mxfp8": "fp8",
}
_TOLERANCE = 1.05
"""Declared peaks differ from published ones by rounding and by the clock that is assumed, not by more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPeak:
    """The best matrix-multiply rate seen on this very device: an achievable peak, not a datasheet's."""

    flops_per_second: Annotated[float, Meta(gt=0)]
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
    num_devices: Annotated[int, Meta(ge=1)] = 1
    measured_peak: MeasuredPeak | None = None
    """The fastest of `measured_peaks`."""
    measured_peaks: tuple[MeasuredPeak, ...] = ()
    """One per shape tried, fastest first."""
    network_bytes_per_second: Annotated[float, Meta(gt=0)] | None = None
    """What one rank reaches ranks of other hosts with, one direction: not a property of the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpec:
    """Published peak rates of one device type."""

    name: str
    flops_per_second: Mapping[str, float] = field(repr=False)
    """Dense peak by number format; formats that are missing are not known."""
    num_units: int | None
    """Streaming multiprocessors or compute units."""
    memory_bytes: int
    memory_bytes_per_second: float
    link_bytes_per_second: float | None
    """All scale-up links of the device together, one direction; None without such links or where not known."""
    confidence: str
    """Of the dense 16-bit peak: `seen`, `derived` or `recalled`."""
    source: str
    note: str

    def peak(self, dtype: str) -> float:
        """Dense FLOP/s in a number format, by any of its names. Raises `UsageError` if it is not known."""
        short = parse_dtype(dtype)
        if short in self.flops_per_second:
            return self.flops_per_second[short]
        known = ", ".join(self.flops_per_second)
        note = f" ({self.note})" if self.note else ""
        raise UsageError(
            f"no {short} peak is known for {self.name}; known: {known}{note}",
            "declare the dense peak in TFLOP/s if the device computes in this format",
        )


def parse_dtype(text: str) -> str:
    """The short name (`bf16`) of a number format under any name (`torch.bfloat16`). Raises `UsageError`."""
    key = text.lower().removeprefix("torch.")
    key = re.sub(r"_?e\d+m\d+(fn|fnuz)?$", "", key)
    short = _DTYPE_NAMES.get(key, key)
    if short not in DTYPES:
        raise UsageError(f"no peak is kept for the number format '{text}'", f"known formats: {', '.join(DTYPES)}")
    return short


@cache
def devices() -> tuple[tuple[re.Pattern[str], DeviceSpec], ...]:
    """Every known device with the pattern of its driver names."""
    text = resources.files("traceanalyzer").joinpath("data/devices.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple((re.compile(row["pattern"], re.IGNORECASE), _spec(row)) for row in rows)


def find_device(driver_name: str, num_units: int | None = None) -> DeviceSpec:
    """The device whose driver gives this name (`deviceProperties[].name` of a trace, or our short name).

    `num_units` (`numSms` of the trace) guards against slices of a device and relabelled ones. Raises `UsageError`.
    """
    name = driver_name.strip()
    slice_of = _SLICE.fullmatch(name)
    if slice_of is not None:
        return _slice(find_device(slice_of[1]), slice_of[2], int(slice_of[3]), num_units)
    found = [spec for pattern, spec in devices() if pattern.fullmatch(name) or spec.name.lower() == name.lower()]
    if not found:
        raise UsageError(
            f"the peak of device '{driver_name}' is not known{_cpu_remark(name)}",
            f"{known_device(name)}declare its dense peak in TFLOP/s, or let the run measure one",
        )
    spec = found[0]
    if num_units is not None and spec.num_units is not None and num_units != spec.num_units:
        raise UsageError(
            f"'{driver_name}' reports {num_units} compute units, but {spec.name} has {spec.num_units}",
            "it is a slice of a device or another variant: declare its dense peak in TFLOP/s",
        )
    return spec


_MAKERS = re.compile(r"\b(?:nvidia|amd|instinct|geforce|tesla|tpu)\b", re.IGNORECASE)
_SLICE = re.compile(r"(.+?) MIG (\d+g\.(\d+)gb\S*)", re.IGNORECASE)


def _slice(whole: DeviceSpec, profile: str, memory_gb: int, num_units: int | None) -> DeviceSpec:
    """A slice computes on its share of the units and reads from its share of the memory. Raises `UsageError`."""
    name = f"{whole.name} MIG {profile}"
    if num_units is None or whole.num_units is None or num_units > whole.num_units:
        raise UsageError(
            f"how many of the units of {whole.name} the slice {profile} has is not recorded",
            "declare its dense peak in TFLOP/s",
        )
    share = num_units / whole.num_units
    return replace(
        whole,
        name=name,
        flops_per_second={dtype: rate * share for dtype, rate in whole.flops_per_second.items()},
        num_units=num_units,
        memory_bytes=memory_gb * 10**9,
        memory_bytes_per_second=whole.memory_bytes_per_second * min(memory_gb * 1e9 / whole.memory_bytes, 1.0),
        link_bytes_per_second=None,
        confidence="derived",
        note=f"{num_units} of {whole.num_units} units",
    )


def check_any_peak(flops_per_second: float) -> float:
    """A declared peak, if any device has one as high. Raises `UsageError`, above all where a unit was mistaken."""
    fastest = max((rate, spec.name) for _, spec in devices() for rate in spec.flops_per_second.values())
    if flops_per_second <= _TOLERANCE * fastest[0]:
        return flops_per_second
    raise UsageError(
        f"a peak of {flops_per_second / 1e12:.4g} TFLOP/s is above any device's: {fastest[1]} has {fastest[0] / 1e12:.4g}",
        "give the dense peak of one device in TFLOP/s, 10¹² FLOP/s (--peak-tflops 989 for an H100 in bf16)",
    )


def check_declared_peak(spec: DeviceSpec, dtype: str, flops_per_second: float) -> float:
    """A declared peak, if it can be one of this device. Raises `UsageError`, above all for figures with sparsity."""
    if flops_per_second <= 0:
        raise UsageError(
            f"a peak of {flops_per_second / 1e12:g} TFLOP/s is not a peak", "declare the dense peak in TFLOP/s"
        )
    dense = spec.peak(dtype)
    ratio = flops_per_second / dense
    if ratio <= _TOLERANCE:
        return flops_per_second
    declared = f"{flops_per_second / 1e12:.4g} TFLOP/s are declared as {parse_dtype(dtype)} peak of {spec.name}"
    if 2 / _TOLERANCE <= ratio <= 2 * _TOLERANCE:
        raise UsageError(
            f"{declared}: that is the figure with 2:4 sparsity, dense is {dense / 1e12:.4g}",
            "declare the dense peak: training multiplies dense matrices",
        )
    raise UsageError(
        f"{declared}, {ratio:.2f} times its dense peak of {dense / 1e12:.4g}",
        "check the number format, and whether the figure is for one device",
    )


def known_device(name: str) -> str:
    """`did you mean …? ` with known devices whose name is near; empty if none is. The maker's name does not count."""
    return did_you_mean(_MAKERS.sub("", name), [spec.name for _, spec in devices()])


def _cpu_remark(name: str) -> str:
    return ": a CPU's peak depends on threads and clock and is always measured" if name.lower() == "cpu" else ""


def _spec(row: dict[str, str]) -> DeviceSpec:
    link = row["link_gb_per_s"]
    return DeviceSpec(
        name=row["name"],
        flops_per_second={dtype: float(row[dtype]) * 1e12 for dtype in DTYPES if row[dtype]},
        num_units=int(row["units"]) if row["units"] else None,
        memory_bytes=int(row["memory_gb"]) * 10**9,
        memory_bytes_per_second=float(row["memory_gb_per_s"]) * 1e9,
        link_bytes_per_second=float(link) * 1e9 if link else None,
        confidence=row["confidence"],
        source=row["source"],
        note=row["note"],
    )
