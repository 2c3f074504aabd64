"""Every catalogued way in which an input can be broken, each with what must become of it."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from catalogue import ELSEWHERE
from catalogue.base import Case
from catalogue.codec_cases import CASES as CODEC_CASES
from catalogue.event_cases import CASES as EVENT_CASES
from catalogue.folder_cases import CASES as FOLDER_CASES
from catalogue.json_cases import CASES as JSON_CASES
from catalogue.nsys_cases import CASES as NSYS_CASES

from traceanalyzer.cli import main
from traceanalyzer.errors import InputError
from traceanalyzer.traces import Traces, read_traces
from traceanalyzer.traces.capture.ingest import ingest
from traceanalyzer.traces.defect_codes import CODES

CASES = [*JSON_CASES, *CODEC_CASES, *EVENT_CASES, *FOLDER_CASES, *NSYS_CASES]


@pytest.mark.sweep(30)
@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_catalogue(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    path = case.build(folder)
    status = main(["check", str(path), "--json", str(tmp_path / "check.json")])
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert all(c.isprintable() or c == "\n" for c in out + err)
    if case.outcome == "error" or (case.outcome == "either" and status):
        assert status == 3
        assert len(err.strip().splitlines()) == 2
        return
    assert status == 0, err
    check_loaded(case, read_traces(path), json.loads((tmp_path / "check.json").read_text()))
    check_capture(path, tmp_path / "capture")


def check_loaded(case: Case, traces: Traces, summary: dict[str, object]) -> None:
    assert traces.events.filter(pl.col("ph") == "X").height >= case.min_complete
    codes = set(traces.defects["code"])
    assert codes == {row["code"] for row in summary["defects"]}  # type: ignore[attr-defined, index]
    worse_than_info = traces.defects.filter(pl.col("severity") != "info")
    if case.outcome == "clean":
        assert worse_than_info.is_empty(), worse_than_info["code"].to_list()
    if case.codes:
        assert codes & set(case.codes), codes
    if case.ranks is not None:
        assert tuple(traces.ranks["rank"].unique().sort()) == case.ranks
    counts = traces.counts
    assert counts.events_seen == counts.events_kept + sum(counts.events_dropped.values())
    assert counts.bytes_seen == counts.bytes_kept + sum(counts.bytes_dropped.values())


def check_capture(path: Path, out: Path) -> None:
    """A capture holds what the traces hold."""
    ingest([path], out)
    direct, kept = read_traces(path), read_traces(out)
    assert kept.events.equals(direct.events)
    assert kept.ranks.equals(direct.ranks)
    assert kept.defects.equals(direct.defects)
    assert kept.counts == direct.counts


def test_error_names_file_reason_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("hello")
    with pytest.raises(InputError) as error:
        read_traces(path)
    assert str(path) in error.value.message
    assert error.value.hint


def test_every_code_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reading-traces.md").read_text()
    rows = [line for line in text.partition("## Defects")[2].splitlines() if line.startswith("| `")]
    assert rows == [f"| `{code}` | {c.severity} | {c.action} | {c.meaning} |" for code, c in CODES.items()]


HIGHEST = {"C": 4, "J": 47, "Z": 17, "E": 53, "D": 26, "S": 13, "F": 10, "N": 9, "Q": 8, "T": 2}
"""The catalogue's highest number of every kind."""
NOWHERE = {"D21": "the catalogue has none", "S08": "no reader opens YAML"}


def test_every_catalogued_input_is_tested_or_has_a_reason() -> None:
    tested = {case.id[:3] for case in CASES} | {number[:3] for number in ELSEWHERE}
    numbers = {f"{kind}{number:02d}" for kind, most in HIGHEST.items() for number in range(kind != "C", most + 1)}
    assert numbers - tested == set(NOWHERE)
    for place in ELSEWHERE.values():
        file, function = place.split("::")
        assert f"\ndef {function}(" in (Path(__file__).parents[1] / file).read_text(), place
