"""Flight-recorder dumps and Inspector records through the commands: alone, beside traces, damaged and hostile."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from inputs.flight_dumps import START_NS, call, dumped
from inputs.tiny_trace import TinyRank
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.cli import main
from traceanalyzer.errors import InputError
from traceanalyzer.traces.input.discovery import Paths
from traceanalyzer.traces.nccl.records import read_records


def measured(rank: int, number: int, time_us: float, *, communicator: str = "0xa1", size: int = 4, **more: Any) -> str:
    """A line of Inspector: an all-reduce of 1 MiB; one process per rank, two per host."""
    perf = {"coll": "AllReduce", "coll_sn": number, "coll_msg_size_bytes": 1 << 20, "coll_exec_time_us": time_us} | more
    pid, host = 100 + rank, f"host{rank // 2}"
    header = {"id": communicator, "rank": rank, "n_ranks": size, "nnodes": 2}
    about = {"inspector_output_format_version": "v4.0", "hostname": host, "pid": pid}
    return json.dumps({"header": header, "metadata": about, "coll_perf": perf})


def logged(folder: Path, *lines: str, name: str = "inspector.log") -> None:
    (folder / name).write_text("\n".join(lines))


def text_of(command: str, folder: Path, capfd: pytest.CaptureFixture[str], *options: str) -> str:
    assert main([command, str(folder), *options]) == 0
    return capfd.readouterr().out


def test_dumps_alone_say_who_is_missing_what_hangs_and_who_came_last(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dumped(tmp_path, 0, [call(1, duration_ms=5.0), call(2, duration_ms=1.0), call(3, state="started", retired=False)])
    dumped(tmp_path, 1, [call(1, duration_ms=2.0), call(2, duration_ms=3.5)])
    review = analyze(read(tmp_path)).review
    found = review.recorded
    assert found is not None
    assert [(m.sequence, m.called, m.missing) for m in found.missing] == [(3, [0], [1])]
    assert [(u.rank, u.sequence, u.state) for u in found.unfinished] == [(0, 3, "started")]
    # rank 1 took 3 ms less at the first (rank 0 waited for it), rank 0 2.5 ms less at the second
    assert [(late.rank, late.wait_ms) for late in found.late] == [(1, 3.0), (0, 2.5)]
    assert review.quality.verdict == "partial"
    assert (review.bubble, review.all_to_all, review.mfu.mfu) == (None, None, None)
    assert {item.reason for item in review.quality.withheld} == {
        "there is no trace: records of communication do not show it"
    }
    text = text_of("analyze", tmp_path, capfd, "--full")
    assert "There is no trace, but 5 records of flight recorder from 2 ranks" in text
    assert "1 collectives that not all members called" in text
    assert re.search(r"nccl:all_reduce +0 +3 +1 +0\n", text)
    told = text_of("check", tmp_path, capfd)
    assert "Rank 1 had not called all_reduce number 3 of the default group" in told
    assert "5 records of 2 ranks; 1 call not known to have ended" in told
    rows = analyze(read(tmp_path)).tables["collectives"]
    assert rows.select("rank", "recorded_sequence", "wait_ns", "late_rank", "unmatched").rows() == [
        (0, 1, 3_000_000, 1, None), (0, 2, 0, 0, None), (0, 3, None, None, "the part of a captured member is missing"),
        (1, 1, 0, 1, None), (1, 2, 2_500_000, 0, None),
    ]  # fmt: skip


def test_different_calls_under_one_number_are_reported(tmp_path: Path) -> None:
    dumped(tmp_path, 0, [call(1), call(2, "all_gather")])
    dumped(tmp_path, 1, [call(1), call(2, "barrier")])
    found = analyze(read(tmp_path)).review.recorded
    assert found is not None
    assert [(m.sequence, m.calls) for m in found.mismatched] == [
        (2, ["nccl:all_gather on rank 0", "nccl:barrier on rank 1"])
    ]


def test_inspector_alone_gives_bandwidth_and_the_last_to_come(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    times = {0: 130.0, 1: 100.0, 2: 120.0, 3: 110.0}
    logged(tmp_path, *[measured(rank, n, time) for rank, time in times.items() for n in (1, 2)])
    analysis = analyze(read(tmp_path))
    found = analysis.review.recorded
    assert found is not None
    (operation,) = found.operations
    by_hand = 2 * 3 / 4 * (1 << 20) / 100e-6 / 1e9  # 2(n-1)/n · bytes ÷ shortest
    assert operation.bus_bandwidth_gbps == pytest.approx(by_hand)
    assert (operation.num_members, operation.num_operations, operation.median_us) == (4, 2, 100.0)
    assert [(late.rank, late.wait_ms) for late in found.late] == [(1, pytest.approx(2 * 0.060))]
    rows = analysis.tables["collectives"]
    assert set(rows["group"]) == {"0,1,2,3"}
    assert rows["bus_bytes_per_second"].unique().to_list() == [pytest.approx(by_hand * 1e9)]
    assert "8 records of 4 ranks in 1 communicators" in text_of("check", tmp_path, capfd)
    assert "15.7 GB/s" in text_of("analyze", tmp_path, capfd, "--full")


def test_dumps_and_inspector_together_are_kept_apart(tmp_path: Path) -> None:
    for rank in range(4):
        dumped(tmp_path, rank, [call(n, duration_ms=1.0 if rank == 2 else 2.0) for n in (1, 2, 3)], size=4)
    logged(tmp_path, *[measured(rank, n, 100.0 + 10 * rank) for rank in range(4) for n in (1, 2, 3)])
    found = analyze(read(tmp_path)).review.recorded
    assert found is not None
    assert [(late.source, late.rank, late.wait_ms) for late in found.late] == [
        ("flight_recorder", 2, 9.0), ("nccl_inspector", 0, pytest.approx(3 * 0.06))
    ]  # fmt: skip


def test_two_runs_of_inspector_in_one_folder_are_never_mixed(tmp_path: Path) -> None:
    for run in range(2):
        lines = [
            measured(rank, 1, 9.0, communicator=f"0x{run}").replace('"pid": 1', f'"pid": {run + 2}')
            for rank in range(4)
        ]
        logged(tmp_path, *lines, name=f"run{run}.log")
    with pytest.raises(InputError, match="both hold records of rank 0"):
        read_records(tmp_path)


def test_two_dumps_of_one_rank_are_never_mixed(tmp_path: Path) -> None:
    dumped(tmp_path, 0, [call(1)], name="a_rank_{}")
    (tmp_path / "more").mkdir()
    dumped(tmp_path / "more", 0, [call(1)], name="a_rank_{}")
    assert main(["analyze", str(tmp_path)]) == 3


def test_a_dump_beside_traces_is_joined_by_group_and_number(tmp_path: Path) -> None:
    planted = plant(Job(pp=1, dp=2, num_microbatches=2), Faults(), tmp_path / "run")
    before = analyze(read(planted.traces)).tables["collectives"]
    numbered = before.filter(pl.col("recorded_sequence").is_not_null() & pl.col("pg_name").is_not_null())
    assert numbered.height >= 4
    for rank, rows in numbered.group_by("rank"):
        calls = [
            call(number, duration_ms=1.25, process_group=[name, "x"], collective_seq_id=number)
            for name, number in rows.select("pg_name", "recorded_sequence").rows()
        ]
        dumped(planted.traces, int(str(rank[0])), calls)
    analysis = analyze(read(planted.traces))
    after = analysis.tables["collectives"]
    told = after.filter(pl.col("source") == "flight_recorder")
    assert told.height == numbered.height
    assert set(told["recorded_duration_ns"]) == {1_250_000}
    assert after.drop("source", "state", "recorded_duration_ns").equals(
        before.drop("source", "state", "recorded_duration_ns")
    )
    assert analysis.review.recorded is not None
    assert [s.num_joined for s in analysis.review.recorded.sources] == [told.height]
    assert analysis.review.step.duration_ms.num_steps > 0


def test_a_dump_beside_traces_without_numbers_is_joined_by_time(tmp_path: Path) -> None:
    for number in range(2):
        rank = TinyRank(number, 2)
        rank.step(1, 0, 9_000).all_to_all("dispatch", 0, 1_000, 2_000, [1, 1], [1, 1])
        rank.all_to_all("combine", 0, 5_000, 6_000, [1, 1], [1, 1]).write(tmp_path)
        near = call(1, "all_to_all", 0.5, time_created_ns=START_NS + 1_020_000)
        far = call(2, "all_to_all", 0.5, time_created_ns=START_NS + 7_500_000)
        dumped(tmp_path, number, [near, far])
    rows = analyze(read(tmp_path)).tables["collectives"].sort("rank", "start_ns")
    assert rows["source"].to_list() == ["flight_recorder", None] * 2


CANARY = "canary"


class Runs:
    """Pickles to a call that leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def laughs() -> bytes:
    value: list[Any] = ["ha"]
    for _ in range(40):
        value = [value, value]
    return pickle.dumps({"version": "2.10", "entries": value})


HOSTILE: dict[str, bytes] = {
    "eval": b"\x80\x04cbuiltins\neval\n(S'1'\ntR.",
    "global by stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.",
    "instance": b"\x80\x02(ios\nsystem\n.",
    "build": b"\x80\x02}}b.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"\x80\x02Pid\n.",
    "new object": b"\x80\x02)\x81.",
    "buffer": b"\x80\x05\x97.",
    "2^60 bytes": b"\x80\x04\x8d\x00\x00\x00\x00\x00\x00\x00\x10ab.",
    "laughs": laughs(),
    "list on top": pickle.dumps([1, 2]),
    "87 bytes": pickle.dumps({"version": "2.10", "pg_config": {}, "entries": [call(1)]})[:87],
}


@pytest.mark.wide
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_cut_dump_alone_is_one_error(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nccl_trace_rank_0").write_bytes(HOSTILE[name])
    for command in (["check"], ["analyze"], ["table"]):
        assert main([command[0], str(tmp_path), *(["collectives"] if command == ["table"] else [])]) == 3
        error = capfd.readouterr().err
        assert error.count("\n") == 2
        assert "nccl_trace_rank_0" in error


def test_code_in_a_dump_never_runs_and_the_other_ranks_are_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dumped(tmp_path, 0, [call(n) for n in range(1, 4)])
    (tmp_path / "nccl_trace_rank_1").write_bytes(
        pickle.dumps({"version": "2", "entries": [], "x": Runs(tmp_path / CANARY)})
    )
    text = text_of("check", tmp_path, capfd)
    assert "record.unusable" in text
    assert "flight recorder: 3 records of 1 rank;" in text
    assert "1 of 2 ranks (0)" in text
    assert main(["check", str(tmp_path), "--strict"]) == 1
    assert not (tmp_path / CANARY).exists()


DUMPS: dict[str, tuple[dict[str, Any], int]] = {
    "JSON, 0 for null": (
        {"name": "trace_{}.json", "calls": [call(n, time_discovered_started_ns=0) for n in (1, 2, 3)]},
        6,
    ),
    "version 2.9": ({"version": "2.9"}, 6),
    "without groups, further fields": ({"pg_config": None, "of_a_later_version": [1]}, 6),
    "other backends and unknown operations": (
        {"calls": [call(1, profiling_name="xccl:all_reduce"), call(2, "mystery"), call(3, profiling_name="no prefix")]},
        6,
    ),
    "host and rank in the name": ({"name": "host12_rank_{}"}, 6),
    "ring buffer wrapped": ({"first": 100}, 6),
}


@pytest.mark.parametrize("name", DUMPS)
def test_dumps_of_every_kind_are_read_whole(name: str, tmp_path: Path) -> None:
    given, expected = DUMPS[name]
    more = dict(given)
    calls, first = more.pop("calls", None), more.pop("first", 1)
    for rank in range(2):
        begin = first + 2 * rank if first > 1 else 1  # the second rank's history begins later
        dumped(
            tmp_path,
            rank,
            calls or [call(n) for n in range(begin, begin + 3 - (2 * rank if first > 1 else 0))] or [],
            **more,
        )
    if first > 1:
        dumped(tmp_path, 1, [call(n) for n in range(first + 2, first + 5)])
        dumped(tmp_path, 0, [call(n) for n in range(first, first + 5)])
        expected = 8
    found = analyze(read(tmp_path)).review.recorded
    assert found is not None
    assert [(s.num_records, s.ranks) for s in found.sources] == [(expected, [0, 1])]
    assert found.missing == []
    assert found.mismatched == []
    if given.get("pg_config", 0) is None:
        assert set(analyze(read(tmp_path)).tables["collectives"]["group"]) == {"0,1"}


@pytest.mark.parametrize(
    ("name", "text", "kept", "lost"),
    [
        ("cut", "\n".join(measured(0, n, 9.0, size=1) for n in range(50))[:-9], 49, 1),
        ("NULs", "\n".join([measured(0, 0, 9.0, size=1), "\0" * 400, measured(0, 1, 9.0, size=1)]), 2, 0),
        ("nan", measured(0, 0, 9.0, size=1).replace("9.0", "nan") + "\n" + measured(0, 1, 0.0, size=1), 2, 0),
        (
            "ends before it starts",
            measured(0, 0, 9.0, size=1, event_trace_ts={"coll_start_ts": 9, "coll_stop_ts": 3}),
            1,
            0,
        ),
    ],
)
def test_damaged_inspector_logs_are_counted(
    name: str, text: str, kept: int, lost: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logged(tmp_path, text, name="nccl-inspector.log")
    records = read_records(tmp_path)
    assert (records.inspector.height, records.num_lost) == (kept, lost), name
    assert f"{kept} records of 1 ranks" in text_of("check", tmp_path, capfd)
    rows = analyze(read(tmp_path)).tables["collectives"]
    assert rows.filter(pl.col("end_ns") < pl.col("start_ns")).is_empty()


def test_other_files_are_no_records(tmp_path: Path) -> None:
    (tmp_path / "steps.jsonl").write_text('{"rank": 0, "step": 1}\n')
    (tmp_path / "trace_1").write_text("hello")
    (tmp_path / "link_rank_0").symlink_to("/etc/hostname")
    (tmp_path / "review.json").write_text('{"schema_version": 1, "entries": 3}')
    assert read_records(tmp_path).is_empty
    assert read_records(tmp_path).failures == ()


@pytest.mark.corpus
def test_real_dumps_of_gloo_show_the_barrier_that_was_open(corpus: Path, tmp_path: Path) -> None:
    for file in (corpus / "gloo-torch213").glob("flightrec_gloo_rank*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    analysis = analyze(read(tmp_path))
    found = analysis.review.recorded
    assert found is not None
    assert [(u.rank, u.operation) for u in found.unfinished] == [(0, "gloo:barrier"), (1, "gloo:barrier")]
    rows = analysis.tables["collectives"]
    assert rows["unmatched"].null_count() == rows.height == 14
    assert set(rows["group"]) == {"0,1,2,3", "0,1"}


def test_the_page_of_hangs_shows_what_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "hangs.md").read_text(encoding="utf-8")
    for rank in range(4):
        calls = [call(number, duration_ms=0.5) for number in range(1, 41)]
        waiting = [] if rank == 2 else [call(41, state="scheduled", retired=False)]
        dumped(tmp_path, rank, calls + waiting, size=4)
    printed = text_of("analyze", tmp_path, capfd)
    (shown,) = re.findall(r"^```\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert " ".join(shown.split()) in " ".join(printed.split())


def test_dumps_of_one_run_merge_and_those_of_two_are_refused(tmp_path: Path) -> None:
    nodes = [tmp_path / "node0", tmp_path / "node1"]
    for rank, node in enumerate(nodes):
        node.mkdir()
        dumped(node, rank, [call(7)], job_id="20270203T040506-77")
    merged = read_records(Paths(tuple(map(str, nodes))))
    assert merged.dumps["job_id"].to_list() == ["20270203T040506-77"] * 2
    assert merged.flight["rank"].to_list() == [0, 1]
    dumped(nodes[1], 1, [call(7)], job_id="20270203T090000-78")
    with pytest.raises(InputError, match=r"dumps of two runs, 20270203T040506-77 and 20270203T090000-78"):
        read_records(tmp_path)
