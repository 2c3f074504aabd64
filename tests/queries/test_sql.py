"""SQL over all tables: joins, the tables that are named alone, and nothing but reading."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from inputs.tiny_trace import run_of

from traceanalyzer.cli import main
from traceanalyzer.errors import UsageError
from traceanalyzer.queries.sql import answer, ask, named_tables

THREE_RANKS = ["0F0@0-7000 0B0@40000-54000", "1F0@7000-12000 1B0@26000-40000", "2F0@12000-19000 2B0@19000-26000"]
TABLES = {
    "steps": pl.DataFrame({"rank": [0, 1], "step": [3, 3], "start_ns": [0, 1], "end_ns": [9_000_000, 8_000_001]}),
    "kernels": pl.DataFrame(
        {"rank": [0, 0, 1], "kind": pl.Series(["a", "b", "a"], dtype=pl.Enum(["a", "b"])), "duration_ns": [1, 2, 4]}
    ),
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return run_of(tmp_path / "run", THREE_RANKS)


def test_tables_are_joined_and_summed() -> None:
    query = (
        "select s.rank, s.duration_ms, sum(k.duration_ns) as ns from kernels k join steps s on k.rank = s.rank "
        "where k.kind like 'a%' group by s.rank, s.duration_ms order by s.rank"
    )
    assert answer(TABLES, query).frame.rows() == [(0, 9.0, 1), (1, 8.0, 4)]
    cut = answer(TABLES, "select * from kernels", limit=2)
    assert (cut.frame.height, cut.num_rows) == (2, 3)


def test_only_named_tables_are_read() -> None:
    assert named_tables("SELECT * FROM Steps s JOIN events e ON s.rank = e.rank") == ["events", "steps"]
    assert named_tables("select 'kernels_of'") == []


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("drop table kernels", "begins with SELECT or WITH"),
        ("delete from kernels", "begins with SELECT or WITH"),
        ("/* select */ create table x as select 1", "begins with SELECT or WITH"),
        ("", "begins with SELECT or WITH"),
        ("select 1; drop table kernels", "cannot be answered"),
        ("select nosuch from kernels", "nosuch"),
        ("select * from nosuch", "nosuch"),
        ("selec rank from kernels", "begins with"),
        ("select", "cannot be answered"),
        ("select * from read_csv('/etc/hostname')", "may not read files"),
        ("select * from READ_PARQUET /* x */ ('/etc/hostname')", "may not read files"),
        ("select * from \"read_json\"('/etc/hostname')", "may not read files"),
        ("with a as (select * from read_ipc('/x')) select * from a", "may not read files"),
        ("select * from scan_csv('/etc/hostname')", "may not read files"),
        ("select * from '/etc/hostname'", "cannot be answered"),
    ],
)
def test_what_does_more_than_read_tables_is_refused(query: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as refusal:
        answer(TABLES, query)
    assert "\n" not in refusal.value.message
    assert refusal.value.hint


def test_the_remedy_lists_columns_of_what_was_asked() -> None:
    with pytest.raises(UsageError) as refusal:
        answer(TABLES, "select nosuch from kernels")
    assert "columns of kernels: rank, kind, duration_ns, duration_ms" in refusal.value.hint


def test_traces_alone_need_no_measuring(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("traceanalyzer.queries.sources.analyze", lambda _: pytest.fail("measured"))
    found = ask(run, "select count(*) as n from events where rank = 2").frame
    assert found["n"][0] > 0


def test_raw_and_measured_tables_in_one_query(run: Path) -> None:
    query = "select count(distinct e.rank) as n, count(distinct a.rank) as m from events e join actions a on e.rank = a.rank"
    assert ask(run, query).frame.rows() == [(3, 3)]


def test_the_command_answers_for_traces_and_for_a_result(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = "select rank, sum(duration_ms) as ms from actions group by rank order by rank"
    assert main(["sql", str(run), query, "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["rank"], row["ms"]) for row in rows] == [
        (0, pytest.approx(21)),
        (1, pytest.approx(19)),
        (2, pytest.approx(14)),
    ]
    assert main(["analyze", str(run), "--out", str(tmp_path / "result")]) == 0
    capsys.readouterr()
    assert main(["sql", str(tmp_path / "result"), query, "--format", "markdown"]) == 0
    assert capsys.readouterr().out.splitlines()[2] == "| 0 | 21 |"
    assert main(["sql", str(tmp_path / "result"), "select * from events"]) == 2
    assert "does not hold the table events" in capsys.readouterr().err
