"""What the command line is given: values of run.json, lists of ranks, rank maps, outputs; each refusal names its cause."""

from __future__ import annotations

import copy
import io
import json
import shutil
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from inputs.tiny_trace import TinyRank, run_of

from instrumented_runs.launching.launch import clear
from instrumented_runs.pacing.faults import write_truth
from instrumented_runs.pipeline.plan import plan_order
from instrumented_runs.settings import PipelineSettings
from traceanalyzer.analysis.assemble import read
from traceanalyzer.cli import main
from traceanalyzer.cli.options.reading import Meter
from traceanalyzer.errors import InputError, OutputError

GPIPE = ["0F0@0-10 0B0@30-50", "1F0@10-20 1B0@20-30"]
JOB: dict[str, Any] = {
    "kind": "pipeline", "compute_mode": "real", "backend": "gloo", "dtype": "float32", "status": "completed",
    "layout": {"pp": 2, "dp": 1, "tp": 1, "ep": 1}, "tokens_per_step": 64, "sequence_length": 16,
    "schedule": "GPipe", "num_stages": 2, "num_microbatches": 1, "num_chunks": 1, "recompute": "full",
    "model": {
        "num_layers": 4, "hidden_size": 8, "num_heads": 2, "num_kv_heads": 2, "head_size": 4, "ffn_size": 16,
        "vocab_size": 32,
    },
    "hardware": {
        "device": "cpu",
        "measured_peak": {"flops_per_second": 1e9, "shape": [8, 8, 8], "dtype": "float32", "num_threads": 1},
    },
    "pacing": {"forward_ms": 1.0}, "unprofiled_step_ms": 1.0,
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return run_of(tmp_path / "run", GPIPE)


def describe(run: Path, field: str = "", value: object = None) -> Path:
    """Write `run.json` with one field, such as `layout.pp`, set to `value`."""
    job = copy.deepcopy(JOB)
    *outer, last = field.split(".")
    place = job
    for name in outer:
        place = place[name]
    if last:
        place[last] = value
    (run / "run.json").write_text(json.dumps(job))
    return run


def test_the_description_itself_is_accepted(run: Path) -> None:
    assert main(["analyze", str(describe(run))]) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("recompute", "foo"),
        ("tokens_per_step", 0),
        ("tokens_per_step", -1),
        ("sequence_length", 0),
        ("num_stages", 0),
        ("num_microbatches", -2),
        ("num_chunks", 0),
        ("unprofiled_step_ms", 0),
        ("pacing.forward_ms", -1),
        ("layout.pp", 0),
        ("layout.dp", 1 << 40),
        ("layout.ep", 3),
        ("model.hidden_size", 0),
        ("model.vocab_size", 0),
        ("model.num_layers", -4),
        ("model.num_layers", 1 << 40),
        ("hardware.num_devices", 0),
        ("hardware.measured_peak.flops_per_second", 0),
        ("hardware.measured_peak.dtype", "foo"),
    ],
)
def test_values_no_job_can_have(run: Path, field: str, value: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(describe(run, field, value))]) == 3
    told = capsys.readouterr()
    reason, remedy = told.err.splitlines()
    named = {"dtype": "number format", "hidden_size": "hidden size", "vocab_size": "vocabulary"}
    last = field.rsplit(".", 1)[-1]
    place = "layout" if field == "layout.dp" else "degrees" if field == "layout.pp" else named.get(last, last)
    assert "run.json" in reason
    assert place in reason
    assert remedy.startswith("  ")
    assert told.out == ""


@pytest.mark.parametrize("field", ["tokens_per_step", "sequence_length"])
def test_a_loop_of_which_nothing_is_known_may_say_so(run: Path, field: str) -> None:
    """The recorder for any loop writes a model without layers and no tokens."""
    describe(run)
    job = json.loads((run / "run.json").read_text())
    job["model"] = dict.fromkeys(job["model"], 0)
    job[field] = 0
    (run / "run.json").write_text(json.dumps(job))
    assert main(["analyze", str(run)]) == 0


def test_a_peak_may_be_declared_for_an_unknown_number_format(run: Path) -> None:
    assert main(["analyze", str(describe(run, "dtype", "unknown")), "--peak-tflops", "1"]) == 0


def test_a_job_file_beside_the_traces_is_held_to_the_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = describe(run, "layout.pp", 0) / "run.json"
    moved = other.rename(run.parent / "job.json")
    assert main(["analyze", str(run), "--job", str(moved)]) == 3
    assert "job.json" in capsys.readouterr().err


@pytest.mark.parametrize(("ranks", "kept"), [("0", [0]), ("0-1", [0, 1]), ("1,7-9", [1]), ("0-999999999", [0, 1])])
def test_ranks_are_chosen_by_ranges(run: Path, ranks: str, kept: list[int], capsysbinary: Any) -> None:
    assert main(["table", str(run), "ranks", "--ranks", ranks, "--format", "csv"]) == 0
    assert pl.read_csv(io.BytesIO(capsysbinary.readouterr().out))["rank"].to_list() == kept


@pytest.mark.parametrize("ranks", ["0-99999999999", "²", "5-", "5-2", "-1", "", "1,,2", "a"])
def test_lists_that_are_no_ranks(run: Path, ranks: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(run), "ranks", f"--ranks={ranks}"]) == 2
    assert "not a list of ranks" in capsys.readouterr().err


def test_choices_are_listed_once(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(run), "nosuch"]) == 2
    assert capsys.readouterr().err.count("load_statistics") == 1
    assert main(["table", "--help"]) == 0
    assert "Without NAME all tables are listed" in capsys.readouterr().out
    assert main(["table", str(run)]) == 0
    assert capsys.readouterr().out.count("load_statistics") == 1


@pytest.mark.parametrize("command", [["analyze"], ["report"], ["table", "steps"], ["check"]])
def test_rank_maps_are_read_by_every_command(run: Path, command: list[str], tmp_path: Path) -> None:
    name, *rest = command
    output = ["-o", str(tmp_path / "r.html")] if name == "report" else []
    assert main([name, str(run), *rest, *output, "--rank-map", str(tmp_path / "nope.json")]) == 2


def test_a_rank_map_shows_ranks(tmp_path: Path, capsysbinary: Any) -> None:
    for rank in (0, 1):
        document = TinyRank(rank, 2).annotate(f"compute:{rank}F0", 0, 10).step(1, 0, 10).document()
        del document["distributedInfo"]
        (tmp_path / f"{'ab'[rank]}.json").write_text(json.dumps(document))
    (tmp_path / "map").write_text('{"a.json": 4, "b.json": 6}')
    assert main(["analyze", str(tmp_path)]) == 3
    capsysbinary.readouterr()
    command = ["table", str(tmp_path), "steps", "--rank-map", str(tmp_path / "map"), "--format", "csv"]
    assert main(command) == 0
    assert pl.read_csv(io.BytesIO(capsysbinary.readouterr().out))["rank"].to_list() == [4, 6]
    assert main(["analyze", str(tmp_path), "--rank-map", str(tmp_path / "map")]) == 0


def test_urls_are_read(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    memory = fsspec.filesystem("memory")
    for path in (run / "traces").iterdir():
        memory.pipe(f"/cli_inputs/{path.name}", path.read_bytes())
    for url in ("memory://cli_inputs", (run / "traces").as_uri()):
        assert main(["analyze", url, "--json", "-"]) == 0
        review = json.loads(capsys.readouterr().out)
        assert review["source"]["path"] == url
        assert review["quality"]["num_ranks_found"] == 2


def test_report_keeps_standard_output_for_json(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run), "-o", str(tmp_path / "r.html"), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["quality"]["num_ranks_found"] == 2


def test_a_report_needs_a_file(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(run), "-o", "-"]) == 2
    assert not Path("-").exists()


def test_a_copy_of_a_file_is_no_loss(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(run / "traces/rank00000.json", run / "traces/rank00000_copy.json")
    for command in ("check", "analyze"):
        assert main([command, str(run), "--strict"]) == 0
    assert "could not be used" not in capsys.readouterr().out


def test_a_loss_fails_every_strict_command_and_is_reported_in_words(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "traces/rank00001.json"
    path.write_text(path.read_text().replace('"traceEvents": [', '"traceEvents": [{"ph": "X", "name": "x"}, '))
    for command in ("check", "analyze"):
        assert main([command, str(run), "--strict"]) == 1
        told = capsys.readouterr()
        assert "event.no_start" in told.err
    assert "1 of 7 events could not be used: 1 no start." in told.out


@pytest.mark.parametrize("below", ["/proc/foo", "file/run"])
def test_a_run_folder_that_cannot_be_made(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot hold a run"):
        clear(tmp_path / below)
    with pytest.raises(OutputError, match=r"truth\.json: cannot be written"):
        write_truth(tmp_path / f"{below}.truth.json", tmp_path / below, [])


def test_an_order_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nope\.csv: cannot be read: No such file or directory"):
        plan_order(PipelineSettings(folder=str(tmp_path)), tmp_path / "nope.csv")


def test_progress_of_few_bytes_has_a_decimal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([0.0, 2.0])
    monkeypatch.setattr("traceanalyzer.cli.options.reading.time.monotonic", lambda: next(moments))
    Meter("read")(200_000, 400_000)
    assert capsys.readouterr().err.strip() == "read 0.2 of 0.4 MB, 0.1 MB/s, 2 s left"


def test_long_work_shows_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([0.0, 0.5, 2.0, 2.5])
    monkeypatch.setattr("traceanalyzer.cli.options.reading.time.monotonic", lambda: next(moments))
    meter = Meter("read")
    meter(10_000_000, 400_000_000)
    assert capsys.readouterr().err == ""  # half a second is not worth a line
    meter(100_000_000, 400_000_000)
    assert capsys.readouterr().err.strip() == "read 100 of 400 MB, 50.0 MB/s, 6 s left"
    meter(110_000_000, 400_000_000)
    meter.next("measuring 7 events")
    assert capsys.readouterr().err.strip() == "measuring 7 events"


def test_reading_counts_every_byte(tmp_path: Path) -> None:
    run_of(tmp_path, ["0F0@0-10 0B0@30-50", "1F0@10-20 1B0@20-30"])
    told: list[tuple[int, int]] = []
    read(tmp_path, progress=lambda done, total: told.append((done, total)))
    size = sum(path.stat().st_size for path in tmp_path.rglob("rank*.json*"))
    assert told[-1] == (size, size)
