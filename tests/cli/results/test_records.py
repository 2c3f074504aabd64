"""What commands write with `--json` is what `schema` says, alone on standard output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from inputs.tiny_trace import run_of
from launched.gpipe_run import GPIPE, with_job

from traceanalyzer.cli import main
from traceanalyzer.cli.records import COMMANDS_WITH_SCHEMA

Caught = pytest.CaptureFixture[str]
PLAN = [
    "plan",
    "job",
    "--model",
    "llama-3-8b",
    "--gpus",
    "16",
    "--hardware",
    "DGX H100",
    "--seq",
    "4096",
    "--batch",
    "64",
]


def schema_of(command: str, capsys: Caught) -> dict[str, Any]:
    assert main(["schema", *command.split()]) == 0
    return json.loads(capsys.readouterr().out)


def written(arguments: list[str], command: str, capsys: Caught) -> dict[str, Any]:
    """What a command writes, checked against its schema."""
    capsys.readouterr()
    assert main([*arguments, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema_of(command, capsys))
    return found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return with_job(run_of(tmp_path / "run", GPIPE))


def test_every_schema_describes_an_object_with_fields(capsys: Caught) -> None:
    for command in COMMANDS_WITH_SCHEMA:
        schema = schema_of(command, capsys)
        jsonschema.Draft202012Validator.check_schema(schema)
        described = schema["$defs"][schema["$ref"].rsplit("/", 1)[1]]
        assert "schema_version" in described["properties"], command


def test_check_and_ingest_tell_what_was_read(run: Path, tmp_path: Path, capsys: Caught) -> None:
    found = written(["check", str(run)], "check", capsys)
    assert [rank["rank"] for rank in found["ranks"]] == [0, 1]
    counts = found["counts"]
    assert counts["events_seen"] == counts["events_kept"] + sum(counts["events_dropped"].values()) == 10
    capture = str(tmp_path / "capture")
    first = written(["ingest", str(run), "--out", capture], "ingest", capsys)
    assert (first["num_files_read"], first["num_files_unchanged"], first["ranks"]) == (2, 0, [0, 1])
    again = written(["ingest", str(run), "--out", capture], "ingest", capsys)
    assert (again["num_files_read"], again["num_files_unchanged"]) == (0, 2)
    assert again["counts"] == first["counts"] == counts


def test_analyze_and_report_write_the_review(run: Path, tmp_path: Path, capsys: Caught) -> None:
    review = written(["analyze", str(run)], "analyze", capsys)
    reported = written(["report", str(run), "-o", str(tmp_path / "r.html")], "report", capsys)
    assert {**reported, "created": ""} == {**review, "created": ""}


def test_predictions_and_plans(capsys: Caught) -> None:
    found = written(["predict", "-s", "1F1B", "-p", "3", "-m", "7"], "predict", capsys)
    assert found["schedules"][0]["closed_form"]["bubble_share"] == pytest.approx(2 / 9)
    plan = written(PLAN, "plan job", capsys)
    assert plan["ranked"][0]["step_ms"] <= plan["ranked"][-1]["step_ms"]


def test_tables_are_listed(run: Path, capsys: Caught) -> None:
    assert "kernels" in {table["name"] for table in written(["table", str(run)], "table", capsys)["tables"]}


def test_a_gate_is_told_by_its_files_and_limits(run: Path, tmp_path: Path, capsys: Caught) -> None:
    asked = ["gate", "init", str(run), "-o", str(tmp_path / "g.toml")]
    found = written(asked, "gate init", capsys)
    assert (found["gate"], found["baseline"]) == (str(tmp_path / "g.toml"), str(tmp_path / "baseline.json"))
    assert "step.duration_ms.median" in found["paths"]
    assert found["min_ranks"] == 2
    assert main([*asked, "--json", "-"]) == 2
    assert not capsys.readouterr().out


def test_what_a_gate_found_is_told_limit_by_limit(run: Path, tmp_path: Path, capsys: Caught) -> None:
    gate = tmp_path / "g.toml"
    gate.write_text(
        "on_withheld = 'skip'\nmin_ranks = 2\n[[limit]]\npath = 'bubble.measured_share'\nmax = 0.1\n"
        "[[limit]]\npath = 'mfu.mfu'\nmin = 0.4\n"
    )
    capsys.readouterr()
    assert main(["analyze", str(run), "--gate", str(gate), "--gate-json", "-"]) == 1
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema_of("gate", capsys))
    assert (found["passed"], found["num_held"], found["num_broken"], found["num_skipped"]) == (False, 1, 1, 1)
    ranks, bubble, mfu = found["outcomes"]
    assert (ranks["value"], ranks["at_least"], ranks["status"]) == (2, 2, "held")
    assert bubble["value"] == pytest.approx(1 / 3)
    assert (bubble["at_most"], bubble["at_least"], bubble["is_withheld"]) == (0.1, None, False)
    assert (mfu["is_withheld"], mfu["value"]) == (True, None)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--gate-json", "x.json"], "--gate-json writes the outcome of a gate, and none is given"),
        (["--gate", "g.toml", "--gate-json", "-", "--json", "-"], "write to one place"),
        (["--gate", "g.toml", "--gate-json", "-", "--junit", "-"], "write to one place"),
    ],
)
def test_standard_output_holds_one_thing(options: list[str], told: str, run: Path, capsys: Caught) -> None:
    assert main(["analyze", str(run), *options]) == 2
    assert told in capsys.readouterr().err


def test_a_timeline_is_told_by_what_is_in_it(run: Path, tmp_path: Path, capsys: Caught) -> None:
    for name, form in (("a.pftrace", "perfetto"), ("a.json.gz", "json")):
        file = tmp_path / name
        found = written(["perfetto", str(run), "-o", str(file)], "perfetto", capsys)
        assert (found["file"], found["format"], found["num_bytes"]) == (str(file), form, file.stat().st_size)
        assert found["num_processes"] >= 2
    assert main(["perfetto", str(run), "-o", str(tmp_path / "no" / "a.json"), "--json", "-"]) == 4
    assert not capsys.readouterr().out


def test_run_tells_where_it_is(tmp_path: Path, capsys: Caught, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "traceanalyzer.cli.running.run.launch", lambda _kind, settings, _tell, _files, _nodes: Path(settings.folder)
    )
    found = written(["run", "dense", "--steps", "1", "--seed", "5", "--out", str(tmp_path / "d")], "run", capsys)
    assert (found["folder"], found["kind"], found["num_ranks"]) == (str(tmp_path / "d"), "dense", 1)
    assert found["settings"]["seed"] == 5


def test_a_sweep_has_a_file_of_its_own(tmp_path: Path, capsys: Caught) -> None:
    asked = ["run", "--sweep", "microbatches=4,8", "--out", str(tmp_path / "s"), "--json", "-"]
    assert main(asked) == 2
    assert "sweep.json" in capsys.readouterr().err


def test_a_command_without_record_is_refused(capsys: Caught) -> None:
    assert main(["schema", "plan", "nothing"]) == 2
    message, hint = capsys.readouterr().err.splitlines()
    assert "plan nothing" in message
    assert "plan job" in hint
