"""A result that is kept: written whole or not at all, printed, drawn and listed again without a trace."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import stat
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs.hot_experts import hot_run
from inputs.tiny_trace import run_of
from launched.gpipe_run import GPIPE, with_job

from traceanalyzer.analysis import kept
from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.cli import main
from traceanalyzer.errors import InputError, OutputError
from traceanalyzer.review import SCHEMA_VERSION
from traceanalyzer.schema import TABLES, result_tables

Caught = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return with_job(run_of(tmp_path / "run", GPIPE))


@pytest.fixture(scope="module")
def kept_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    assert main(["analyze", str(with_job(run_of(folder / "run", GPIPE))), "--out", str(folder / "result")]) == 0
    shutil.rmtree(folder / "run")
    return folder / "result"


@pytest.fixture
def result(kept_once: Path, tmp_path: Path) -> Path:
    """A kept result of its own for every test, the traces gone."""
    return Path(shutil.copytree(kept_once, tmp_path / "result"))


def refused(arguments: list[str], status: int, told: str, capsys: Caught) -> None:
    assert main(arguments) == status
    message, hint, *more = capsys.readouterr().err.splitlines()
    assert told in message
    assert hint.startswith("  ")
    assert more == []


def test_a_result_holds_the_review_and_every_table(run: Path, tmp_path: Path) -> None:
    assert main(["analyze", str(run), "--out", str(tmp_path / "result")]) == 0
    analysis = analyze(read(run))
    found = kept.read_result(tmp_path / "result")
    assert {**json.loads(kept.to_json(found.review)), "created": ""} == {
        **json.loads(kept.to_json(analysis.review)),
        "created": "",
    }
    assert set(found.tables) == set(result_tables())
    for name, frame in analysis.tables.items():
        assert frame.equals(found.tables[name])
        assert found.tables[name].schema == TABLES[name].schema
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["result", "run"]


def test_a_result_is_readable_by_its_owner_only(kept_once: Path) -> None:
    below = list(kept_once.rglob("*"))
    modes = {stat.S_IMODE(path.stat().st_mode) for path in [kept_once, *below]}
    assert modes == {0o700, 0o600}
    assert {path for path in below if stat.S_IMODE(path.stat().st_mode) == 0o700} == {kept_once / "tables"}


def test_a_result_is_printed_again(run: Path, tmp_path: Path, capsys: Caught) -> None:
    assert main(["analyze", str(run), "--out", str(tmp_path / "result")]) == 0
    first = capsys.readouterr().out
    shutil.rmtree(run)
    for path in (tmp_path / "result", tmp_path / "result/review.json"):
        assert main(["analyze", str(path)]) == 0
        assert capsys.readouterr().out == first
    assert main(["analyze", str(tmp_path / "result"), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "result/review.json").read_text())


def test_tables_of_a_result(result: Path, capsys: Caught) -> None:
    assert main(["table", str(result), "actions", "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 9
    assert main(["table", str(result), "actions", "--ranks", "1", "--format", "json"]) == 0
    assert {row["rank"] for row in json.loads(capsys.readouterr().out)} == {1}
    refused(["table", str(result), "events"], 2, "does not hold the table events", capsys)


def test_every_table_is_listed_with_what_it_holds(run: Path, result: Path, capsys: Caught) -> None:
    assert main(["table", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(TABLES)
    assert all(TABLES[line.split()[0]].meaning in line for line in lines)
    refused(["table", str(run), "nonsense"], 2, "there is no table nonsense", capsys)
    for name in result_tables():
        assert main(["table", str(result), name]) == 0
    for name in set(TABLES) - set(result_tables()):
        assert main(["table", str(run), name]) == 0


def test_a_report_of_a_result_is_that_of_the_run(run: Path, tmp_path: Path) -> None:
    assert main(["analyze", str(run), "--out", str(tmp_path / "result")]) == 0
    assert main(["report", str(run), "-o", str(tmp_path / "run.html")]) == 0
    shutil.rmtree(run)
    assert main(["report", str(tmp_path / "result"), "-o", str(tmp_path / "result.html")]) == 0
    created = json.loads((tmp_path / "result/review.json").read_text())["created"]
    assert created in (tmp_path / "result.html").read_text()
    sizes = [(tmp_path / name).stat().st_size for name in ("run.html", "result.html")]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-3)
    assert "did not come with this review" not in (tmp_path / "result.html").read_text()


def test_a_report_of_a_review_alone_says_which_tables_are_missing(result: Path, tmp_path: Path) -> None:
    alone = tmp_path / "other.json"
    shutil.copy(result / "review.json", alone)
    assert main(["report", str(alone), "-o", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert "This section needs the tables actions and ideal_actions, which did not come with this review." in page
    assert "This section needs the table bubble, which did not come with this review." in page
    assert "the tables routing" not in page  # nothing was exchanged between experts


@pytest.mark.wide
def test_tables_that_were_taken_out_of_a_result_are_missed(tmp_path: Path) -> None:
    assert main(["analyze", str(hot_run(tmp_path / "run")), "--out", str(tmp_path / "result")]) == 0
    (tmp_path / "result/tables/routing.parquet").unlink()
    assert main(["report", str(tmp_path / "result"), "-o", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert "This section needs the table routing, which did not come with this review." in page


@pytest.mark.parametrize(
    "options", [["--ranks", "0"], ["--steps", "1"], ["--job", "x.json"], ["--peak-tflops", "3"], ["--rank-map", "m"]]
)
def test_a_result_cannot_be_changed_by_options(result: Path, options: list[str], capsys: Caught) -> None:
    for command in ("analyze", "report"):
        refused([command, str(result), *options], 2, f"which {options[0]} cannot change", capsys)


def test_a_result_is_kept_once(result: Path, tmp_path: Path, capsys: Caught) -> None:
    refused(["analyze", str(result), "--out", str(tmp_path / "again")], 2, "is already a kept result", capsys)


@pytest.mark.wide
def test_a_result_is_replaced_and_nothing_else_is(run: Path, tmp_path: Path, capsys: Caught) -> None:
    out = tmp_path / "result"
    assert main(["analyze", str(run), "--out", str(out)]) == 0
    before = (out / "review.json").stat().st_ino
    assert main(["analyze", str(run), "--out", str(out)]) == 0
    assert (out / "review.json").stat().st_ino != before
    capsys.readouterr()
    (out / "notes.txt").write_text("mine")
    refused(["analyze", str(run), "--out", str(out)], 2, "already exists and is not a result", capsys)
    assert (out / "notes.txt").read_text() == "mine"
    for other in (run, tmp_path / "file", tmp_path / "link"):
        if other.name == "file":
            other.write_text("mine")
        if other.name == "link":
            other.symlink_to(out)
        refused(["analyze", str(run), "--out", str(other)], 2, "already exists and is not a result", capsys)
    (tmp_path / "empty").mkdir()
    assert main(["analyze", str(run), "--out", str(tmp_path / "empty")]) == 0
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_a_result_that_cannot_be_written_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Caught
) -> None:
    refused(["analyze", str(run), "--out", str(tmp_path / "no/result")], 4, "cannot be written", capsys)
    out = tmp_path / "result"
    assert main(["analyze", str(run), "--out", str(out)]) == 0
    before = (out / "review.json").read_bytes()
    analysis = analyze(read(run))

    def full(_path: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "write_atomically", full)
    with pytest.raises(OutputError, match="No space left"):
        kept.keep_result(analysis.review, analysis.tables, out)
    assert (out / "review.json").read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["result", "run"]


def test_a_run_folder_with_a_review_beside_its_traces_is_a_run(run: Path) -> None:
    assert main(["analyze", str(run), "--json", str(run / "review.json")]) == 0
    assert main(["analyze", str(run), "--ranks", "0"]) == 0
    assert not kept.is_result(run)
    assert kept.is_result(run / "review.json")


def test_results_and_traces_are_recognised_by_content(run: Path, result_json: dict[str, Any], tmp_path: Path) -> None:
    trace = tmp_path / "review.json"
    shutil.copy(run / "traces/rank00000.json", trace)
    assert not kept.is_result(trace)
    ordered = tmp_path / "sorted.json"
    ordered.write_text(json.dumps(result_json, sort_keys=True))
    assert kept.is_result(ordered)
    assert main(["analyze", str(ordered)]) == 0
    other = tmp_path / "other.json"
    other.write_text(
        json.dumps({"schema_version": SCHEMA_VERSION, "tool": "a trace of something else"}, sort_keys=True)
    )
    assert main(["analyze", str(other)]) == 3


@pytest.fixture
def result_json(run: Path) -> dict[str, Any]:
    return json.loads(kept.to_json(analyze(read(run)).review))


@pytest.mark.parametrize("command", ["analyze", "report"])
def test_a_damaged_result_is_one_line(command: str, result: Path, tmp_path: Path, capsys: Caught) -> None:
    output = ["-o", str(tmp_path / "r.html")] if command == "report" else []
    file = result / "review.json"
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    refused([command, str(result), *output], 3, "not a review, or a damaged one", capsys)
    file.write_text(whole.replace(f'"schema_version": {SCHEMA_VERSION}', f'"schema_version": {SCHEMA_VERSION + 1}'))
    refused([command, str(result), *output], 3, f"a review of version {SCHEMA_VERSION + 1}", capsys)
    file.write_text(whole)
    table = result / "tables/steps.parquet"
    content = table.read_bytes()
    for damage in (b"", content[: len(content) // 2], b"x" * len(content)):
        table.write_bytes(damage)
        refused([command, str(result), *output], 3, "steps.parquet: damaged: its checksum does not hold", capsys)
    pl.DataFrame({"rank": [0]}).write_parquet(table)
    sums = result / "tables/sha256.json"
    known = json.loads(sums.read_text())
    sums.write_text(json.dumps(known | {"steps": hashlib.sha256(table.read_bytes()).hexdigest()}))
    refused([command, str(result), *output], 3, "its columns are not those of the table steps", capsys)
    sums.write_text("{")
    refused([command, str(result), *output], 3, "sha256.json: cannot be read", capsys)
    assert not (tmp_path / "r.html").exists()


def test_a_loss_is_remembered(run: Path, tmp_path: Path, capsys: Caught) -> None:
    path = run / "traces/rank00001.json"
    path.write_text(path.read_text().replace('"traceEvents": [', '"traceEvents": [{"ph": "X", "name": "x"}, '))
    assert main(["analyze", str(run), "--out", str(tmp_path / "result")]) == 0
    capsys.readouterr()
    refused(["analyze", str(tmp_path / "result"), "--strict"], 1, "event.no_start", capsys)


@pytest.fixture(scope="module")
def whole_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    assert main(["analyze", str(hot_run(folder / "run")), "--out", str(folder / "result")]) == 0
    return folder / "result"


@given(rng=st.randoms(use_true_random=False), name=st.sampled_from(["collectives", "steps", "traffic", "ranks"]))
def test_a_damaged_table_is_never_read(whole_table: Path, rng: random.Random, name: str) -> None:
    file = whole_table / f"tables/{name}.parquet"
    whole = file.read_bytes()
    data = bytearray(whole)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
    try:
        with pytest.raises(InputError, match="its checksum does not hold"):
            kept.read_table(whole_table, name)
    finally:
        file.write_bytes(whole)


def test_a_number_changed_in_a_kept_review_is_noticed(result: Path, capsys: Caught) -> None:
    file = result / "review.json"
    text = file.read_text()
    at = next(i for i, c in enumerate(text) if c.isdigit() and i > len(text) // 2)
    file.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])
    refused(["analyze", str(result)], 3, "damaged: its checksum does not hold", capsys)
