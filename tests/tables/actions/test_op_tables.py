"""Op tables: columns of any name and unit, laid out on one clock, refused with the place where something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from inputs.planted_ops import MS, Planted, run_steps
from polars.testing import assert_frame_equal

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.cli import main
from traceanalyzer.errors import InputError, UsageError
from traceanalyzer.schema import OPS
from traceanalyzer.traces.op_table import is_op_table, load_column_map, read_op_table

ROWS = "rank,stage,step,kind,start_us,duration_us\n0,0,0,F,0,10.5\n1,1,0,F,10.5,10\n1,1,0,B,20.5,20\n0,0,0,B,40.5,20\n"


def written(folder: Path, text: str, name: str = "ops.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_units_kinds_and_missing_columns(tmp_path: Path) -> None:
    ops = read_op_table(written(tmp_path, ROWS))
    assert ops.schema == OPS
    assert ops.select("rank", "kind", "start_ns", "duration_ns", "sequence", "replica", "microbatch").rows() == [
        (0, "forward-compute", 0, 10_500, 0, 0, None),
        (0, "backward-compute", 40_500, 20_000, 0, 0, None),
        (1, "forward-compute", 10_500, 10_000, 0, 0, None),
        (1, "backward-compute", 20_500, 20_000, 0, 0, None),
    ]


def test_integer_nanoseconds_stay_exact(tmp_path: Path) -> None:
    big = (1 << 60) + 1
    text = f"rank,stage,step,kind,start_ns,duration_ns\n0,0,0,F,{big},3\n"
    assert read_op_table(written(tmp_path, text))["start_ns"].to_list() == [big]


def test_a_column_map_gives_other_names(tmp_path: Path) -> None:
    text = ROWS.replace("start_us", "t0").replace("kind", "what")
    columns = written(tmp_path, json.dumps({"kind": "what", "start_us": "t0"}), "map.json")
    mapped = read_op_table(written(tmp_path, text), load_column_map(columns))
    assert_frame_equal(mapped, read_op_table(written(tmp_path, ROWS)))


def test_published_names_and_steps_that_start_anew(tmp_path: Path) -> None:
    text = (
        "dp_rank,stage,rank,step,optype,start_ts,duration,seq_id,mc,mb_id\n"
        "0,0,0,7,forward-compute,0.5,0.25,0,0,0\n0,0,0,7,optimizer,1.0,0.5,0,-1,-1\n"
        "0,0,0,9,forward-compute,0.5,0.25,0,0,0\n0,0,0,9,optimizer,1.0,0.5,0,-1,-1\n"
    )
    ops = read_op_table(written(tmp_path, text))
    assert ops["start_ns"].to_list() == [0, 500_000_000, 1_001_000_000, 1_501_000_000]
    assert ops["microbatch"].to_list() == [0, None, 0, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank,step,kind,start_us,duration_us\n0,0,F,0,1\n", "without column stage"),
        ("rank,stage,step,kind,duration_us\n0,0,0,F,1\n", "without column start_ns"),
        (ROWS.splitlines()[0] + "\n", "without rows"),
        (ROWS + "0,0,0,F,1,-2\n", "row 4"),
        (ROWS + "0,0,0,,1,2\n", "row 4"),
        (ROWS + "zero,0,0,F,1,2\n", "ops.csv"),
        (ROWS + "99999999999999,0,0,F,1,2\n", "not an op table"),
        (ROWS + "0,0,0,F,9e15,2\n", "times beyond"),
        (ROWS + "0,0,0,F,nan,2\n", "not an op table"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_op_table(written(tmp_path, text))


def test_a_parquet_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ops\.parquet: cannot be read"):
        read_op_table(written(tmp_path, "PAR1 no", "ops.parquet"))


def test_a_map_of_absent_columns_or_no_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column what"):
        read_op_table(written(tmp_path, ROWS), {"kind": "what"})
    with pytest.raises(UsageError, match="not a column map"):
        load_column_map(written(tmp_path, "[1]", "map.json"))


def test_only_files_with_the_right_ending_are_op_tables(tmp_path: Path) -> None:
    assert is_op_table(written(tmp_path, ROWS))
    assert not is_op_table(tmp_path)
    assert not is_op_table(written(tmp_path, "{}", "trace.json"))


def planted_csv(folder: Path, planted: Planted, replicas: int = 1) -> Path:
    actions, _, _ = run_steps(4, replicas, 8, planted, num_steps=2)
    frame = pl.DataFrame(actions, infer_schema_length=None).with_columns(
        (pl.col("end_ns") - pl.col("start_ns")).alias("duration_ns"), pl.col("phase").alias("kind")
    )
    path = folder / "ops.csv"
    frame.select("rank", "stage", "step", "kind", "microbatch", "start_ns", "duration_ns").write_csv(path)
    return path


def test_an_op_table_is_analysed_like_a_run(tmp_path: Path) -> None:
    review = analyze(read(planted_csv(tmp_path, Planted().slow_stage(2, 1.3), replicas=3))).review
    assert review.bubble is not None
    assert review.bubble.stragglers_separable
    assert (review.bubble.culprits[0].cause, review.bubble.culprits[0].stages) == ("stage", [2])
    assert {each.stage[0] for each in review.stragglers} == {2}
    assert [item.metric for item in review.quality.withheld if item.metric == "what_if"] == ["what_if"]
    findings = {each.id: each for each in review.findings}
    assert not findings["pipeline.stage"].passed
    lengths = [run_steps(4, 3, 8, planted)[2][0] for planted in (Planted(), Planted().slow_stage(2, 1.3))]
    assert findings["pipeline.stage"].worth_ms == pytest.approx((lengths[1] - lengths[0]) / MS, rel=0.1)
    assert findings["pipeline.straggler"].passed


def test_a_folder_that_holds_one_op_table_beside_other_files_is_that_table(tmp_path: Path) -> None:
    written(tmp_path, '{"published": [1.2, 0.4]}', "result.json")
    written(tmp_path, "a,b\n1,2\n", "notes.csv")
    table = written(tmp_path, ROWS)
    ops = read(tmp_path).ops
    assert ops is not None
    assert_frame_equal(ops, read_op_table(table))
    written(tmp_path, ROWS, "second.csv")
    with pytest.raises(InputError, match=r"no trace, but 2 op tables \(ops.csv, second.csv\)"):
        read(tmp_path)


def test_ops_are_exported_and_read_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = planted_csv(tmp_path, Planted().host_stall(1, 5, 15 * MS))
    copy, text = tmp_path / "copy.parquet", tmp_path / "copy.csv"
    assert main(["table", str(source), "ops", "-o", str(copy)]) == 0
    assert main(["table", str(source), "ops", "--format", "csv", "-o", str(text)]) == 0  # its chunks are empty cells
    assert_frame_equal(read_op_table(copy), read_op_table(source))
    assert_frame_equal(read_op_table(text), read_op_table(source))
    assert main(["analyze", str(copy), "--full"]) == 0
    shown = capfd.readouterr().out
    assert "Why steps are longer than their ideal" in shown
    assert "unexplained" in shown  # an op table tells no launches, so no host can be blamed
    assert "(this run)" in shown


def test_late_starts_are_no_hosts_without_launches(tmp_path: Path) -> None:
    review = analyze(read(planted_csv(tmp_path, Planted().host_stall(1, 5, 15 * MS)))).review
    assert review.bubble is not None
    assert review.bubble.attribution_ms is not None
    assert review.bubble.attribution_ms.host == 0
    assert review.bubble.attribution_ms.unexplained > 0


@pytest.mark.wide
def test_another_tools_table_goes_through_every_command_with_a_column_map(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two ranks, one microbatch: 10 forward, 20 backward each, so the last ends at 60 and each rank is idle for 30."""
    rows = ["who,pp,it,what,t0,dt", "0,0,1,F,0,10", "1,1,1,F,10,10", "1,1,1,B,20,20", "0,0,1,B,40,20"]
    table = written(tmp_path, "\n".join(rows), "theirs.csv")
    names = {"rank": "who", "stage": "pp", "step": "it", "kind": "what", "start_us": "t0", "duration_us": "dt"}
    columns = written(tmp_path, json.dumps(names), "map.json")
    assert main(["analyze", str(table), "--columns", str(columns), "--json", "-"]) == 0
    review = json.loads(capsys.readouterr().out)
    assert review["bubble"]["measured_share"] == pytest.approx(0.5)
    assert main(["report", str(table), "--columns", str(columns), "-o", str(tmp_path / "r.html")]) == 0
    capsys.readouterr()
    exported = tmp_path / "ours.parquet"
    assert main(["table", str(table), "ops", "--column-map", str(columns), "-o", str(exported)]) == 0
    assert main(["analyze", str(exported), "--json", "-"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["bubble"]["measured_share"] == review["bubble"]["measured_share"]
    assert main(["analyze", str(table)]) == 3  # without the map its columns are no op table's
