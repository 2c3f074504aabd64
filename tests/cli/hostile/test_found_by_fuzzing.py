"""Damage that fuzzing and the catalogue found: each once ended a command with an error that was not ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from catalogue.base import text, trace, write
from inputs.hostile import outcome


@pytest.mark.parametrize("left_out", ["group", None])
def test_rows_sent_to_nobody_are_a_damaged_line(
    left_out: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "run", text(trace(0, 2)), "traces/rank0.json")
    write(tmp_path / "run", "{}", "run.json")
    routed: dict[str, Any] = {
        "step": 551,
        "layer": 3,
        "rank": 0,
        "tokens_to_expert": [5, 6, 7, 8],
        "send_splits": [11, 15],
        "receive_splits": [11, 11],
        "group": [0, 1],
    }
    routed.pop(left_out or "", None)
    write(tmp_path / "run", json.dumps(routed) + "\n", "routing/rank0.jsonl")
    assert outcome("analyze", tmp_path / "run", tmp_path, capfd)[0] == 0
    assert ("run.damaged_line" in outcome("check", tmp_path / "run", tmp_path, capfd)[1]) is (left_out is not None)


def test_a_result_of_kernels_of_no_length_can_be_drawn(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    document = trace(0, 1)
    for event in document["traceEvents"]:
        if event.get("cat") == "kernel":
            event["dur"] = 0
    path, result = write(tmp_path, text(document)), tmp_path / "result"
    assert outcome("analyze", path, tmp_path, capfd, "--out", str(result))[0] == 0
    assert outcome("report", result, tmp_path, capfd)[0] == 0


@pytest.mark.parametrize(("rank", "from_whom"), [(2**31, "unknown ranks"), (3, "1 rank;")])
def test_records_of_ranks_that_cannot_be_are_of_nobody(
    rank: int, from_whom: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    record = {
        "header": {"id": "0x9", "rank": rank, "n_ranks": 5, "nnodes": 1},
        "metadata": {"inspector_output_format_version": "v4.0", "hostname": "node", "pid": 12},
        "coll_perf": {
            "coll": "AllReduce",
            "coll_sn": 4,
            "coll_msg_size_bytes": 512,
            "coll_exec_time_us": 9,
            "coll_timing_source": "kernel_gpu",
            "coll_algobw_gbs": 1.5,
            "coll_busbw_gbs": 2.5,
        },
    }
    write(tmp_path / "logs", json.dumps(record) + "\n", "node-pid12.log")
    for command in ("analyze", "report"):
        status, said = outcome(command, tmp_path / "logs", tmp_path, capfd)
        assert status == 0
        assert from_whom in said.replace(".", ";")
