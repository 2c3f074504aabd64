"""Whether a capture shows what the job does when nobody looks: every check, told, failed and not known; said first."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from planted import Faults, Job, plant

from traceanalyzer.cli import main
from traceanalyzer.measurements.capture.checks import CaptureCheck, capture_checks
from traceanalyzer.schema import KERNELS, STEPS, conform, empty

MS = 1_000_000


def steps(*lengths_ms: float, open_end: bool = False) -> pl.DataFrame:
    at, rows = 0, []
    for number, length in enumerate(lengths_ms):
        rows.append(
            {"rank": 0, "step": number, "start_ns": at, "end_ns": at + round(length * MS), "open_end": open_end}
        )
        at += round(length * MS)
    return conform(pl.DataFrame(rows), STEPS)


def kernels(*rows: tuple[float, float, bool]) -> pl.DataFrame:
    """Start, length (ms) and whether the launch is known."""
    made = [
        {
            "rank": 0,
            "cycle": 0,
            "start_ns": round(a * MS),
            "end_ns": round((a + d) * MS),
            "launch_start_ns": 1 if known else None,
        }
        for a, d, known in rows
    ]
    return conform(pl.DataFrame(made, schema_overrides={"launch_start_ns": pl.Int64}), KERNELS)


def overhead(*rows: tuple[float, float]) -> pl.DataFrame:
    schema = {"rank": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64}
    return pl.DataFrame([(0, round(a * MS), round((a + d) * MS)) for a, d in rows], schema=schema, orient="row")


def checked(name: str, **given: Any) -> CaptureCheck:
    inputs: dict[str, Any] = {
        "steps": steps(10, 10, 10), "kernels": empty(KERNELS), "overhead": overhead(), "profiled_ms": 10.0, "unprofiled_ms": None,
    }  # fmt: skip
    return next(check for check in capture_checks(**(inputs | given)) if check.name == name)


@pytest.mark.parametrize(
    ("name", "given", "value", "passed"),
    [
        ("profiled_step", {}, None, None),
        ("profiled_step", {"profiled_ms": 12.0, "unprofiled_ms": 10.0}, 0.2, False),
        ("profiled_step", {"profiled_ms": 10.0, "unprofiled_ms": 10.4}, -0.0385, True),
        ("orphan_kernels", {}, None, None),
        ("orphan_kernels", {"kernels": kernels((1, 9, True), (11, 1, False))}, 0.1, False),
        (
            "orphan_kernels",
            {"kernels": kernels((-5, 5, False), (1, 9, True))},
            0.0,
            True,
        ),  # what ran before is no step's
        ("profiler_overhead", {}, None, None),
        ("profiler_overhead", {"overhead": overhead((1, 2), (2, 2), (29, 5))}, 4 / 30, False),
        ("profiler_overhead", {"overhead": overhead((3, 0.3), (100, 50))}, 0.01, True),
        ("warm_up", {"steps": steps(30, 10)}, None, None),
        ("warm_up", {"steps": steps(30, 10, 10, 10)}, 2.0, False),
        ("warm_up", {"steps": steps(10, 10, 11)}, -0.0476, True),
        ("open_end", {}, 0.0, True),
        ("open_end", {"steps": steps(10, open_end=True)}, 1.0, False),
        ("open_end", {"steps": empty(STEPS)}, None, None),
    ],
)
def test_each_check(name: str, given: dict[str, Any], value: float | None, passed: object) -> None:
    check = checked(name, **given)
    assert check.value == (value if value is None else pytest.approx(value, abs=1e-4))
    assert check.passed is passed
    assert check.text


def said(path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    assert main(["analyze", str(path), "--json", str(out / "review.json")]) == 0
    return msgspec.json.decode((out / "review.json").read_bytes()), capsys.readouterr().out.splitlines()[0]


def test_a_sound_capture_says_so_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = plant(Job(pp=2, num_microbatches=4, num_steps=3), Faults(), tmp_path)
    review, first = said(planted.traces, tmp_path, capsys)
    assert review["quality"]["representative"] is True
    assert first == "The capture passes 3 of 5 checks; not known: profiled step, profiler overhead."


def test_a_capture_that_lost_launches_warns_before_anything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = plant(Job(pp=2, num_microbatches=4, num_steps=1), Faults(), tmp_path)
    path = next(iter(planted.traces.iterdir()))
    document = json.loads(gzip.decompress(path.read_bytes()))
    launches = [e for e in document["traceEvents"] if e["name"] == "cudaLaunchKernel"]
    lost = {id(event) for event in launches[len(launches) // 2 : len(launches) // 2 + 4]}
    document["traceEvents"] = [e for e in document["traceEvents"] if id(e) not in lost]
    busy = document["traceEvents"][0]
    length = max(e["ts"] + e["dur"] for e in document["traceEvents"]) - busy["ts"]
    work = {"ph": "X", "cat": "overhead", "name": "Activity Buffer Request", "pid": -1, "tid": 0, "args": {}}
    document["traceEvents"].append(work | {"ts": busy["ts"], "dur": length})
    path.write_bytes(gzip.compress(json.dumps(document).encode()))
    review, first = said(planted.traces, tmp_path, capsys)
    checks = {check["check"]: check for check in review["quality"]["capture_checks"]}
    assert {name for name, check in checks.items() if check["passed"] is False} == {
        "orphan_kernels", "profiler_overhead", "open_end",
    }  # fmt: skip
    assert review["warnings"][0] == review["quality"]["capture_sentence"]
    assert first.startswith("! This capture is not representative: 4 of ")
