"""Real paced runs compared: a slow stage is named, a repeat is not. A distorted run proves nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.comparison.compare import compare
from traceanalyzer.comparison.side import Side

pytestmark = [pytest.mark.soak, pytest.mark.runs]
JOB = ["pipeline", "--ranks", "3", "--microbatches", "5", "--forward-ms", "40", "--backward-ms", "80", "--steps", "6"]


def run(folder: Path, name: str, *options: str) -> Side:
    out = folder / name
    subprocess.run(
        [sys.executable, "-m", "traceanalyzer", "run", *JOB, *options, "--out", str(out)], check=True, timeout=300
    )
    found = analyze(read(out))
    if found.review.validity.verdict == "distorted":
        pytest.skip(f"the host distorted the run: {found.review.validity.reasons}")
    return Side(name, found.review, found.tables)


def test_a_slow_stage_is_named_and_repeats_are_noise(tmp_path: Path) -> None:
    base = run(tmp_path, "base")
    slow = run(tmp_path, "slow", "--seed", "1", "--fault", "slow_stage:stage=1,factor=1.2")
    (pair,) = compare(base, [slow]).pairs
    print(*pair.sentences, sep="\n")
    assert (pair.changes[0].kind, pair.changes[0].ranks) == ("stage", [1])
    for seed in range(2, 7):
        (again,) = compare(base, [run(tmp_path, f"again{seed}", "--seed", str(seed))]).pairs
        print(*again.sentences, sep="\n")
        assert again.verdict == "noise"
