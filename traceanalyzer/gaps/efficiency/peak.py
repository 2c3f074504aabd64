"""The peak a run is set against: a datasheet's by the device that the traces name, a measured or a declared one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from traceanalyzer.errors import DomainError, UsageError
from traceanalyzer.gaps.efficiency.operators import MIN_COVERED_SHARE
from traceanalyzer.hardware import DeviceSpec, Hardware, MeasuredPeak, check_declared_peak, find_device, parse_dtype
from traceanalyzer.measurements.efficiency.devices import device_spec
from traceanalyzer.review.words import flops_rate, percent
from traceanalyzer.theory.model.mfu import mixed_peak

_MIN_FORMAT_SHARE = 0.01
_NARROW = ("fp8", "fp4")
_NARROW_KERNEL = r"(?i)e4m3|e5m2|fp8|float8|nvfp4|mxfp4|nvjet(_sm\d+)?_qq"
_TF32_KERNEL = r"(?i)tf32|s1688gemm"
"""Tensor-core kernels for fp32 data: cuBLAS names them by type, CUTLASS by the instruction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Rates in FLOP/s of one device."""

    flops_per_second: float
    basis: str
    achievable: MeasuredPeak | None = None
    """The measured matrix multiply, where the peak is not that one itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofs:
    """What bounds a single operator on a device; empty if the device is not known."""

    flops_per_second: Mapping[str, float] = field(default_factory=dict[str, float])
    """Peak of each number format."""
    memory_bytes_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the traces say of how matrices were multiplied."""

    ranks: pl.DataFrame
    """`RANKS`."""
    kernels: pl.DataFrame
    """`KERNELS`."""
    formats: pl.DataFrame
    """From `measurements.roofline.number_formats`."""
    covered_share: float | None
    """Of the rank whose matrix multiplications have the fewest shapes; None without device kernels."""


def device_peak(recorded: Recorded, hardware: Hardware | None, dtype: str | None, declared: float | None) -> Peak | str:
    """The peak, or why there is none and what to give."""
    try:
        return _peak(recorded, hardware, dtype, declared)
    except (UsageError, DomainError) as error:
        return f"{error.message}: {error.hint} (--peak-tflops)"


def device_roofs(recorded: Recorded, hardware: Hardware | None, declared: float | None, dtype: str | None) -> Roofs:
    """Roofs by number format: the datasheet's, else those of measured matrix multiplies or the declared peak."""
    try:
        spec = _spec(recorded, hardware)
    except UsageError:
        spec = None
    if spec is not None:
        rates = dict(spec.flops_per_second)
        if "tf32" in rates and _names_match(recorded.kernels, _TF32_KERNEL):
            rates["fp32"] = rates["tf32"]  # TF32 multiplies data that is recorded as fp32
        return Roofs(flops_per_second=rates, memory_bytes_per_second=spec.memory_bytes_per_second)
    if declared is not None and dtype is not None:
        try:
            return Roofs(flops_per_second={parse_dtype(dtype): declared})
        except UsageError:  # a recorded loop may not know its number format
            return Roofs()
    measured = hardware.measured_peak if hardware else None
    return Roofs(flops_per_second={parse_dtype(measured.dtype): measured.flops_per_second}) if measured else Roofs()


def _peak(recorded: Recorded, hardware: Hardware | None, dtype: str | None, declared: float | None) -> Peak | str:
    spec = None if declared is not None and _is_unknown(recorded, hardware) else _spec(recorded, hardware)
    measured = hardware.measured_peak if hardware else None
    if declared is not None:
        if spec is not None and dtype is not None:
            check_declared_peak(spec, dtype, declared)
        return Peak(flops_per_second=declared, basis=f"declared{f' for {spec.name}' if spec else ''}")
    if spec is not None:
        return _datasheet(spec, recorded, dtype, measured)
    if measured is None:
        return "no peak is known: the traces name no device and this run measured no matrix multiply on it: give the dense peak of one device in TFLOP/s (--peak-tflops)"
    if dtype is not None and parse_dtype(dtype) != parse_dtype(measured.dtype):
        return f"the job computes in {dtype}, the matrix multiply was measured in {measured.dtype}"
    return Peak(flops_per_second=measured.flops_per_second, basis=_measured_basis(measured))


def _is_unknown(recorded: Recorded, hardware: Hardware | None) -> bool:
    try:
        return _spec(recorded, hardware) is None
    except UsageError:
        return True


def _spec(recorded: Recorded, hardware: Hardware | None) -> DeviceSpec | None:
    """The type of all ranks' devices; None on a CPU. Raises `UsageError` if it is not one known type."""
    if not recorded.kernels.is_empty():
        found = [device_spec(text) for text in recorded.ranks["devices"].unique().sort()]
        specs = {spec.name: spec for spec in found if spec is not None}
        if len(specs) > 1:
            raise UsageError(
                f"the ranks have devices of several types: {', '.join(specs)}",
                "declare the dense peak of one device in TFLOP/s",
            )
        if specs:
            return specs.popitem()[1]
    if hardware is None or hardware.device == "cpu":
        return None
    return find_device(hardware.device)


def _datasheet(spec: DeviceSpec, recorded: Recorded, dtype: str | None, measured: MeasuredPeak | None) -> Peak | str:
    base = _base_format(spec, recorded, dtype)
    if base is None:
        return "the number format is not known: the traces hold no tensor shapes (give --dtype)"
    top = spec.peak(base)
    shares = {
        str(name): float(share)
        for name, share in recorded.formats.select("number_format", "flops_share").iter_rows()
        if name in _NARROW and spec.flops_per_second.get(str(name), 0.0) != top
    }
    unread = _names_match(recorded.kernels, _NARROW_KERNEL)
    if base not in _NARROW and (shares or unread) and (not shares or (recorded.covered_share or 0) < MIN_COVERED_SHARE):
        covered = f"only {percent(recorded.covered_share)}" if recorded.covered_share is not None else "none"
        return (
            f"some matrices are multiplied in fp8 or fp4, and {covered} of the matrix time has recorded shapes: "
            "the peak of the mix is unknown (give --peak-tflops)"
        )
    mix = {base: 1.0 - sum(shares.values())} | shares
    rate = mixed_peak(mix, spec.flops_per_second)
    text = base if len(mix) == 1 else ", ".join(f"{percent(share, 0)} {name}" for name, share in mix.items())
    achievable = measured if len(mix) == 1 and measured and _format_of(measured, base) == base else None
    if achievable is not None and achievable.flops_per_second > 1.05 * rate:
        return (
            f"a matrix multiply was measured at {flops_rate(achievable.flops_per_second)}, above the {base} peak of "
            f"{spec.name} ({flops_rate(rate)}): the device or the number format is not the one assumed (give --peak-tflops)"
        )
    return Peak(
        flops_per_second=rate,
        basis=f"{spec.name} datasheet, dense {text}",
        achievable=achievable if achievable and achievable.flops_per_second < rate else None,
    )


def _base_format(spec: DeviceSpec, recorded: Recorded, dtype: str | None) -> str | None:
    """The declared number format, else the fastest one recorded that is neither fp8 nor fp4 (if there is one)."""
    if dtype is not None:
        named = parse_dtype(dtype)
    else:
        common = recorded.formats.filter(
            pl.col("number_format").is_not_null() & (pl.col("flops_share") >= _MIN_FORMAT_SHARE)
        )["number_format"].to_list()
        wide = [name for name in common if name not in _NARROW] or common
        if not wide:
            return None
        named = max(wide, key=lambda name: spec.flops_per_second.get(name, 0.0))
    if named == "fp32" and "tf32" in spec.flops_per_second and _names_match(recorded.kernels, _TF32_KERNEL):
        return "tf32"
    return named


def _format_of(measured: MeasuredPeak, base: str) -> str:
    """A multiply measured as fp32 ran as the job's own did: with TF32 or without."""
    own = parse_dtype(measured.dtype)
    return base if own == "fp32" and base == "tf32" else own


def _names_match(kernels: pl.DataFrame, pattern: str) -> bool:
    names = kernels.filter(pl.col("kind").is_in(["gemm", "attention", "fused"]))["name"].unique().cast(pl.String)
    return bool(names.str.contains(pattern).any())


def _measured_basis(peak: MeasuredPeak) -> str:
    m, k, n = peak.shape
    threads = f"{peak.num_threads} thread{'s' if peak.num_threads > 1 else ''}"
    return f"measured GEMM {m}×{k}×{n} {peak.dtype}, {threads}, best of {len(peak.samples) or 1}"
