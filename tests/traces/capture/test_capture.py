"""Captures: what they hold, that nobody can damage one unnoticed, and that stopping one costs nothing."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import fsspec
import msgspec
import pytest
from catalogue.base import text, trace, write

from traceanalyzer.cli import main
from traceanalyzer.errors import InputError, OutputError
from traceanalyzer.traces import read_job, read_step_records, read_traces
from traceanalyzer.traces.capture.ingest import ingest
from traceanalyzer.traces.capture.lock import locked
from traceanalyzer.traces.capture.manifest import load_manifest, save_manifest

STEP = {"step": 1, "rank": 0, "start_ns": 1, "end_ns": 2, "profiled": True}
JOB = {
    "kind": "dense",
    "layout": {"pp": 1, "dp": 2, "tp": 1, "ep": 1},
    "model": {
        "num_layers": 1,
        "hidden_size": 8,
        "num_heads": 1,
        "num_kv_heads": 1,
        "head_size": 8,
        "ffn_size": 8,
        "vocab_size": 8,
    },
    "compute_mode": "real",
    "backend": "gloo",
    "dtype": "float32",
    "tokens_per_step": 8,
    "sequence_length": 8,
    "field_of_a_later_version": 1,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for rank in range(2):
        write(tmp_path / "run" / "traces", text(trace(rank, 2)), f"rank{rank:05d}.json")
    return tmp_path / "run"


def test_a_manifest_that_names_a_part_elsewhere_is_refused_even_if_it_is_signed(folder: Path, tmp_path: Path) -> None:
    ingest([folder], tmp_path / "c")
    manifest = load_manifest(tmp_path / "c")
    save_manifest(tmp_path / "c", msgspec.structs.replace(manifest, side_files={"../secret": "0" * 64}))
    with pytest.raises(InputError, match="outside the capture"):
        read_traces(tmp_path / "c")


def test_second_ingest_reads_nothing(folder: Path, tmp_path: Path) -> None:
    assert ingest([folder], tmp_path / "c").num_read == 2
    again = ingest([folder], tmp_path / "c")
    assert (again.num_read, again.num_unchanged) == (0, 2)


def test_changed_source_is_read_again(folder: Path, tmp_path: Path) -> None:
    ingest([folder], tmp_path / "c")
    write(folder / "traces", text(trace(1, 2)).replace("aten::op1", "aten::other"), "rank00001.json")
    assert ingest([folder], tmp_path / "c").num_read == 1
    events = read_traces(tmp_path / "c").events
    assert events.equals(read_traces(folder).events)
    assert len(list((tmp_path / "c").rglob("*.parquet"))) == 2


def test_capture_grows_by_new_sources(folder: Path, tmp_path: Path) -> None:
    one, other = sorted((folder / "traces").iterdir())
    ingest([one], tmp_path / "c")
    ingest([other], tmp_path / "c")
    assert read_traces(tmp_path / "c").ranks["rank"].to_list() == [0, 1]


def test_workers_change_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("traceanalyzer.traces.capture.ingest._WORTH_WORKERS", 0)
    ingest([folder], tmp_path / "c", num_workers=2)
    assert read_traces(tmp_path / "c").events.equals(read_traces(folder).events)


def test_capture_is_whole_without_its_run_folder(folder: Path, tmp_path: Path) -> None:
    write(folder, json.dumps(JOB), "run.json")
    write(folder / "steps", json.dumps(STEP) + "\n" + json.dumps(STEP | {"step": 2})[:20], "rank00000.jsonl")
    ingest([folder], tmp_path / "c")
    traces = read_traces(tmp_path / "c")
    assert traces.run_folder == tmp_path / "c"
    assert read_job(tmp_path / "c") == read_job(folder) is not None
    assert read_step_records(tmp_path / "c")["step"].to_list() == [1]
    assert "run.damaged_line" in traces.defects["code"]


def test_every_flipped_byte_is_noticed(folder: Path, tmp_path: Path) -> None:
    capture = tmp_path / "c"
    ingest([folder], capture)
    rng = random.Random(1)  # noqa: S311 - places to damage, no secret
    for part in capture.rglob("*.parquet"):
        sound = part.read_bytes()
        for _ in range(20):
            damaged = bytearray(sound)
            damaged[rng.randrange(len(sound))] ^= 1 << rng.randrange(8)
            part.write_bytes(damaged)
            with pytest.raises(InputError, match=str(part)):
                read_traces(capture)
        part.write_bytes(sound)
    read_traces(capture)


def test_check_notices_a_changed_part(folder: Path, tmp_path: Path) -> None:
    ingest([folder], tmp_path / "c")
    part = next((tmp_path / "c").rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    assert main(["check", str(tmp_path / "c")]) == 3


def test_sigterm_leaves_nothing_half_done(folder: Path, tmp_path: Path) -> None:
    code = (
        "import os, signal, traceanalyzer.traces.capture.ingest as i; from traceanalyzer.cli import main\n"
        "old = i._Ingest._save\n"
        "i._Ingest._save = lambda self, **k: (old(self, **k), os.kill(os.getpid(), signal.SIGTERM))[0]\n"
        f"raise SystemExit(main(['ingest', {str(folder)!r}, '--out', {str(tmp_path / 'c')!r}]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (143, "")
    assert not (tmp_path / "c" / ".work").exists()
    assert read_traces(tmp_path / "c").ranks["rank"].to_list() == [0]


def test_url_reads_as_its_file(folder: Path) -> None:
    system = fsspec.filesystem("memory")
    for path in (folder / "traces").iterdir():
        system.pipe(f"/bucket/{path.name}", path.read_bytes())
    assert read_traces("memory://bucket").ranks["rank"].to_list() == [0, 1]
    one = read_traces("memory://bucket/rank00001.json")
    assert one.events.equals(read_traces(folder / "traces" / "rank00001.json").events)
    with pytest.raises(InputError, match="holds no trace files"):
        read_traces("memory://nowhere")
    with pytest.raises(InputError):
        read_traces("nosuchprotocol://x/y.json")


def test_glob_reads_what_it_matches(folder: Path) -> None:
    assert read_traces(str(folder / "**" / "rank*1.json")).ranks["rank"].to_list() == [1]
    with pytest.raises(InputError, match="nothing matches"):
        read_traces(str(folder / "*.nothing"))


@pytest.mark.parametrize("content", [b"", b"PAR1PAR1", None])
def test_part_that_is_no_parquet_or_missing(folder: Path, tmp_path: Path, content: bytes | None) -> None:
    ingest([folder], tmp_path / "c")
    part = next((tmp_path / "c").rglob("*.parquet"))
    part.unlink()
    if content is not None:
        part.write_bytes(content)
    with pytest.raises(InputError, match=str(part)):
        read_traces(tmp_path / "c")


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda t: t[: len(t) // 2], "damaged manifest"),
        (lambda t: t.replace('"version": 3', '"version": 7'), "capture version 7"),
        (lambda t: t.replace("events/rank", "../../rank"), "damaged manifest"),
    ],
)
def test_manifest_that_cannot_be_trusted(folder: Path, tmp_path: Path, edit: object, says: str) -> None:
    ingest([folder], tmp_path / "c")
    manifest = tmp_path / "c" / "manifest.json"
    manifest.write_text(edit(manifest.read_text()))  # type: ignore[operator]
    with pytest.raises(InputError, match=says):
        read_traces(tmp_path / "c")


def test_one_writer_at_a_time(folder: Path, tmp_path: Path) -> None:
    ingest([folder], tmp_path / "c")
    with locked(tmp_path / "c"), pytest.raises(OutputError, match="is writing this capture"):
        ingest([folder], tmp_path / "c")


def test_folder_that_is_no_capture_is_left_alone(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "mine", "precious", "notes.txt")
    with pytest.raises(OutputError, match="is not a capture"):
        ingest([folder], tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_out_that_is_a_file(folder: Path, tmp_path: Path) -> None:
    out = write(tmp_path, "precious", "file")
    with pytest.raises(OutputError):
        ingest([folder], out)
    assert out.read_text() == "precious"


def test_nothing_usable_leaves_nothing(tmp_path: Path) -> None:
    bad = write(tmp_path, "hello", "x.json")
    with pytest.raises(InputError):
        ingest([bad], tmp_path / "c")
    assert not (tmp_path / "c" / "manifest.json").exists()
    assert not list((tmp_path / "c").rglob("*.parquet"))


def test_contradiction_leaves_the_capture_as_it_was(folder: Path, tmp_path: Path) -> None:
    ingest([folder], tmp_path / "c")
    before = read_traces(tmp_path / "c").events
    twin = write(tmp_path, text(trace(0, 2)).replace("aten::op1", "aten::other"), "twin.json")
    with pytest.raises(InputError, match=r"both claim rank 0|jobs in one place"):
        ingest([twin], tmp_path / "c")
    assert read_traces(tmp_path / "c").events.equals(before)


def test_interrupt_keeps_finished_ranks_and_says_so(folder: Path, tmp_path: Path) -> None:
    size = (folder / "traces" / "rank00000.json").stat().st_size

    def interrupt(done: int, _total: int) -> None:
        if done > size:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest([folder], tmp_path / "c", progress=interrupt)
    traces = read_traces(tmp_path / "c")
    assert traces.ranks["rank"].to_list() == [0]
    assert "capture.incomplete" in traces.defects["code"]
    assert ingest([folder], tmp_path / "c").num_unchanged == 1
    assert "capture.incomplete" not in read_traces(tmp_path / "c").defects["code"]


def test_leftovers_of_a_killed_writer_are_removed(folder: Path, tmp_path: Path) -> None:
    ingest([folder], tmp_path / "c")
    orphan = write(tmp_path / "c" / "events" / "rank=00009", b"x", "dead-0000.parquet")
    write(tmp_path / "c" / ".work" / "abc", b"x", "0000.parquet")
    halves = [
        write(tmp_path / "c" / part, b"x", f".{name}.ab1.tmp")
        for part, name in ((".", "run.json"), ("steps", "r.jsonl"))
    ]
    ingest([folder], tmp_path / "c")
    assert not orphan.exists()
    assert not any(half.exists() for half in halves)
    assert not (tmp_path / "c" / ".work").exists()


def test_strict_fails_where_data_was_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = write(tmp_path, text(trace())[:6000])
    assert main(["ingest", str(cut), "--out", str(tmp_path / "c"), "--strict"]) == 1
    assert "json.truncated" in capsys.readouterr().out


def test_rank_map_is_remembered(tmp_path: Path) -> None:
    for number in range(2):
        document = trace(number)
        del document["distributedInfo"]
        write(tmp_path / "t", text(document), f"host_{number}77.json")
    ranks = write(tmp_path, '{"host_077*": 1, "host_177.json": 0}', "ranks.json")
    assert main(["ingest", str(tmp_path / "t"), "--out", str(tmp_path / "c"), "--rank-map", str(ranks)]) == 0
    assert read_traces(tmp_path / "c").ranks["rank_source"].to_list() == ["rank_map", "rank_map"]


@pytest.mark.parametrize("content", ["[]", '{"a": -1}', '{"a": "x"}', "nonsense"])
def test_bad_rank_map_is_wrong_usage(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, text(trace()))
    ranks = write(tmp_path, content, "ranks.txt")
    assert main(["check", str(path), "--rank-map", str(ranks)]) == 2


def test_table_in_every_format(folder: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    document = trace()
    document["traceEvents"][5]["name"] = "=HYPERLINK(1)"
    path = write(tmp_path, text(document))
    assert main(["table", str(path), "events", "--format", "csv"]) == 0
    assert b"'=HYPERLINK(1)" in capfdbinary.readouterr().out
    assert main(["table", str(folder), "kernels", "--format", "json", "--ranks", "1"]) == 0
    rows = json.loads(capfdbinary.readouterr().out)
    assert len(rows) == 20
    assert {row["rank"] for row in rows} == {1}
    assert main(["table", str(folder), "ranks", "-o", str(tmp_path / "r.parquet")]) == 0
    assert (tmp_path / "r.parquet").read_bytes()[:4] == b"PAR1"
    assert main(["table", str(folder), "ranks"]) == 0
    assert b"distributed_info" in capfdbinary.readouterr().out
    assert main(["table", str(folder), "events", "--ranks", "x"]) == 2


def test_check_lists_kernels_that_no_rule_knows_by_time(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    document = trace()
    base = {"ph": "X", "cat": "kernel", "pid": 0, "tid": 7}
    named = [("plugh", 1), ("xyzzy", 6), ("plugh", 2), ("ampere_bf16_gemm_128", 11)]
    own = [e for e in document["traceEvents"] if e.get("cat") == "kernel"]
    document["traceEvents"] = [e for e in document["traceEvents"] if e not in own]
    last = max(e["ts"] for e in document["traceEvents"] if "ts" in e)
    document["traceEvents"] += [base | {"name": n, "ts": last - 9 + i, "dur": d} for i, (n, d) in enumerate(named)]
    path = write(tmp_path, text(document))
    assert main(["check", str(path), "--json", "-"]) == 0
    listed = json.loads(capfdbinary.readouterr().out)["unmatched_kernels"]
    assert listed == [
        {"name": "xyzzy", "num_kernels": 1, "duration_ns": 6_000},
        {"name": "plugh", "num_kernels": 2, "duration_ns": 3_000},
    ]
    ingest([path], tmp_path / "c")
    for place in (path, tmp_path / "c"):
        assert main(["check", str(place)]) == 0
        out = capfdbinary.readouterr().out.decode()
        assert "2 names match no rule; they take 45.00% of it" in out
        assert out.index("xyzzy") < out.index("plugh")
