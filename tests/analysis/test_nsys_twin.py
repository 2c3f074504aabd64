"""An export of Nsight Systems gives the tables that a Kineto trace of the same run gives."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from inputs.nsys_file import nsys_twin
from planted import Faults, Job, plant
from polars.testing import assert_frame_equal

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.cli import main
from traceanalyzer.job import Job as JobFile
from traceanalyzer.schema import ROUTING, empty
from traceanalyzer.tables import Tables, build_tables
from traceanalyzer.traces import read_traces
from traceanalyzer.traces.input.sqlite_file import PlainTables, UnsafeFileError, plain_tables

JOBS = {
    "labelled 1F1B": Job(pp=2, num_microbatches=4, labels="own", metadata="2022", global_norm=False),
    "torch's runtime, graphs": Job(pp=2, num_microbatches=4, cuda_graphs=True, metadata="2022", steps_ahead=0),
    "no labels": Job(pp=1, dp=2, num_microbatches=2, labels=None, metadata="2022"),
}
PER_FILE = ["index", "cycle", "launch_thread", "match"]


def documents(job: Job, folder: Path) -> list[dict[str, Any]]:
    """The planted traces, without what only Kineto writes: the job's groups and calls without arguments."""
    planted = plant(job, Faults(), folder)
    found = [json.loads(gzip.decompress(p.read_bytes())) for p in sorted(planted.traces.iterdir())]
    for document in found:
        del document["distributedInfo"]
        document["traceEvents"] = [
            e
            for e in document["traceEvents"]
            if e["name"] != "record_param_comms" and e["cat"] != "gpu_user_annotation"
        ]
    return found


def twins(job: Job, folder: Path) -> tuple[Path, Path]:
    kineto, nsys = folder / "kineto", folder / "nsys"
    kineto.mkdir(), nsys.mkdir()
    for rank, document in enumerate(documents(job, folder)):
        (kineto / f"rank{rank}.json").write_text(json.dumps(document))
        nsys_twin(document, nsys / f"report_rank{rank}.sqlite")
    return kineto, nsys


def tables(path: Path, job: JobFile | None = None) -> Tables:
    traces = read_traces(path)
    return build_tables(traces.events, traces.ranks, job, empty(ROUTING))


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", JOBS)
def test_tables_are_those_of_the_kineto_twin(name: str, tmp_path: Path) -> None:
    kineto, nsys = (tables(path) for path in twins(JOBS[name], tmp_path))
    assert kineto.kernels.height > 50
    assert kineto.steps.height == 4
    for table in ("steps", "kernels", "actions", "collectives", "p2p"):
        left, right = getattr(kineto, table), getattr(nsys, table)
        dropped = [column for column in PER_FILE if column in left.columns]
        order = ["rank", "start_ns", "end_ns", *(["stream"] if "stream" in left.columns else [])]
        assert_frame_equal(left.drop(dropped).sort(order), right.drop(dropped).sort(order), categorical_as_str=True)
    threads = pl.col("launch_thread").cast(pl.String)
    assert_frame_equal(
        kineto.kernels.sort("rank", "correlation", "name").select(threads),
        nsys.kernels.sort("rank", "correlation", "name").select(threads),
    )
    assert kineto.ranks["devices"].str.json_path_match("$[0].name").to_list() == (
        nsys.ranks["devices"].str.json_path_match("$[0].name").to_list()
    )
    assert kineto.ranks["host"].to_list() == nsys.ranks["host"].to_list()


def test_figures_are_those_of_the_kineto_twin(tmp_path: Path) -> None:
    kineto, nsys = (analyze(read(path)).review for path in twins(JOBS["labelled 1F1B"], tmp_path))
    assert nsys.step.duration_ms == kineto.step.duration_ms
    assert nsys.accounting.owners == kineto.accounting.owners
    assert {r.metric for r in nsys.quality.withheld} == {r.metric for r in kineto.quality.withheld}


@pytest.mark.wide
def test_tables_of_an_export_are_printed(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    printed: list[pl.DataFrame] = []
    for path in twins(JOBS["labelled 1F1B"], tmp_path):
        assert main(["table", str(path), "steps", "--format", "csv"]) == 0
        printed.append(pl.read_csv(io.BytesIO(capsysbinary.readouterr().out)))
    assert printed[0].height == 4
    assert_frame_equal(*printed)


@pytest.mark.parametrize("stem", ["iteration ", "step=", "Train_Step_"])
def test_ranges_around_iterations_are_steps(stem: str, tmp_path: Path) -> None:
    document = documents(JOBS["no labels"], tmp_path)[0]
    rename = {f"ProfilerStep#{n}": f"{stem}{n}" for n in range(9)}
    path = nsys_twin(document, tmp_path / "rank0.sqlite", rename)
    found = tables(path)
    assert found.steps["step"].to_list() == [1, 2]
    assert not found.steps["open_end"].any()


def test_a_gzipped_export_in_a_folder_is_read_like_a_plain_one(tmp_path: Path) -> None:
    document = documents(JOBS["no labels"], tmp_path)[0]
    plain = nsys_twin(document, tmp_path / "rank0.sqlite")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "rank0.sqlite.gz").write_bytes(gzip.compress(plain.read_bytes()))
    first, second = read_traces(plain), read_traces(tmp_path / "packed")
    assert_frame_equal(first.events, second.events, categorical_as_str=True)
    assert first.counts == second.counts


def test_nothing_but_the_wanted_tables_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE wanted (a INTEGER, b INTEGER AS (a * 2))")
        db.execute("CREATE TABLE other (a INTEGER)")
        db.executemany("INSERT INTO wanted (a) VALUES (?)", [(n,) for n in range(50)])
    db.close()
    with plain_tables(path, {"wanted", "missing"}, longest=1000) as found:
        assert dict(found.columns) == {"wanted": ["a"]}  # what is computed is no column
        assert [row for batch in found.rows("wanted", ("a", "c")) for row in batch] == [(n, None) for n in range(50)]
        for statement in ("SELECT a FROM other", "SELECT hex(a) FROM wanted", "ATTACH 'y' AS y", "DELETE FROM wanted"):
            with pytest.raises(sqlite3.DatabaseError):
                found._connection.execute(statement)
        with pytest.raises(UnsafeFileError, match="more rows than the file has room for"):
            list(PlainTables(found._connection, 100, found.columns).rows("wanted", ("a",)))
    assert not (tmp_path / "y").exists()
