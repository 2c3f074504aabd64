"""`plan job`, and `predict` with a cluster."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from traceanalyzer.cli import main
from traceanalyzer.theory.planning.formats import read


@pytest.mark.wide
def test_plan_job_on_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    written = {name: tmp_path / name for name in ("torchtitan", "megatron", "deepspeed", "json")}
    common = ["plan", "job", "--model", "llama-3-8b", "--gpus", "16", "--hardware", "dgx h100", "--seq", "4096"]
    options = [word for name, path in written.items() for word in (f"--{name}", str(path))]
    assert main([*common, "--batch", "64", *options]) == 0
    said = capfd.readouterr().out
    for words in (
        "1. fit:",
        "2. batch:",
        "3. throughput:",
        "rules of thumb",
        "rejected:",
        "configurations priced",
        "total",
    ):
        assert words in said
    for name, path in written.items():
        if name != "json":
            assert read(path.read_text(), 32, 16).batch_size == 64
    plain = json.loads(written["json"].read_text())
    assert plain["num_feasible"] > 0
    assert plain["ranked"][0]["step_ms"] <= plain["ranked"][1]["step_ms"]
    assert all(math.isfinite(each["headroom_bytes"]) for each in plain["ranked"])
    assert main([*common, "--batch", "64", "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["schema_version"] == 1


@pytest.mark.parametrize(
    "words",
    [
        ["--hardware", "abacus"],
        ["--model", "nothing"],
        ["--recipe", "fp3"],
        ["--fixed-gib", "nan"],
        ["--memory-gib", "81559"],
        ["--fixed-gib", "2048"],
        ["--load-ratio", "1.2"],
        ["--dedup"],
        ["--model", "mixtral-8x7b", "--load-ratio", "4.5"],
        ["--json", "-", "--deepspeed", "-"],
    ],
)
def test_wrong_use_of_plan_job(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    common = [
        "plan",
        "job",
        "--model",
        "gpt2",
        "--gpus",
        "8",
        "--hardware",
        "dgx h100",
        "--seq",
        "1024",
        "--batch",
        "8",
    ]
    assert main([*common, *words]) == 2
    assert capfd.readouterr().err.startswith("traceanalyzer: ")


def test_predict_prices_the_whole_job(capfd: pytest.CaptureFixture[str]) -> None:
    common = ["predict", "-s", "1F1B,Interleaved1F1B,ZBV", "-p", "4", "-m", "16", "--model", "llama-3-8b"]
    job_options = ["--hardware", "dgx h100", "--tp", "2", "--dp", "4", "--sequence", "8192"]
    assert main([*common, *job_options]) == 0
    said = capfd.readouterr().out
    assert "32 devices of DGX H100, 64 x 8192 tokens a step" in said
    assert main([*common, *job_options, "--json", "-"]) == 0
    first, second, _ = json.loads(capfd.readouterr().out)["job"]
    assert first["step_ms"] > second["step_ms"]
    assert first["mfu"] * first["step_ms"] == pytest.approx(second["mfu"] * second["step_ms"])
    assert first["fits"]
    assert sum(first["parts_ms"].values()) == pytest.approx(first["step_ms"])
    assert main(["predict", "-s", "1F1B", "-p", "4", "-m", "16", "--hardware", "dgx h100"]) == 2
    assert main([*common, "--hardware", "dgx h100", "--tp", "3"]) == 2


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (["--tp", "2"], "--hardware"),
        (["--zero", "1", "--model", "gpt2", "--device", "H100 SXM"], "--hardware"),
        (["--sequence", "77"], "--model"),
        (["--efficiency", "0.5"], "--model"),
        (["--recompute", "full"], "--hardware or --calibrate"),
    ],
)
def test_options_that_would_change_nothing(words: list[str], needed: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "-s", "1F1B", "-p", "2", "-m", "4", *words]) == 2
    assert f"{words[0]} needs {needed}" in capfd.readouterr().err
