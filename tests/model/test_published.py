"""Published tables, from the model's shape and a rate through our own count to the printed figure."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from traceanalyzer.hardware import find_device
from traceanalyzer.model import ModelShape
from traceanalyzer.model_configs import find_preset, presets
from traceanalyzer.theory.model.flops import Convention, Recompute, flops_per_token
from traceanalyzer.theory.model.mfu import utilisation_at_rate, utilisation_of_step
from traceanalyzer.theory.model.parameters import parameters

DATA = Path(__file__).parents[1] / "data"
A100 = find_device("A100-SXM4-80GB").peak("bf16")
H100 = find_device("NVIDIA H100 80GB HBM3").peak("bf16")


def rows(name: str) -> list[dict[str, str]]:
    lines = (DATA / name).read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def gpt(row: dict[str, str]) -> ModelShape:
    """A GPT of the Megatron papers: 4h feed-forward, vocabulary 51200, biases and 2048 learned positions."""
    hidden, heads = int(row["hidden"]), int(row["heads"])
    return ModelShape(
        num_layers=int(row["layers"]),
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=heads,
        head_size=hidden // heads,
        ffn_size=4 * hidden,
        vocab_size=51200,
        tied_embeddings=True,
        extra_parameters=11 * int(row["layers"]) * hidden + 2048 * hidden,
    )


@pytest.mark.parametrize("row", rows("megatron_sc21_table1.csv"), ids=lambda row: row["parameters_billions"])
def test_megatron_sc21_table_1(row: dict[str, str]) -> None:
    shape = gpt(row)
    flops = flops_per_token(shape, 2048, Convention.FULL_ATTENTION, recompute=Recompute.FULL)
    used = utilisation_of_step(flops, int(row["batch"]) * 2048, float(row["iteration_s"]) * 1e9, int(row["gpus"]), A100)
    assert 100 * used.hfu == pytest.approx(float(row["percent_of_peak"]), abs=0.5)  # printed without decimals
    assert 100 * used.mfu == pytest.approx(float(row["mfu_percent"]), abs=0.01)
    hardware_tflops = used.hfu * A100 / 1e12
    assert hardware_tflops == pytest.approx(float(row["tflops_per_gpu"]), abs=0.5)
    assert hardware_tflops * int(row["gpus"]) / 1e3 == pytest.approx(float(row["aggregate_pflops"]), rel=0.004)
    printed = float(row["parameters_billions"])  # one decimal: 0.05 of 1.7 is 3%
    assert parameters(shape).total / 1e9 == pytest.approx(printed, abs=0.05)


@pytest.mark.parametrize("row", rows("korthikanti_table5.csv"), ids=lambda row: row["name"])
def test_korthikanti_table_5(row: dict[str, str]) -> None:
    flops = flops_per_token(gpt(row), 2048, Convention.FULL_ATTENTION, recompute=Recompute.SELECTIVE)
    used = utilisation_of_step(flops, int(row["batch"]) * 2048, float(row["iteration_s"]) * 1e9, int(row["gpus"]), A100)
    assert 100 * used.mfu == pytest.approx(float(row["mfu_percent"]), abs=0.16)
    # Its HFU counts the recomputed attention as often as forward and backward together; ours once more forward.
    thrice = used.hfu + 2 * (used.hfu - used.mfu)
    assert 100 * thrice == pytest.approx(float(row["hfu_percent"]), abs=0.12)
    assert 100 * used.hfu < float(row["hfu_percent"])


def palm_shape(model: str) -> ModelShape:
    if model.startswith("Gopher"):
        shape = gpt({"hidden": "16384", "heads": "128", "layers": "80"})
        return replace(shape, vocab_size=32000, ffn_size=shape.ffn_size + shape.hidden_size // 2)
    return find_preset(model).shape


@pytest.mark.parametrize("row", rows("palm_table3.csv"), ids=lambda row: row["model"])
def test_palm_table_3(row: dict[str, str]) -> None:
    shape, peak = palm_shape(row["model"]), float(row["peak_tflops"]) * 1e12
    for convention, column in ((Convention.PALM, "mfu_percent"), (Convention.SIX_N, "mfu_percent_without_attention")):
        flops = flops_per_token(shape, 2048, convention)
        used = utilisation_at_rate(flops, float(row["tokens_per_second"]), int(row["chips"]), peak)
        assert 100 * used.mfu == pytest.approx(float(row[column]), abs=0.1)


def test_gpt3_row_of_the_palm_table_does_not_reproduce() -> None:
    # The row rests on 24.6 TFLOP/s without attention per V100 (125 TFLOP/s) and prints 21.3%.
    flops = flops_per_token(find_preset("gpt-3-175b").shape, 2048, Convention.PALM)
    without_attention = flops_per_token(find_preset("gpt-3-175b").shape, 2048, Convention.SIX_N)
    tokens_per_second = 24.6e12 / without_attention.total
    used = utilisation_at_rate(flops, tokens_per_second, 1, find_device("Tesla V100-SXM2-32GB").peak("fp16"))
    assert 100 * used.mfu == pytest.approx(20.2, abs=0.05)
    assert 21.3 - 100 * used.mfu > 1


@pytest.mark.parametrize(
    "row", rows("llama3_405b_table4.csv"), ids=lambda row: row["gpus"] + "x" + row["sequence_length"]
)
def test_llama3_405b_table_4(row: dict[str, str]) -> None:
    assert int(row["tp"]) * int(row["cp"]) * int(row["pp"]) * int(row["dp"]) == int(row["gpus"])
    shape, gpus = find_preset("llama-3-405b").shape, int(row["gpus"])
    # The paper gives a rate in TFLOP/s and no step time: this holds the peak and the arithmetic, in any convention.
    for convention in (Convention.EXACT_CAUSAL, Convention.FULL_ATTENTION, Convention.SIX_N):
        flops = flops_per_token(shape, int(row["sequence_length"]), convention)
        tokens = int(row["tokens_per_batch"])
        step_s = flops.total * tokens / (gpus * float(row["tflops_per_gpu"]) * 1e12)
        used = utilisation_of_step(flops, tokens, step_s * 1e9, gpus, H100)
        assert 100 * used.mfu == pytest.approx(float(row["mfu_percent"]), abs=0.6)


def test_llama3_405b_training_budget() -> None:
    # arXiv 2407.21783, section 1: 15.6T tokens, 3.8e25 FLOPs.
    flops = flops_per_token(find_preset("llama-3-405b").shape, 8192, Convention.SIX_N)
    assert flops.total * 15.6e12 == pytest.approx(3.8e25, rel=0.005)


def test_same_run_by_three_conventions() -> None:
    shape = find_preset("llama-3-8b").shape
    tokens_per_second = 0.479 * H100 / flops_per_token(shape, 8192).total
    found = [
        round(100 * utilisation_at_rate(flops_per_token(shape, 8192, name), tokens_per_second, 1, H100).mfu, 1)
        for name in (Convention.EXACT_CAUSAL, Convention.TORCHTITAN, Convention.TORCHTITAN_2024)
    ]
    assert found == [47.9, 53.9, 56.8]


def test_mixtral() -> None:
    # arXiv 2401.04088 and the 8x22B announcement; training GFLOP per token at 4096 by an independent script.
    for name, total, active, gflop in (("mixtral-8x7b", 46.7, 12.9, 79.7), ("mixtral-8x22b", 141, 39, 242.2)):
        shape = find_preset(name).shape
        assert parameters(shape).total / 1e9 == pytest.approx(total, rel=0.003)
        assert parameters(shape).active / 1e9 == pytest.approx(active, rel=0.005)
        assert flops_per_token(shape, 4096).total / 1e9 == pytest.approx(gflop, abs=0.05)


COUNTED = {row["model"]: row for row in rows("preset_parameters.csv")}


@pytest.mark.parametrize("name", presets())
def test_preset_has_the_published_parameters(name: str) -> None:
    count = parameters(find_preset(name).shape)
    if name not in COUNTED:  # no model of it was published: totals of the papers
        assert count.total / 1e9 == pytest.approx({"palm-540b": 540.35, "mt-nlg-530b": 529.6}[name], abs=0.05)
        return
    assert count.total == int(COUNTED[name]["parameters"])
    published = COUNTED[name]["active_billions"]
    if published:  # some authors count the embedding table as active, some do not; most print whole billions
        digits = len(published.partition(".")[2])
        candidates = [count.active / 1e9, (count.active - count.embedding) / 1e9]
        assert min(abs(value - float(published)) for value in candidates) <= max(0.5 * 10**-digits, 0.07)


def test_training_cost_of_deepseek_v3() -> None:
    # arXiv 2412.19437: 180K H800 hours for every 10^12 tokens. Its MFU is not published; by convention it would be:
    rate = 1e12 / (180e3 * 3600)
    shape = find_preset("deepseek-v3").shape
    peak = find_device("NVIDIA H800").peak("bf16")
    by_name = {name: utilisation_at_rate(flops_per_token(shape, 4096, name), rate, 1, peak).mfu for name in Convention}
    assert 100 * by_name[Convention.EXACT_CAUSAL] == pytest.approx(39.1, abs=0.05)
    assert 100 * by_name[Convention.FULL_ATTENTION] == pytest.approx(43.9, abs=0.05)
