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
from catalogue.nsys_cases import export
from inputs.flight_dumps import call, dumped
from inputs.hostile import COMMANDS, outcome
from planted import Faults, Job, plant


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

    traces = planted_with(tmp_path, edit)
    status, said = outcome("analyze", traces, tmp_path, capfd)
    assert status == 0
    assert "step" in said
    assert "event.number_impossible" in outcome("check", traces, tmp_path, capfd)[1]


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


@pytest.mark.wide
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


@pytest.mark.wide
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


RECORDS: dict[str, dict[str, Any]] = {
    "loss": {"loss": 1e400},
    "clock": {"device_clock_mhz": 2**64},
    "pressure": {"cpu_pressure_us": 2**80},
    "switches": {"involuntary_switches": -(2**63) - 1},
    "flight": {"peak_in_flight": 2**31},
    "step": {"step": 2**31},
    "end": {"end_ns": 2**63},
}


@pytest.mark.parametrize("odd", RECORDS)
def test_a_record_that_fits_no_column_is_a_damaged_line(
    odd: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Found by fuzzing: such a number ended the reading of every record."""
    write(tmp_path / "run", text(trace()), "traces/rank0.json")
    write(tmp_path / "run", "{}", "run.json")
    sound = {"step": 1, "rank": 0, "start_ns": 1, "end_ns": 2, "profiled": True}
    lines = json.dumps(sound) + "\n" + json.dumps(sound | RECORDS[odd]) + "\n"
    write(tmp_path / "run", lines, "steps/rank0.jsonl")
    routed = {
        "step": 0,
        "layer": 2**40,
        "rank": 0,
        "tokens_to_expert": [2**64],
        "send_splits": [1],
        "receive_splits": [1],
    }
    write(tmp_path / "run", json.dumps(routed) + "\n", "routing/rank0.jsonl")
    status, said = outcome("check", tmp_path / "run", tmp_path, capfd)
    assert status == 0
    assert "run.damaged_line" in said
    assert outcome("analyze", tmp_path / "run", tmp_path, capfd)[0] == 0


@pytest.mark.parametrize("rank", [2**31, 2**63, 10**30, -1])
def test_a_group_of_ranks_that_cannot_be_is_unknown(
    rank: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Found by fuzzing: one member of a list that no rank can be."""

    def edit(args: dict[str, Any]) -> None:
        args["Process Group Ranks"] = f"[0, {rank}]"

    assert outcome("analyze", planted_with(tmp_path, edit), tmp_path, capfd)[0] == 0


@pytest.mark.parametrize("name", [None, "", 7])
def test_a_kernel_without_a_name_has_a_place_in_the_report(
    name: object, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Found by fuzzing: the review that was written could not be read again."""
    document = trace(0, 1)
    for event in document["traceEvents"]:
        if event.get("cat") == "kernel":
            event["name"] = name
    path, result = write(tmp_path, text(document)), tmp_path / "result"
    assert outcome("analyze", path, tmp_path, capfd, "--out", str(result))[0] == 0
    assert outcome("report", result, tmp_path, capfd)[0] == 0


def test_names_of_a_database_that_are_not_utf8_are_one_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Found by fuzzing: one byte of the schema of an export."""
    path = export(tmp_path)
    content = path.read_bytes()
    at = content.index(b"CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL")
    at = content.index(b"demangledName", at)
    path.write_bytes(content[:at] + b"\xff\xfe" + content[at + 2 :])
    outcome("check", path, tmp_path, capfd)


@pytest.mark.parametrize(
    ("text", "status"), [('{"project": "x", "id": 7}', 0), ("[]", 0), ('{"kind": 7}', 3), ("{", 3)]
)
def test_another_programs_run_json_is_passed_over_and_a_damaged_one_of_ours_refused(
    text: str, status: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plant(Job(pp=1, num_microbatches=1, num_steps=1), Faults(), tmp_path / "run")
    write(tmp_path / "run", text, "run.json")
    assert outcome("analyze", tmp_path / "run", tmp_path, capfd)[0] == status
    assert ("run.damaged_job" in outcome("check", tmp_path / "run", tmp_path, capfd)[1]) is (status == 0)
