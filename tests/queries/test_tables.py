"""Rows by condition, columns and order; every format; and refusals that name the remedy."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import polars as pl
import pytest
from inputs.tiny_trace import run_of

from traceanalyzer.cli import main
from traceanalyzer.errors import UsageError
from traceanalyzer.queries.durations import with_durations
from traceanalyzer.queries.rendering import FORMATS, render
from traceanalyzer.queries.selection import Selection, select
from traceanalyzer.schema import TABLES

Caught = pytest.CaptureFixture[str]
THREE_RANKS = ["0F0@0-7000 0B0@40000-54000", "1F0@7000-12000 1B0@26000-40000", "2F0@12000-19000 2B0@19000-26000"]
FRAME = pl.DataFrame(
    {
        "rank": [2, 0, 1, 2],
        "name": pl.Series(["gemm", "copy", "gemm", "it's|x"], dtype=pl.Categorical),
        "start_ns": [10, 0, 5, 30],
        "end_ns": [3_000_010, 4_000_000, 5, None],
    },
    schema_overrides={"rank": pl.Int32},
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return run_of(tmp_path / "run", THREE_RANKS)


def rows(frame: pl.DataFrame, **wanted: object) -> list[tuple[object, ...]]:
    return select(with_durations(frame), Selection(**wanted)).frame.rows()


@pytest.mark.parametrize(
    ("where", "ranks"),
    [
        ("rank == 2", [2, 2]),
        ("rank = 2 and duration_ms > 2", [2]),
        ("rank == 0 or (name = 'gemm' AND NOT rank >= 2)", [0, 1]),
        ("name like 'g%' and start_ns between 1 and 9", [1]),
        ("duration_ns is null", [2]),
        ("name != 'gemm'", [0, 2]),
        ("name = 'it''s|x'", [2]),
        ("rank in (0, 1)", [0, 1]),
        ("duration_ms = max(duration_ms)", [0]),
        ("rank = 7", []),
    ],
)
def test_rows_are_chosen_by_an_expression(where: str, ranks: list[int]) -> None:
    assert [row[0] for row in rows(FRAME, where=where, columns=("rank",))] == ranks


@pytest.mark.parametrize(
    ("where", "told", "remedy"),
    [
        ("nosuch > 1", '"nosuch"', "columns of kernels: rank, name, start_ns, duration_ns, duration_ms, end_ns"),
        ("duraton_ms > 1", '"duraton_ms"', "did you mean duration_ns or duration_ms? columns of kernels"),
        ('name == "gemm"', '"gemm"', "write texts in single quotes: 'gemm'"),
        ("rank", "is not a condition: it gives Int32", "rank == 3"),
        ("rank ==", "unable to parse", "columns of kernels"),
        ("rank = 1; drop table kernels", "--where", "columns of kernels"),
        ("rank in (select rank from steps)", "--where", "columns of kernels"),
        ("__import__('os').system('true')", "--where", "columns of kernels"),
        ("rank in (select * from read_csv('/etc/hostname'))", "may not read files: 'read_csv'", "PATH"),
        ("name > 3", "--where", "columns of kernels"),
        ("rank = 1" + " or rank = 1" * 3000, "longer than", "shorter"),
    ],
)
def test_a_bad_condition_is_one_line_and_a_remedy(where: str, told: str, remedy: str) -> None:
    with pytest.raises(UsageError) as refusal:
        select(with_durations(FRAME), Selection(where=where), "kernels")
    assert told in refusal.value.message
    assert "\n" not in refusal.value.message
    assert len(refusal.value.message) < 250 or "longer" not in told
    assert remedy in refusal.value.hint


def test_columns_order_and_limit() -> None:
    assert rows(FRAME, columns=("name", "duration_ms"), sort="duration_ms desc, rank") == [
        ("copy", 4.0), ("gemm", 3.0), ("gemm", 0.0), ("it's|x", None)
    ]  # fmt: skip
    assert rows(FRAME, columns=("start_ns",), sort="-rank, start_ns", limit=3) == [(10,), (30,), (5,)]
    found = select(FRAME, Selection(where="rank > 0", limit=1))
    assert (found.frame.height, found.num_rows) == (1, 3)
    for wanted, told in (
        (Selection(columns=("rank", "nam")), "no column 'nam'"),
        (Selection(sort="nosuch"), "no column 'nosuch'"),
        (Selection(sort="rank sideways"), "is not a list of columns"),
    ):
        with pytest.raises(UsageError, match=told):
            select(FRAME, wanted)


def test_durations_stand_beside_starts_and_change_nothing() -> None:
    before = FRAME.clone()
    found = with_durations(FRAME)
    assert found.columns == ["rank", "name", "start_ns", "duration_ns", "duration_ms", "end_ns"]
    assert found["duration_ns"].to_list() == [3_000_000, 4_000_000, 0, None]
    assert FRAME.equals(before)
    assert with_durations(found).equals(found)
    summed = pl.DataFrame({"duration_ns": [1_500_000]})
    assert with_durations(summed)["duration_ms"].to_list() == [1.5]
    assert with_durations(FRAME.drop("end_ns")).columns == ["rank", "name", "start_ns"]


@pytest.mark.parametrize("width", [None, 200, 60, 30, 9, 1])
def test_text_never_breaks_a_name_or_a_cell(width: int | None) -> None:
    frame = with_durations(FRAME).with_columns(pl.lit("a long text without end").alias("a_rather_long_heading"))
    text = render(frame, "text", width).decode()
    words = text.split()
    for name in frame.columns:
        assert name in words
    blocks = text.rstrip("\n").split("\n\n")
    assert all(block.split()[0] == "rank" for block in blocks)
    assert all(len(block.splitlines()) == 1 + FRAME.height for block in blocks)
    longest = len("a_rather_long_heading") + 2 + len("rank")
    assert width is None or max(map(len, text.splitlines())) <= max(width, longest + 4)
    assert (len(blocks) == 1) == (width in (None, 200))


def test_formats_hold_the_same_rows() -> None:
    frame = FRAME.select("rank", "name")
    made = {kind: render(frame, kind) for kind in FORMATS}
    expected = [(rank, str(name)) for rank, name in frame.rows()]
    assert [(int(r["rank"]), r["name"]) for r in csv.DictReader(io.StringIO(made["csv"].decode()))] == expected
    assert [tuple(row.values()) for row in json.loads(made["json"])] == expected
    assert [tuple(json.loads(line).values()) for line in made["jsonl"].splitlines()] == expected
    assert pl.read_parquet(made["parquet"]).with_columns(pl.col("name").cast(pl.String)).rows() == expected
    assert made["markdown"].decode().splitlines() == [
        "| rank | name |", "|---:|---|", "| 2 | gemm |", "| 0 | copy |", "| 1 | gemm |", "| 2 | it's\\|x |"
    ]  # fmt: skip
    assert made["text"].decode().splitlines()[-1] == "   2  it's|x"


def test_the_command_chooses_sorts_and_cuts(run: Path, capsys: Caught) -> None:
    wanted = [
        "--where",
        "rank != 1 and duration_ms > 6.5",
        "--columns",
        "rank,duration_ms",
        "--sort",
        "duration_ms desc",
    ]
    assert main(["table", str(run), "actions", *wanted, "--limit", "3", "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines() == ["rank,duration_ms", "0,14.0", "0,7.0", "2,7.0"]
    assert main(["table", str(run), "actions", "--where", "rank == 9"]) == 0
    assert capsys.readouterr().err == "no rows\n"
    assert main(["table", str(run), "actions", "--limit", "2"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "2 of 6 rows; --limit shows more\n"
    assert {"start_ns", "duration_ms", "end_ns"} <= set(shown.out.splitlines()[0].split())
    assert main(["table", str(run), "actions", "--json", "-", "--limit", "1"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["duration_ns"] == 7_000_000


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", ["a.md", "a.jsonl", "a.parquet", "a.json", "a.csv"])
def test_the_format_is_as_the_file_ends(run: Path, tmp_path: Path, name: str) -> None:
    assert main(["table", str(run), "steps", "-o", str(tmp_path / name)]) == 0
    content = (tmp_path / name).read_bytes()
    assert (
        content[:4] == {"md": b"| ra", "jsonl": b'{"ra', "parquet": b"PAR1", "json": b'[{"r', "csv": b"rank"}[name[2:]]
    )


def test_what_needs_a_table_says_so(run: Path, capsys: Caught) -> None:
    for arguments, told in (
        (["--where", "rank = 1"], "--where needs the name of a table"),
        (["steps", "--columns", ","], "--columns names no column"),
        (["steps", "--columns", "map.json"], "names a file"),
        (["steps", "--columns", "rank,nix"], "steps has no column 'nix'"),
    ):
        assert main(["table", str(run), *arguments]) == 2
        message, hint = capsys.readouterr().err.splitlines()
        assert told in message
        assert hint.startswith("  ")


def test_the_catalogue_has_every_table_with_columns_and_durations(run: Path, capsys: Caught) -> None:
    assert main(["table", str(run), "--json", "-"]) == 0
    tables = {table["name"]: table for table in json.loads(capsys.readouterr().out)["tables"]}
    assert set(tables) == set(TABLES)
    for name, table in tables.items():
        listed = [column["name"] for column in table["columns"]]
        assert set(listed) - {"duration_ns", "duration_ms"} == set(TABLES[name].columns) - {
            "duration_ns",
            "duration_ms",
        }
        assert all(column["meaning"] for column in table["columns"])
    assert next(c for c in tables["kernels"]["columns"] if c["name"] == "duration_ms")["unit"] == "ms"
    assert "gemm" in next(c for c in tables["kernels"]["columns"] if c["name"] == "kind")["values"]
