"""The flow from Python: lazy, typed, with the command line's refusals; tables go to Arrow and DuckDB."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from inputs.tiny_trace import run_of
from launched.gpipe_run import GPIPE, with_job

import traceanalyzer as ta
from traceanalyzer.errors import InputError, TraceAnalyzerError, UsageError

HEAVY = ("polars", "bokeh", "holoviews", "torch", "numpy", "msgspec", "click", "jinja2", "numba")
SAMPLE = """
from pathlib import Path
import polars as pl
import traceanalyzer as ta

run: ta.Run = ta.read("runs/first", ranks=[0, 1])
result: ta.Result = ta.analyze(run, job="config.json", tokens_per_step=4096)
share: float | None = result.review.bubble.measured_share if result.review.bubble else None
kernels: pl.DataFrame = result.tables["kernels"]
answer: pl.DataFrame = result.sql("select 1")
page: Path = ta.report(result, "report.html")
changes: pl.DataFrame = ta.compare(result, "runs/second").table
table: pl.DataFrame = ta.predict(["1F1B"], stages=4, microbatches=8, forward_ms=10.0).table
again: ta.Result = ta.load("result")
"""
WRONG = SAMPLE + 'ta.predict("1F1B", stages="four", microbatches=8)\nta.analyze(run, tokens=3)\n'


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return with_job(run_of(tmp_path / "run", GPIPE))


def test_importing_loads_nothing_heavy() -> None:
    code = f"import sys, traceanalyzer as ta; dir(ta); print([n for n in {HEAVY} if n in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


def test_analysis_loads_no_drawing_library(run: Path) -> None:
    code = (
        "import sys, traceanalyzer as ta; ta.analyze(ta.read(sys.argv[1]));"
        "print([n for n in ('bokeh', 'holoviews', 'torch', 'jinja2', 'click') if n in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


def test_every_name_is_there_and_no_other() -> None:
    for name in ta.__all__:
        assert getattr(ta, name) is getattr(ta, name)
    assert set(ta.__all__) <= set(dir(ta))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ta.nonsense


def test_the_flow_gives_review_and_tables(run: Path, tmp_path: Path) -> None:
    result = ta.analyze(ta.read(run))
    assert result.review.bubble is not None
    assert result.review.bubble.measured_share == pytest.approx(1 / 3)
    assert result.tables["actions"].height == 8
    longest = result.sql("select max(duration_ms) as ms from actions")
    assert longest["ms"].to_list() == [20.0]
    assert ta.report(result, tmp_path / "r.html").stat().st_size > 100_000
    assert all(sentence in repr(result) for sentence in result.review.headline.sentences)


def test_a_result_is_kept_and_opened_again(run: Path, tmp_path: Path) -> None:
    result = ta.analyze(run)
    result.save(tmp_path / "result")
    shutil.rmtree(run)
    for opened in (ta.load(tmp_path / "result"), ta.analyze(tmp_path / "result")):
        assert opened.review.headline == result.review.headline
        assert opened.tables["bubble"].equals(result.tables["bubble"])
    with pytest.raises(UsageError, match="is a kept result") as refusal:
        ta.read(tmp_path / "result")
    assert "load(path)" in refusal.value.hint
    with pytest.raises(UsageError, match="nothing declared can change"):
        ta.analyze(tmp_path / "result", tokens_per_step=3)


def test_what_is_declared_is_used(run: Path) -> None:
    (run / "run.json").unlink()
    assert ta.analyze(run).review.mfu.mfu is None
    declared = {"tokens_per_step": 4096, "sequence_length": 1024, "num_devices": 2, "peak_tflops": 100.0}
    assert ta.analyze(run, job="gpt2", **declared, dtype="bf16").review.mfu.mfu is not None


def test_ranks_and_steps_are_chosen(run: Path) -> None:
    assert set(ta.read(run, ranks=[1]).traces.events["rank"]) == {1}
    with pytest.raises(UsageError, match="chosen ranks"):
        ta.read(run, ranks=[7])


def test_refusals_are_those_of_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        ta.read(tmp_path / "missing")
    with pytest.raises(InputError):
        ta.load(tmp_path)
    with pytest.raises(TraceAnalyzerError) as refusal:
        ta.analyze(tmp_path)
    assert refusal.value.hint


@pytest.mark.sweep(1)
@pytest.mark.parametrize("first", ["traceanalyzer", "traceanalyzer.comparison.record", "traceanalyzer.cli.compare"])
def test_compare_is_a_function_whatever_was_imported_before(first: str) -> None:
    code = f"import {first}, traceanalyzer as ta; ta.read; print(callable(ta.compare), ta.compare.__name__)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "True compare\n"


@pytest.mark.wide
def test_runs_are_compared(run: Path, tmp_path: Path) -> None:
    slower = [GPIPE[0].replace("70000-90000", "76000-96000"), GPIPE[1].replace("50000-70000", "50000-76000")]
    later = with_job(run_of(tmp_path / "later", slower))
    base = ta.analyze(run)
    found = ta.compare(base, later)
    assert found.record.pairs[0].change_ns == 6_000_000
    assert found.record.pairs[0].change_ns == ta.compare(run, later).record.pairs[0].change_ns
    assert found.table["change_ns"].sum() == found.record.pairs[0].change_ns
    assert set(found.table["new"]) <= {str(later)}
    same = ta.compare(base, base)
    assert same.record.pairs[0].change_ns == 0
    assert found.report(tmp_path / "c.html").exists()
    assert 'sandbox="allow-scripts allow-downloads"' in found._repr_html_()
    with pytest.raises(UsageError, match="a base alone"):
        ta.compare(base)


def test_a_prediction_has_the_closed_form(tmp_path: Path) -> None:
    found = ta.predict(["1F1B", "GPipe"], stages=3, microbatches=7, forward_ms=5)
    assert found.table["name"].to_list() == ["1F1B", "GPipe"]
    assert found.table["bubble_share"].to_list() == pytest.approx([2 / 9, 2 / 9])
    assert found.table["closed_form_share"].to_list() == pytest.approx([2 / 9, 2 / 9])
    assert found.table["step_ms"][0] == pytest.approx(9 * 15)
    assert "1F1B 22.2%" in repr(found)
    assert ta.predict("all", stages=4, microbatches=8).table.height > 5
    assert found.report(tmp_path / "p.html").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"stages": 0}, "stages: expected int >= 1"),
        ({"forward_ms": -1.0}, "forward_ms: expected float >= 0"),
        ({"forward_ms": "x"}, "forward_ms: expected"),
        ({"speed": 3}, "takes no speed"),
        ({"schedules": "2F2B"}, "no schedule .*called '2F2B'"),
        ({"model": "gpt2"}, "a model alone gives no times"),
    ],
)
def test_a_prediction_that_makes_no_sense_is_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        ta.predict(**{"schedules": "1F1B", "stages": 4, "microbatches": 8, **options})


def test_arrow_takes_the_tables(run: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the Arrow hand-over is tested with pyarrow")
    tables = ta.analyze(run).tables
    for name, frame in tables.items():
        taken = arrow.table(frame)
        assert taken.num_rows == frame.height, name
        assert taken.column_names == frame.columns
    assert set(arrow.compute.unique(arrow.table(tables["actions"])["rank"]).to_pylist()) == {0, 1}


def test_duckdb_asks_a_captured_folder_and_frames(run: Path, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB's own SQL is tested with DuckDB")
    ta.analyze(run).save(tmp_path / "result")
    folder = tmp_path / "result/tables"
    query = (
        f"select s.rank, sum(a.end_ns - a.start_ns) // 1000000 from '{folder}/actions.parquet' a "  # noqa: S608 - our own path
        f"join '{folder}/steps.parquet' s on a.rank = s.rank and a.step = s.step group by s.rank order by s.rank"
    )
    assert duckdb.sql(query).fetchall() == [(0, 60), (1, 60)]
    pytest.importorskip("pyarrow", reason="DuckDB reads frames through Arrow")
    actions = ta.load(tmp_path / "result").tables["actions"]
    assert isinstance(actions, pl.DataFrame)
    counted = duckdb.sql("select phase, count(*) as n from actions group by phase order by phase").pl()
    assert sorted(counted["n"].to_list()) == [4, 4]


@pytest.mark.wide
@pytest.mark.parametrize(("code", "num_errors"), [(SAMPLE, 0), (WRONG, 2)], ids=["right", "wrong"])
def test_a_type_checker_knows_the_names(tmp_path: Path, code: str, num_errors: int) -> None:
    pytest.importorskip("pyright", reason="types are tested with pyright")
    (tmp_path / "sample.py").write_text(code)
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(Path(__file__).parents[2])]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [each for each in json.loads(told.stdout)["generalDiagnostics"] if each["severity"] == "error"]
    assert len(found) == num_errors, found


def test_a_panic_of_polars_and_the_end_of_memory_are_our_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(error: BaseException) -> Callable[..., None]:
        def read(*_: object, **__: object) -> None:
            raise error

        return read

    for error, said in (
        (pl.exceptions.PanicException("at line 1"), "Polars gave up"),
        (MemoryError(), "not enough memory"),
    ):
        monkeypatch.setattr("traceanalyzer.analysis.assemble.read", fails(error))
        with pytest.raises(InputError, match=said):
            ta.read(tmp_path)
