"""Both ends of messages in flight-recorder dumps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from inputs.flight_dumps import call, dumped
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.cli import main


def test_messages_of_dumps_without_their_head_are_not_joined(tmp_path: Path) -> None:
    sent = call(1, is_p2p=True, p2p_seq_id=1, profiling_name="nccl:send 0->1")
    got = call(1, is_p2p=True, p2p_seq_id=1, profiling_name="nccl:recv 1<-0")
    dumped(tmp_path, 0, [sent])
    dumped(tmp_path, 1, [got])
    rows = analyze(read(tmp_path)).tables["p2p"]
    shown = rows.select("rank", pl.col("direction").cast(pl.String), "peer", "bytes", "match")
    assert shown.rows() == [(0, "send", 1, 256, None), (1, "receive", 0, 256, None)]
    assert set(rows["unmatched"]) == {"the dump of one end has lost its first records"}


def message(number: int, name: str, size: int = 64) -> dict[str, Any]:
    return call(
        number,
        is_p2p=True,
        p2p_seq_id=number,
        profiling_name=f"nccl:{name}",
        input_sizes=[[size]],
        output_sizes=[[size]],
    )


def test_messages_of_whole_dumps_are_joined_by_order_up_to_where_sizes_differ(tmp_path: Path) -> None:
    dumped(
        tmp_path,
        0,
        [message(0, "send 0->1"), message(1, "recv 0<-1"), message(2, "send 0->1", 8), message(3, "send 0->1")],
    )
    dumped(
        tmp_path,
        1,
        [message(0, "send 1->0"), message(1, "recv 1<-0"), message(2, "recv 1<-0", 9), message(3, "recv 1<-0")],
    )
    rows = analyze(read(tmp_path)).tables["p2p"]
    joined = rows.drop_nulls("match").sort("match", "direction")
    pairs = joined.group_by("match").agg(pl.col("rank"), pl.col("peer"), pl.col("direction").cast(pl.String))
    assert sorted(pairs.drop("match").rows()) == [
        ([0, 1], [1, 0], ["send", "receive"]),
        ([1, 0], [0, 1], ["send", "receive"]),
    ]
    refused = rows.filter(pl.col("match").is_null())
    assert refused["unmatched"].to_list() == ["ends disagree on the sizes of their messages"] * 4
    assert rows["step"].null_count() == rows.height


def test_ingest_says_that_dumps_are_not_in_the_capture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    traces = plant(Job(pp=2, num_microbatches=2), Faults(), tmp_path).traces
    assert main(["ingest", str(traces), "--out", str(tmp_path / "without")]) == 0
    assert "flight-recorder" not in capfd.readouterr().out
    dumped(traces, 0, [call(1)])
    assert main(["ingest", str(traces), "--out", str(tmp_path / "with")]) == 0
    assert "1 flight-recorder or NCCL Inspector files are not in the capture" in capfd.readouterr().out
