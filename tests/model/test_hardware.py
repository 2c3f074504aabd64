"""Peaks of devices: found by name or refused, and utilisation from them."""

from __future__ import annotations

import csv
from importlib import resources

import pytest

from traceanalyzer.errors import DomainError, UsageError
from traceanalyzer.hardware import DTYPES, check_any_peak, check_declared_peak, devices, find_device, parse_dtype
from traceanalyzer.model_configs import find_preset
from traceanalyzer.theory.model.flops import Recompute, flops_per_token
from traceanalyzer.theory.model.mfu import mixed_peak, utilisation_at_rate, utilisation_of_step

H100 = "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize(
    ("driver_name", "dtype", "tflops"),
    [
        (H100, "torch.bfloat16", 989.4),
        ("NVIDIA H100 PCIe", "bf16", 756),
        ("NVIDIA H100 NVL", "bf16", 835.5),
        ("NVIDIA H800", "bf16", 989.4),
        ("NVIDIA H200", "float8_e4m3fn", 1978.9),
        ("NVIDIA H20", "bf16", 148),
        ("NVIDIA B200", "bf16", 2250),
        ("NVIDIA L40S", "bf16", 362),
        ("NVIDIA A100-SXM4-80GB", "tf32", 156),
        ("A100-SXM4-40GB", "float32", 19.5),
        ("Tesla V100-SXM2-16GB", "float16", 125),
        ("Tesla V100-PCIE-32GB", "half", 112),
        ("AMD Instinct MI300X", "bf16", 1307.4),
        ("AMD Instinct MI250X", "bf16", 191.5),
        ("AMD Instinct MI250", "bf16", 181),
        ("AMD Instinct MI350X", "bf16", 2306.9),
        ("NVIDIA A800-SXM4-80GB", "bf16", 312),
        ("NVIDIA H800 PCIe", "bf16", 756),
        ("NVIDIA A10G", "bf16", 70),
        ("Tesla T4", "fp16", 65),
        ("Tesla V100S-PCIE-32GB", "fp16", 130),
        ("NVIDIA GeForce RTX 5090", "bf16", 209.5),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "bf16", 480),
        ("Gaudi3", "fp8", 1835),
        ("Ascend910B3", "bf16", 313),
        ("Ascend910_9381", "bf16", 376),
        ("TPU v7x", "fp8", 4614),
    ],
)
def test_peak_by_driver_name(driver_name: str, dtype: str, tflops: float) -> None:
    assert find_device(driver_name).peak(dtype) == pytest.approx(tflops * 1e12)


# Units, multiply-adds per unit and clock (two FLOPs each), and boost clock in GHz: the peaks follow from them.
@pytest.mark.parametrize(
    ("name", "multiply_adds", "clock_ghz"),
    [
        ("V100 SXM2 16GB", 512, 1.53),
        ("A100 SXM 80GB", 1024, 1.41),
        ("H100 SXM", 2048, 1.83),
        ("L40S", 512, 2.49),
        ("A10", 512, 1.695),
        ("RTX 4090", 256, 2.52),
        ("MI250X (one of two dies)", 512, 1.7),
        ("MI300X", 1024, 2.1),
        ("MI355X", 2048, 2.4),
        ("MI350X", 2048, 2.2),
        ("MI250 (one of two dies)", 512, 1.7),
        ("V100 SXM3 32GB", 512, 1.597),
        ("V100 FHHL 16GB", 512, 1.29),
        ("T4", 512, 1.59),
        ("A30", 1024, 1.44),
        ("RTX 5090", 256, 2.407),
        ("RTX PRO 6000 Workstation", 512, 2.617),
    ],
)
def test_peaks_follow_from_units_and_clock(name: str, multiply_adds: int, clock_ghz: float) -> None:
    spec = find_device(name)
    assert spec.num_units is not None
    derived = spec.num_units * multiply_adds * 2 * clock_ghz * 1e9
    assert spec.peak("fp16") == pytest.approx(derived, rel=0.003)


def test_every_row_of_the_table_has_every_column() -> None:
    text = resources.files("traceanalyzer").joinpath("data/devices.csv").read_text(encoding="utf-8")
    widths = {len(row) for row in csv.reader(line for line in text.splitlines() if not line.startswith("#"))}
    assert widths == {15}


def test_the_table_is_consistent() -> None:
    names = [spec.name for _, spec in devices()]
    assert len(names) == len(set(names)) > 25
    for _, spec in devices():
        rate = spec.flops_per_second
        assert rate
        assert spec.confidence in {"seen", "derived", "recalled"}
        assert spec.source
        if "bf16" in rate and "fp16" in rate:
            assert rate["bf16"] == rate["fp16"]
        if {"fp16", "tf32"} <= rate.keys():  # TF32 runs at half the 16-bit rate: a sparse figure would stand out
            assert rate["tf32"] == pytest.approx(rate["fp16"] / 2, rel=0.02)
        if {"fp16", "fp8"} <= rate.keys():
            assert rate["fp8"] == pytest.approx(2 * rate["fp16"], rel=0.02)
        if {"fp8", "fp4"} <= rate.keys():
            assert 2 <= rate["fp4"] / rate["fp8"] <= 4  # 4 on GeForce, where fp8 accumulates in fp32 at half the rate


def test_no_driver_name_fits_two_devices() -> None:
    for _, spec in devices():
        assert find_device(spec.name) is spec
    driver_names = [H100, "NVIDIA H100 PCIe", "NVIDIA H200", "NVIDIA H200 NVL", "NVIDIA GB200", "NVIDIA B200"]
    for name in driver_names:
        assert sum(pattern.fullmatch(name) is not None for pattern, _ in devices()) == 1


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA H800 NVL", "NVIDIA A10M", "NVIDIA H100", "NVIDIA RTX PRO 6000", "AMD Radeon Graphics",
        "AMD Instinct MI250X / MI250", "AMD Instinct MI300X HF", "", "NVIDIA",
    ],
)  # fmt: skip
def test_other_devices_are_refused_never_guessed(name: str) -> None:
    with pytest.raises(UsageError, match="is not known") as error:
        find_device(name)
    assert "declare" in error.value.hint


def test_a_cpu_is_always_measured() -> None:
    with pytest.raises(UsageError, match="always measured"):
        find_device("cpu")


def test_a_slice_of_a_device_is_refused() -> None:
    assert find_device(H100, 132).name == "H100 SXM"
    with pytest.raises(UsageError, match="reports 16 compute units, but H100 SXM has 132"):
        find_device(H100, 16)


def test_formats_without_a_peak_are_refused() -> None:
    with pytest.raises(UsageError, match="no fp8 peak is known for A100 SXM 80GB; known: fp32, tf32, fp16, bf16"):
        find_device("NVIDIA A100-SXM4-80GB").peak("fp8")
    with pytest.raises(UsageError, match="dense sources give 12600, 13500 and 15000"):
        find_device("NVIDIA B300").peak("fp4")
    with pytest.raises(UsageError, match="'int8'"):
        parse_dtype("int8")


def test_names_of_formats() -> None:
    assert [parse_dtype(name) for name in DTYPES] == list(DTYPES)
    assert parse_dtype("torch.float8_e5m2") == "fp8"
    assert parse_dtype("BFloat16") == "bf16"
    assert parse_dtype("torch.float32") == "fp32"


def test_declared_peaks() -> None:
    spec = find_device(H100)
    assert check_declared_peak(spec, "bf16", 989e12) == 989e12
    assert check_declared_peak(spec, "bf16", 800e12) == 800e12  # a lower clock
    with pytest.raises(UsageError, match=r"with 2:4 sparsity, dense is 989\.4"):
        check_declared_peak(spec, "bf16", 1979e12)
    with pytest.raises(UsageError, match=r"8\.00 times its dense peak"):
        check_declared_peak(spec, "bf16", 8 * 989.4e12)
    with pytest.raises(UsageError, match="is not a peak"):
        check_declared_peak(spec, "bf16", 0)


def test_declared_peaks_near_the_published_one() -> None:
    spec = find_device(H100)
    peak = spec.peak("bf16")
    assert check_declared_peak(spec, "bf16", 1.04 * peak) == 1.04 * peak
    with pytest.raises(
        UsageError, match=r"1069 TFLOP/s are declared as bf16 peak of H100 SXM, 1\.08 times its dense peak"
    ):
        check_declared_peak(spec, "bf16", 1.08 * peak)
    for factor in (1.91, 2.0, 2.09):
        with pytest.raises(UsageError, match="sparsity"):
            check_declared_peak(spec, "bf16", factor * peak)
    for factor in (1.89, 2.11):
        with pytest.raises(UsageError, match="times its dense peak"):
            check_declared_peak(spec, "bf16", factor * peak)


def test_memory_and_links() -> None:
    spec = find_device("NVIDIA H800")
    assert (spec.memory_bytes, spec.memory_bytes_per_second, spec.link_bytes_per_second) == (80 * 10**9, 3.35e12, 200e9)
    assert find_device("NVIDIA L40S").link_bytes_per_second is None
    assert find_device("NVIDIA B300").num_units is None


def test_utilisation_by_hand() -> None:
    flops = flops_per_token(find_preset("llama-3-8b").shape, 8192, recompute=Recompute.FULL)
    used = utilisation_of_step(flops, 16 * 8192, 2_000_000_000, 8, 1e15)
    assert used.tokens_per_second == 65536
    assert used.mfu == 51470401536 * 65536 / 8e15
    assert used.flops_per_second_per_device == 51470401536 * 65536 / 8
    layers = 51470401536 - 6 * 4096 * 128256
    assert used.hfu == pytest.approx((51470401536 + layers / 3) * 65536 / 8e15)


def test_more_than_everything_is_refused() -> None:
    flops = flops_per_token(find_preset("llama-3-8b").shape, 8192, recompute=Recompute.FULL)
    at_peak = 1e15 / flops.hardware
    assert utilisation_at_rate(flops, at_peak * 0.999, 1, 1e15).hfu == pytest.approx(0.999)
    with pytest.raises(DomainError, match=r"HFU would be 101.0% \(FLOPs: all matrix multiplications"):
        utilisation_at_rate(flops, at_peak * 1.01, 1, 1e15)
    with pytest.raises(DomainError, match=r"MFU would be"):
        utilisation_at_rate(flops, at_peak * 1.5, 1, 1e15)


@pytest.mark.parametrize(("rate", "devices_used", "peak"), [(0, 1, 1e15), (1, 0, 1e15), (1, 1, 0)])
def test_utilisation_of_nothing_is_refused(rate: float, devices_used: int, peak: float) -> None:
    flops = flops_per_token(find_preset("gpt2").shape, 1024)
    with pytest.raises(DomainError, match="no utilisation"):
        utilisation_at_rate(flops, rate, devices_used, peak)
    with pytest.raises(DomainError, match="has no rate"):
        utilisation_of_step(flops, 1, 0, 1, 1e15)


def test_peak_of_a_mix_by_hand() -> None:
    # 300 TFLOP at 100 TFLOP/s and 300 at 200 take 4.5 s.
    assert mixed_peak({"bf16": 300e12, "fp8": 300e12}, {"bf16": 100e12, "fp8": 200e12}) == pytest.approx(600e12 / 4.5)
    assert mixed_peak({"bf16": 1.0, "fp32": 0.0}, {"bf16": 100e12}) == 100e12
    with pytest.raises(DomainError, match="fp8 has no peak"):
        mixed_peak({"bf16": 1.0, "fp8": 1.0}, {"bf16": 100e12})
    with pytest.raises(DomainError, match="there are no FLOPs"):
        mixed_peak({}, {"bf16": 100e12})


@pytest.mark.parametrize(
    ("name", "units", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3 MIG 2g.20gb", 32, 989.4 * 32 / 132),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 42, 312 * 42 / 108),
    ],
)
def test_a_slice_has_its_share_of_the_units(name: str, units: int, tflops: float) -> None:
    spec = find_device(name, units)
    assert spec.peak("bf16") == pytest.approx(tflops * 1e12)
    assert spec.memory_bytes == 20 * 10**9
    assert spec.link_bytes_per_second is None
    with pytest.raises(UsageError, match="is not recorded"):
        find_device(name)
    with pytest.raises(UsageError, match="is not recorded"):
        find_device(name, 1000)


@pytest.mark.parametrize(
    ("name", "meant"), [("H100", "H100 SXM or H100 PCIe or H100 NVL"), ("mi350", "MI350X"), ("RTX4090", "RTX 4090")]
)
def test_names_that_are_meant_are_proposed(name: str, meant: str) -> None:
    with pytest.raises(UsageError) as error:
        find_device(name)
    assert f"did you mean {meant}" in str(error.value.hint)


def test_a_peak_above_any_device_is_refused_by_its_unit() -> None:
    assert check_any_peak(989e12) == 989e12
    for wrong in (989e24, 15001e12 * 1.06):
        with pytest.raises(UsageError, match=r"TFLOP/s is above any device's: GB300 has") as error:
            check_any_peak(wrong)
        assert "TFLOP/s" in str(error.value.hint)
