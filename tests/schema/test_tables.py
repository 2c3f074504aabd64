"""The registry of tables: an analysis gives exactly these, as declared, and the documentation lists them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from inputs.hot_experts import hot_run
from inputs.tiny_trace import TinyRank, run_of
from launched.gpipe_run import GPIPE, with_job

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.schema import TABLES, result_tables
from traceanalyzer.schema.columns import unit_of
from traceanalyzer.schema.page import tables_page
from traceanalyzer.traces import read_traces

DOCS = Path(__file__).parents[2] / "docs"


def pipeline(folder: Path) -> Path:
    return with_job(run_of(folder, GPIPE))


def dense(folder: Path) -> Path:
    TinyRank(0, 1).step(1, 0, 50).event("aten::mm", 5, 20, "cpu_op").write(folder)
    return folder


def op_table(folder: Path) -> Path:
    file = folder / "ops.parquet"
    analyze(read(pipeline(folder / "run"))).tables["ops"].write_parquet(file)
    return file


@pytest.mark.parametrize("run", [pipeline, dense, hot_run, op_table], ids=lambda run: run.__name__)
def test_an_analysis_gives_the_declared_tables_and_no_others(run: Callable[[Path], Path], tmp_path: Path) -> None:
    tables = analyze(read(run(tmp_path))).tables
    assert set(tables) == set(result_tables())
    assert {name: frame.schema for name, frame in tables.items()} == {
        name: TABLES[name].schema for name in result_tables()
    }


def test_tables_of_real_traces_are_as_declared(corpus: Path) -> None:
    for name in ("dlrm8-v100", "ddp-mi300"):
        tables = analyze(read(corpus / name)).tables
        assert {key: frame.schema for key, frame in tables.items()} == {
            key: TABLES[key].schema for key in result_tables()
        }


def test_tables_that_are_read_are_as_declared(tmp_path: Path) -> None:
    traces = read_traces(pipeline(tmp_path))
    for name, frame in (("events", traces.events), ("ranks", traces.ranks), ("defects", traces.defects)):
        assert frame.schema == TABLES[name].schema
        assert TABLES[name].origin == "traces"


def test_every_table_and_column_says_what_it_is() -> None:
    for name, table in TABLES.items():
        assert name == table.name
        assert table.meaning.startswith("One row per ")
        for text in (table.meaning, *(column.meaning for column in table.columns.values())):
            assert text.endswith(".")
            assert text[0].isupper() or text[0] in "`0"
        for column, dtype in table.schema.items():
            assert dtype == pl.Int64 or not column.endswith("_ns") or column.startswith(("mean_", "median_"))


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("start_ns", "ns"),
        ("send_bytes", "bytes"),
        ("bus_bytes_per_second", "bytes/s"),
        ("flops_per_second", "FLOP/s"),
        ("link_share", "share of 1"),
        ("rank", ""),
    ],
)
def test_a_columns_name_ends_with_its_unit(name: str, unit: str) -> None:
    assert unit_of(name) == unit


def test_the_page_of_tables_is_that_of_the_registry() -> None:
    assert (DOCS / "tables.md").read_text() == tables_page(), (
        "run `python -c 'from traceanalyzer.schema.page import tables_page; print(tables_page(), end=\"\")' > docs/tables.md`"
    )
