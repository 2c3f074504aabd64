"""Inputs made to break a reader: sizes that cannot be, texts that a terminal would obey, links that lead out, settings that expand.

Every case ends with status 0 or 3, in a few seconds, with at most one line and a remedy, and without a control byte.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from catalogue.base import each_complete, text, trace, write
from inputs.flight_dumps import call, dumped
from planted import Faults, Job, plant

from traceanalyzer.cli import main

COMMANDS = {
    "check": ["check"],
    "analyze": ["analyze"],
    "ingest": ["ingest", "--out", "{out}/capture"],
    "report": ["report", "-o", "{out}/page.html"],
}


def outcome(
    command: str, path: Path | str, out: Path, capfd: pytest.CaptureFixture[str], *more: str
) -> tuple[int, str]:
    """Status and everything that was said; the terms that hold of every input are checked."""
    words = [word.format(out=out) for word in COMMANDS[command]]
    status = main([words[0], str(path), *words[1:], *more])
    printed, error = capfd.readouterr()
    assert status in (0, 3), error
    assert status == 0 or len(error.strip().splitlines()) == 2
    assert all(c.isprintable() or c == "\n" for c in printed + error)
    assert "Warning" not in error
    return status, printed + error


def planted_with(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """A pipeline of two ranks, every call of the process group edited."""

    planted = plant(Job(pp=2, num_microbatches=2, num_steps=2), Faults(), folder / "planted")
    for file in planted.traces.rglob("*.json.gz"):
        document = json.loads(gzip.decompress(file.read_bytes()))
        for event in document["traceEvents"]:
            if "Group size" in (event.get("args") or {}):
                edit(event["args"])
        file.write_bytes(gzip.compress(json.dumps(document).encode(), 1))
    return planted.traces


@pytest.mark.parametrize("size", [2**25, 2**31, 2**40, 2**63 - 1, 10**22])
@pytest.mark.parametrize("listed", ["[0, 1]", None, "[0, 1, ..., 7]"])
@pytest.mark.sweep(3)
def test_a_group_larger_than_the_job_is_no_allocation(
    size: int, listed: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def edit(args: dict[str, Any]) -> None:
        args |= {"Group size": size, "Global rank start": 0, "Global rank stride": 1}
        args["Process Group Ranks"] = listed
        args["Process Group Name"] = "unlisted"

    status, said = outcome("analyze", planted_with(tmp_path, edit), tmp_path, capfd)
    assert status == 0
    assert "step" in said


def test_a_stride_and_a_start_that_overflow_name_no_group(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def edit(args: dict[str, Any]) -> None:
        del args["Process Group Ranks"]
        args |= {"Group size": 2, "Global rank start": 2**62, "Global rank stride": 2**61, "Process Group Name": "x"}

    assert outcome("analyze", planted_with(tmp_path, edit), tmp_path, capfd)[0] == 0


NUMBERED = ("ProfilerStep#{}", "nccl:send 0->{}", "nccl:recv {}<-0", "compute:{}F0", "compute:0F{}", "PP:{}B1", "moe:experts|layer={}", "train_step {}")  # fmt: skip


@pytest.mark.parametrize("digits", [11, 20, 45])
@pytest.mark.parametrize("name", NUMBERED)
@pytest.mark.sweep(6)
def test_a_number_in_a_name_that_fits_no_column_is_left_out(
    name: str, digits: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    document = trace(0, 1)
    odd = {"ph": "X", "cat": "user_annotation", "name": name.format("8" * digits), "pid": 4242, "tid": 100}
    document["traceEvents"] += [odd | {"ts": 100_010.0 + 40 * n, "dur": 30.0, "args": {}} for n in range(5)]
    assert outcome("analyze", write(tmp_path, text(document)), tmp_path, capfd)[0] == 0


@pytest.mark.parametrize("field", ["ts", "dur"])
@pytest.mark.parametrize("value", [9.3e18 / 1000, 5e15, "9223372036854775807", 1e300])
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.sweep(4)
def test_times_beyond_64_bits_are_counted(
    field: str, value: object, every: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    document = trace(0, 1)
    each_complete(document, lambda event: event.update({field: value}), every)
    status, said = outcome("analyze", write(tmp_path, text(document)), tmp_path, capfd)
    assert status == 3 or "0 of 65" not in said


def test_a_trace_whose_durations_are_all_zero_is_measured(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    document = trace(0, 1)
    each_complete(document, lambda event: event.update(dur=0))
    path = write(tmp_path, text(document))
    for command in ("analyze", "report"):
        assert outcome(command, path, tmp_path, capfd)[0] == 0


DUMPS: dict[str, dict[str, Any]] = {
    "nan": {"duration_ms": float("nan")},
    "infinite": {"duration_ms": float("inf")},
    "long": {"duration_ms": 10**400},
    "state": {"state": "\x1b]0;owned\x07\x1b[31m"},
    "surrogate": {"process_group": ["\ud83d", "default\udcff"]},
    "no group": {"process_group": None},
    "name": {"profiling_name": ["nccl:all_reduce"]},
    "sizes": {"input_sizes": [[2**31] * 70]},
    "negative": {"input_sizes": [[-1]], "collective_seq_id": -(2**70)},
    "peer": {"profiling_name": "nccl:send 0->" + "7" * 30, "is_p2p": True},
}


@pytest.mark.parametrize("suffix", [".json", ""])
@pytest.mark.parametrize("odd", DUMPS)
@pytest.mark.sweep(8)
def test_an_odd_entry_of_a_dump_is_counted(
    odd: str, suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "dumps"
    folder.mkdir()
    for rank in range(2):
        dumped(folder, rank, [call(0), call(1) | DUMPS[odd], call(2)], name="nccl_trace_rank_{}" + suffix)
    status, said = outcome("analyze", folder, tmp_path, capfd)
    assert status == 0
    assert "owned" not in said or "]0;" in said  # shown as text, if at all


def test_a_text_that_a_pickle_names_often_is_held_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300_000
    entries = [call(n) | {"profiling_name": long, "process_group": (long, long)} for n in range(20_000)]
    value = {"version": "2.10", "pg_config": {}, "entries": entries}
    folder = tmp_path / "dumps"
    folder.mkdir()
    (folder / "nccl_trace_rank_0").write_bytes(pickle.dumps(value))
    outcome("analyze", folder, tmp_path, capfd)


def damaged_zip(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("deep/rank3.json", text(trace(3, 4)))
    data = bytearray(buffer.getvalue())
    for at in range(90, 130):
        data[at] ^= 0x55
    return bytes(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.sweep(4)
def test_a_damaged_member_of_a_zip_is_named(
    method: int, command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, damaged_zip(method), "traces.zip")
    status, said = outcome(command, path, tmp_path, capfd)
    assert status == 3
    assert "rank3.json" in said
    assert "damaged" in said
    assert "empty" not in said


@pytest.mark.parametrize("codec", ["gz", "bz2", "xz", "zst"])
def test_a_stream_that_is_cut_before_its_first_byte_is_not_called_empty(
    codec: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:

    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard.compress}[codec]
    path = write(tmp_path, pack(text(trace()).encode())[:14], f"rank0.json.{codec}")
    status, said = outcome("check", path, tmp_path, capfd)
    assert status == 3
    assert "ends early" in said or "damaged" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_names_that_are_not_utf8_are_shown_with_replacements(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "traces"
    folder.mkdir()
    for rank, letter in enumerate((b"\xff", b"\xfe")):
        name = os.fsdecode(b"a" + letter + b"_rank%d.json" % rank)
        (folder / name).write_text(text(trace(rank, 2)))
    assert outcome(command, folder, tmp_path, capfd)[0] == 0


def test_links_are_followed_within_the_folder_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run, secret = tmp_path / "run", tmp_path / "secret.jsonl"
    secret.write_text('{"secret": "AKIA-0"}\n')
    write(run, text(trace()), "traces/rank0.json")
    write(run, '{"kind": "x"}', "run.json")
    for name in ("steps", "routing"):
        (run / name).mkdir()
        (run / name / "rank7.jsonl").symlink_to(secret)
    (run / "steps" / "rank8.jsonl").symlink_to("/dev/zero")
    (run / "traces" / "loop1.json").symlink_to("loop2.json")
    (run / "traces" / "loop2.json").symlink_to("loop1.json")
    os.mkfifo(run / "routing" / "rank9.jsonl")
    os.mkfifo(run / "traces" / "rank9.json")
    status, said = outcome("ingest", run, tmp_path, capfd)
    assert status == 0
    assert "folder.not_regular" in said
    held = [file for file in (tmp_path / "capture").rglob("*") if file.is_file()]
    assert not any(b"AKIA-0" in file.read_bytes() for file in held)
    assert outcome("check", run, tmp_path, capfd)[0] == 0


def test_folders_too_deep_to_search_are_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    deep = tmp_path / "top" / "/".join("d" * 20)
    write(deep, text(trace()), "rank0.json")
    status, said = outcome("check", tmp_path / "top", tmp_path, capfd)
    assert (status, "not searched" in said) == (3, True)
    write(tmp_path / "top", text(trace()), "rank0.json")
    assert "folder.too_deep" in outcome("check", tmp_path / "top", tmp_path, capfd)[1]


@pytest.mark.parametrize("name", ["2001:db8::5_77.1700000000000.pt.trace.json", "a::b.json"])
def test_colons_in_a_name_are_no_url(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, text(trace()), name)
    assert outcome("check", path, tmp_path, capfd)[0] == 0


LAUGHS = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 8)}]\n" for old, new in zip("abcdefghij", "bcdefghijk", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new}\n  <<: [{','.join([f'*{old}'] * 8)}]\n" for old, new in zip("abcdefghij", "bcdefghijk", strict=True)
)
JOBS = {
    "laughs.yaml": LAUGHS,
    "merges.yaml": MERGES,
    "itself.yaml": "num_layers: &a [*a]\n",
    "itself2.yml": "a: &a {b: *a}\n",
    "base60.yaml": "hidden_size: " + ":".join(["59"] * 40_000) + "\n",
    "hex.yaml": "hidden_size: 0x" + "f" * 9000 + "\n",
    "binary.yaml": "layout: !!binary aGk=\ncompute_mode: real\n",
    "set.yaml": "layout: !!set {a}\ncompute_mode: real\n",
    "python.yaml": "layout: !!python/object/apply:os.system ['true']\ncompute_mode: real\n",
    "day.yaml": "layout: 2031-05-06\ncompute_mode: 2031-05-06\n",
    "day.toml": "layout = 2031-05-06\ncompute_mode = 12:00:00\n",
    "dots.toml": ".".join("b" * 30_000) + " = 1\n",
    "big.toml": "layout = 0x" + "f" * 9000 + "\ncompute_mode = 1\n",
    "big.json": '{"num_layers": ' + "1" * 4000 + ', "hidden_size": 8}',
    "deep.json": "[" * 100_000,
    "deep.yaml": "[" * 5000,
}


@pytest.mark.parametrize("name", JOBS)
def test_settings_of_any_kind_are_bounded(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, text(trace()))
    job = write(tmp_path, JOBS[name], name)
    status, said = outcome("analyze", path, tmp_path, capfd, "--job", str(job))
    assert status == 3
    assert name in said


@pytest.mark.parametrize(
    "make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "folder", "device"]
)
@pytest.mark.parametrize("option", ["--job", "--rank-map", "--kernel-rules", "--column-map", "--gate"])
@pytest.mark.sweep(9)
def test_an_option_reads_regular_files_only(
    option: str, make: Callable[[Path], object], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, text(trace()))
    make(tmp_path / "odd")
    status = main(["analyze", str(path), option, str(tmp_path / "odd")])
    assert status in (2, 3)
    assert "odd" in capfd.readouterr().err


@pytest.mark.parametrize("column", ["rank", "stage", "step", "kind", "start_us", "duration_us"])
def test_a_column_of_structs_is_refused_by_name(column: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = {
        "rank": [0, 1],
        "stage": [0, 1],
        "step": [0, 0],
        "kind": ["forward", "forward"],
        "start_us": [0, 5],
        "duration_us": [4, 4],
    }
    frame = pl.DataFrame(rows).with_columns(pl.struct(pl.col(column).alias("inner")).alias(column))
    frame.write_parquet(tmp_path / "ops.parquet")
    status, said = outcome("analyze", tmp_path / "ops.parquet", tmp_path, capfd)
    assert status == 3
    assert f"{column} is a struct" in said
