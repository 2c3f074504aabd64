"""Marks of a training loop without categories, in the manner of MegatronApp, and patterns on events of any kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from inputs.tiny_device import TinyDevice
from inputs.tiny_trace import TinyRank

from traceanalyzer.analysis.assemble import Analysis, analyze, read, with_declaration
from traceanalyzer.cli import main
from traceanalyzer.gaps.efficiency.declaration import Declaration

# (rank, chunk, phase, microbatch, start, end) in ms: 2 places with 2 chunks each, 2 microbatches, one after the other
ROW = tuple[int, int, str, int, int, int]


def interleaved() -> list[ROW]:
    """Each of 16 actions takes 10 ms; rank 0 runs chunk 0, then rank 1, then chunk 1 likewise, backward the same back."""
    rows: list[ROW] = []
    at = 0
    for chunk in (0, 1):
        for rank in (0, 1):
            rows += [(rank, chunk, "forward", mb, at + 10 * mb, at + 10 * mb + 10) for mb in (0, 1)]
            at += 20
    for chunk in (1, 0):
        for rank in (1, 0):
            rows += [(rank, chunk, "backward", mb, at + 10 * mb, at + 10 * mb + 10) for mb in (0, 1)]
            at += 20
    return rows


def halves(rows: list[ROW], iteration: int, shift: int, **own: Any) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for rank, chunk, phase, microbatch, start, end in rows:
        both = {"name": phase, "pid": rank, "tid": 0, **own}
        told = {"iteration": iteration, "microbatch": microbatch, "model_chunk": chunk, "pp_rank": rank}
        events.append({**both, "ph": "B", "ts": (shift + start) * 1000, "args": {"iteration": iteration}})
        events.append({**both, "ph": "E", "ts": (shift + end) * 1000, "args": told})
    return sorted(events, key=lambda event: (event["ts"], event["ph"] == "B"))


def stages(analysis: Analysis) -> dict[int, list[int]]:
    table = analysis.tables["actions"].group_by("rank").agg(pl.col("stage").unique().sort())
    return dict(table.iter_rows())


@pytest.mark.sweep(1)
@pytest.mark.parametrize("pattern", [None, "^(?P<phase>forward|backward)$"])
@pytest.mark.parametrize("own", [{}, {"cat": "user_annotation"}, {"cat": "cpu_op"}])
def test_marks_in_arguments_make_a_pipeline(own: dict[str, str], pattern: str | None, tmp_path: Path) -> None:
    file = tmp_path / "timeline.json"
    file.write_text(json.dumps(halves(interleaved(), 4, 0, **own) + halves(interleaved(), 5, 200, **own)))
    analysis = analyze(with_declaration(read(file), Declaration(action_pattern=pattern)))
    if own.get("cat") == "cpu_op" and pattern is None:
        assert analysis.tables["actions"].is_empty()  # operators called forward are no marks
        return
    assert stages(analysis) == {0: [0, 2], 1: [1, 3]}
    assert sorted(analysis.tables["steps"]["step"].unique()) == [4, 5]
    bubble = analysis.review.bubble
    assert bubble is not None
    assert bubble.idle_share == pytest.approx(0.5)  # 160 ms, each rank computes 80
    assert bubble.phase_ms == pytest.approx(160)
    assert bubble.transfer_share is None  # no message is recorded
    owners = {row.owner for row in analysis.review.accounting.owners}
    assert owners == ({"compute", "unknown"} if own.get("cat") != "cpu_op" else {"compute", "host"})
    said = " ".join(analysis.review.headline.sentences)
    assert ("host" in said) == (own.get("cat") == "cpu_op")


def test_late_marks_are_not_blamed_on_a_host_that_was_not_recorded(tmp_path: Path) -> None:
    late = [(r, c, p, m, s + 7 * (p == "backward"), e + 7 * (p == "backward")) for r, c, p, m, s, e in interleaved()]
    file = tmp_path / "timeline.json"
    file.write_text(json.dumps(halves(late, 4, 0)))
    analysis = analyze(read(file))
    bubble = analysis.review.bubble
    assert bubble is not None
    assert bubble.attribution_ms is not None
    assert bubble.attribution_ms.host == 0
    assert bubble.attribution_ms.unexplained >= 7
    assert analysis.review.validity.verdict == "unknown"


def test_a_rank_without_anything_that_is_known_waits_for_nobodys_host(tmp_path: Path) -> None:
    file = tmp_path / "timeline.json"
    rows = [{"ph": "X", "name": name, "pid": 3, "tid": 0, "ts": ts, "dur": 50} for name, ts in (("a", 0), ("b", 90))]
    file.write_text(json.dumps(rows))
    review = analyze(read(file)).review
    assert {row.owner for row in review.accounting.owners} == {"unknown"}
    assert not any("host" in sentence for sentence in review.headline.sentences)


def test_a_pattern_reaches_operators_and_the_devices_own_ranges(tmp_path: Path) -> None:
    pattern = r"^stage(?P<stage>\d)/(?P<phase>fwd|bwd)$"
    trace = TinyDevice(rank=0).step(1, 0, 90)
    trace.kernel(10, 30, launched=1).kernel(40, 80, launched=3)
    trace.event("stage0/fwd", 10, 30, "gpu_user_annotation").event("stage0/bwd", 40, 80, "gpu_user_annotation")
    trace.write(tmp_path / "device")
    cpu = TinyRank(0, 1).step(1, 0, 100)
    cpu.event("stage0/fwd", 10, 30, "cpu_op").event("stage0/bwd", 40, 80, "cpu_op")
    cpu.write(tmp_path / "cpu")
    for folder in ("device", "cpu"):
        found = analyze(with_declaration(read(tmp_path / folder), Declaration(action_pattern=pattern)))
        spans = found.tables["actions"].select((pl.col("end_ns") - pl.col("start_ns")) // 1000).to_series()
        assert spans.to_list() == [20, 40], folder


def test_a_pattern_of_operators_without_category_works_from_the_job_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, job = tmp_path / "timeline.json", tmp_path / "job.json"
    file.write_text(json.dumps(halves(interleaved(), 4, 0)))
    job.write_text(json.dumps({"action_pattern": "^(?P<phase>forward|backward)$"}))
    assert main(["analyze", str(file), "--job", str(job)]) == 0
    assert "Pipeline bubble        withheld" not in capsys.readouterr().out


@pytest.mark.parametrize("part", ["iter10", "vc0c778"])
def test_megatronapps_own_timelines(part: str, corpus: Path) -> None:
    (file,) = (corpus / "megatronapp-pp4-marks").glob(f"*{part}*")
    analysis = analyze(read(file))
    bubble = analysis.review.bubble
    assert bubble is not None
    assert stages(analysis) == {rank: [rank, rank + 4, rank + 8, rank + 12] for rank in range(4)}
    shares = (bubble.idle_share, bubble.measured_share, bubble.overhead_share)
    assert shares == pytest.approx((0.551, 0.239, 0.312), abs=1e-3)
    assert bubble.phase_ms == pytest.approx(395, abs=3)
