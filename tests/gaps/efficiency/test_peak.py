"""Which peak a run is set against, and when there is none."""

from __future__ import annotations

import json

import polars as pl
import pytest

from traceanalyzer.gaps.efficiency.peak import Peak, Recorded, device_peak, device_roofs
from traceanalyzer.hardware import Hardware, MeasuredPeak
from traceanalyzer.schema import KERNELS, RANKS, conform

H100 = {"name": "NVIDIA H100 80GB HBM3", "numSms": 132}


def recorded(
    formats: dict[str, float],
    *devices: dict[str, object],
    kernel: str | None = "nvjet_tst_128x256",
    covered: float | None = 1.0,
) -> Recorded:
    """One rank on a host with `devices`, with one GEMM kernel unless `kernel` is None (a CPU)."""
    rows = [{"rank": 0, "kind": "gemm", "name": kernel, "start_ns": 0, "end_ns": 1}] if kernel else []
    shares = pl.DataFrame(
        {"number_format": list(formats), "flops": [1] * len(formats), "flops_share": list(formats.values())},
        schema={"number_format": pl.String, "flops": pl.Int64, "flops_share": pl.Float64},
    )
    return Recorded(
        ranks=conform(pl.DataFrame([{"rank": 0, "devices": json.dumps(devices)}]), RANKS),
        kernels=conform(pl.DataFrame(rows, schema=None if rows else KERNELS), KERNELS),
        formats=shares,
        covered_share=covered,
    )


def measured(rate: float, dtype: str = "bfloat16", device: str = "cuda:0") -> Hardware:
    peak = MeasuredPeak(flops_per_second=rate, shape=(8192, 8192, 8192), dtype=dtype, num_threads=1)
    return Hardware(device=device, measured_peak=peak)


def test_peak_of_the_named_device_in_the_recorded_or_declared_format() -> None:
    found = device_peak(recorded({"bf16": 0.999, "fp32": 0.001}, H100, H100), None, None, None)
    assert found == Peak(flops_per_second=989.4e12, basis="H100 SXM datasheet, dense bf16")
    found = device_peak(recorded({}, H100), None, "torch.float16", None)
    assert isinstance(found, Peak)
    assert found.flops_per_second == 989.4e12


def test_fp8_beside_bf16_has_the_harmonic_mean_of_both_peaks() -> None:
    found = device_peak(recorded({"bf16": 0.75, "fp8": 0.25}, H100), None, "bf16", None)
    assert isinstance(found, Peak)
    assert found.flops_per_second == pytest.approx(1 / (0.75 / 989.4e12 + 0.25 / 1978.9e12), rel=1e-3)
    assert found.basis == "H100 SXM datasheet, dense 75% bf16, 25% fp8"


@pytest.mark.parametrize(
    ("run", "hardware", "dtype", "declared", "words"),
    [
        (recorded({"bf16": 0.7, "fp8": 0.3}, H100, covered=0.8), None, None, None, "only 80.0%"),
        (recorded({"bf16": 1.0}, H100, kernel="gemm_e4m3_e4m3"), None, None, None, "fp8"),
        (recorded({}, H100), None, None, None, "--dtype"),
        (recorded({"bf16": 1.0}, {"name": "Imaginary 9000"}), None, None, None, "--peak-tflops"),
        (recorded({"bf16": 1.0}, H100 | {"numSms": 16}), None, None, None, "slice"),
        (recorded({"bf16": 1.0}, H100, {"name": "NVIDIA A100-SXM4-80GB"}), None, None, None, "several types"),
        (recorded({"bf16": 1.0}, H100), None, "bf16", 1979e12, "sparsity"),
        (recorded({"bf16": 1.0}, H100), measured(1200e12), None, None, "above the bf16 peak"),
        (recorded({"fp32": 1.0}, kernel=None), None, "fp32", None, "no peak is known"),
        (recorded({"fp32": 1.0}, kernel=None), measured(1e11, "float32", "cpu"), "bf16", None, "computes in bf16"),
    ],
)
def test_no_peak_where_one_would_be_a_guess(
    run: Recorded, hardware: Hardware | None, dtype: str | None, declared: float | None, words: str
) -> None:
    found = device_peak(run, hardware, dtype, declared)
    assert isinstance(found, str)
    assert words in found


def test_a_measured_gemm_is_achievable_below_a_datasheet_and_the_peak_without_one() -> None:
    found = device_peak(recorded({"bf16": 1.0}, H100), measured(700e12), None, None)
    assert isinstance(found, Peak)
    assert (found.flops_per_second, found.achievable) == (989.4e12, measured(700e12).measured_peak)
    found = device_peak(recorded({"fp32": 1.0}, kernel=None), measured(1e11, "float32", "cpu"), "float32", None)
    assert isinstance(found, Peak)
    assert (found.flops_per_second, found.achievable) == (1e11, None)
    assert found.basis == "measured GEMM 8192×8192×8192 float32, 1 thread, best of 1"


def test_a_gemm_measured_in_another_format_is_not_the_achievable_one() -> None:
    found = device_peak(recorded({"bf16": 1.0}, H100), measured(50e12, "float32"), None, None)
    assert isinstance(found, Peak)
    assert found.achievable is None


def test_tensor_cores_on_fp32_data_have_the_tf32_peak() -> None:
    plain = device_peak(recorded({"fp32": 1.0}, H100, kernel="ampere_sgemm_128x64"), None, "float32", None)
    tensor = recorded({"fp32": 1.0}, H100, kernel="sm80_xmma_gemm_f32f32_tf32f32_f32")
    found = device_peak(tensor, None, "float32", None)
    assert isinstance(plain, Peak)
    assert isinstance(found, Peak)
    assert "tf32" in found.basis
    assert found.flops_per_second > 5 * plain.flops_per_second
    assert device_roofs(tensor, None, None, None).flops_per_second["fp32"] == found.flops_per_second


def test_a_declared_peak_stands_where_the_device_is_not_known() -> None:
    found = device_peak(recorded({"bf16": 1.0}, {"name": "Imaginary 9000"}), None, "bf16", 5e14)
    assert found == Peak(flops_per_second=5e14, basis="declared")
