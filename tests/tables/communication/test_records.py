"""NCCL Inspector's records and flight-recorder dumps, whole, damaged and hostile."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from traceanalyzer.errors import InputError
from traceanalyzer.measurements.communication.recorded import inspector_bandwidth, missing_callers
from traceanalyzer.traces.nccl.flight_recorder import read_flight_recorder
from traceanalyzer.traces.nccl.inspector import read_inspector
from traceanalyzer.traces.nccl.records import read_records


def record(rank: int = 0, number: int = 1, size: int = 8, **perf: Any) -> dict[str, Any]:
    facts = {"coll": "AllReduce", "coll_sn": number, "coll_msg_size_bytes": 17179869184, "coll_exec_time_us": 61974}
    return {
        "header": {"id": "0x7f8c496ae9f661", "rank": rank, "n_ranks": size, "nnodes": 1},
        "metadata": {"inspector_output_format_version": "v4.0", "hostname": "a", "pid": 4},
        "coll_perf": facts | perf,
    }


def write(folder: Path, text: str | bytes, name: str = "a-pid4.log") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_bandwidths_are_those_nccl_prints(tmp_path: Path) -> None:
    """The README's example: 16 GiB over 8 ranks in 61974 µs are 277.210914 GB/s, on the bus 485.119099."""
    lines = "\n".join(json.dumps(record(rank, coll_exec_time_us=61974 + rank)) for rank in range(8))
    records, lost = read_inspector(write(tmp_path, lines))
    row = inspector_bandwidth(records).row(0, named=True)
    assert lost == 0
    assert row["algorithm_bytes_per_second"] / 1e9 == pytest.approx(277.210914, rel=1e-6)
    assert row["bus_bytes_per_second"] / 1e9 == pytest.approx(485.119099, rel=1e-6)
    assert row["wait_share"] == pytest.approx(28 / (8 * 61974 + 28))


def test_operations_without_all_members_give_no_bandwidth(tmp_path: Path) -> None:
    records, _ = read_inspector(write(tmp_path, "\n".join(json.dumps(record(rank)) for rank in range(7))))
    assert records.height == 7
    assert inspector_bandwidth(records).is_empty()


def test_newer_versions_messages_and_event_times_are_read(tmp_path: Path) -> None:
    collective = record(
        coll_algo="RING",
        coll_proto="LL",
        event_trace_ts={"coll_start_ts": 1_748_030_377_748_202, "coll_stop_ts": 1_748_030_377_748_302},
    )
    message = record() | {
        "p2p_perf": {"p2p": "Recv", "p2p_sn": 3, "p2p_peer": 5, "p2p_msg_size_bytes": 64, "p2p_exec_time_us": 2.5}
    }
    del message["coll_perf"]
    statistics = {"header": record()["header"], "metadata": {}, "dump_stats": {"dropped": 4}}
    text = "\n".join(json.dumps(part) for part in (collective, message, statistics))
    records, lost = read_inspector(write(tmp_path, gzip.compress(text.encode()), "a.jsonl.gz"))
    assert lost == 0
    first, second = records.rows(named=True)
    assert (first["algorithm"], first["protocol"], first["end_ns"] - first["start_ns"]) == ("RING", "LL", 100_000)
    assert first["start_ns"] == 1_748_030_377_748_202_000
    assert (second["kind"], second["peer"], second["duration_ns"], second["sequence_number"]) == ("receive", 5, 2500, 3)


@pytest.mark.parametrize("separator", ["", ".", "_"])
def test_flattened_records_are_the_same_records(separator: str, tmp_path: Path) -> None:
    def flat(rank: int) -> dict[str, Any]:
        return {
            (f"{part}{separator}{name}" if separator else name): value
            for part, fields in record(rank, 6).items()
            for name, value in fields.items()
        }

    whole, _ = read_inspector(write(tmp_path / "", "\n".join(json.dumps(record(rank, 6)) for rank in range(3))))
    text = "\n".join(json.dumps(flat(rank)) for rank in range(3)) + "\n" + json.dumps(flat(3))[:-9]
    (tmp_path / "flat").mkdir()
    flattened, lost = read_inspector(write(tmp_path / "flat", text))
    assert flattened.equals(whole)
    assert lost == 1
    assert read_records(tmp_path / "flat").inspector.height == 3


def damaged() -> dict[str, tuple[str, int, int]]:
    """Text, records that must survive, records that must be counted as lost."""
    good = [json.dumps(record(number=n)) for n in range(10)]
    return {
        "cut last line": ("\n".join(good)[:-20], 9, 1),
        "hole of NULs": ("\n".join(good[:4]) + "\n" + good[4][:30] + "\0" * 40 + "\n" + "\n".join(good[5:]), 9, 1),
        "pretty-printed": ("\n".join(json.dumps(record(number=n), indent=2) for n in range(10)), 10, 0),
        "blank lines, CRLF, BOM": ("\ufeff" + "\r\n\r\n".join(good), 10, 0),
        "interleaved": (
            "\n".join(good[:4]) + "\n" + good[4][:50] + good[5] + good[4][50:] + "\n" + "\n".join(good[6:]),
            9,
            1,
        ),
        "infinite bandwidth": (
            "\n".join(good[:9])
            + '\n{"header": {"id": "1"}, "coll_perf": {"coll": "AllReduce", "coll_algobw_gbs": inf, "coll_exec_time_us": -nan}}',
            10,
            0,
        ),
        "header no object": ('{"header": 3, "coll_perf": {}}\n' + good[0], 1, 1),
    }


@pytest.mark.parametrize("name", damaged())
def test_damaged_records_are_left_out_and_counted(name: str, tmp_path: Path) -> None:
    text, survive, lose = damaged()[name]
    records, lost = read_inspector(write(tmp_path, text))
    assert (records.height, lost) == (survive, lose)


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no records"):
        read_inspector(tmp_path)


def entry(number: int, name: str = "nccl:all_reduce", **more: Any) -> dict[str, Any]:
    return {
        "record_id": number, "collective_seq_id": number, "p2p_seq_id": 0, "is_p2p": False, "process_group": ["0", "default_pg"],
        "profiling_name": name, "input_sizes": [[4, 2], [3]], "input_dtypes": ["Float", "Half"], "output_sizes": [[4]],
        "output_dtypes": ["Mystery"], "state": "completed", "time_created_ns": 10**18, "time_discovered_started_ns": None,
        "time_discovered_completed_ns": 10**18 + 7, "duration_ms": 1.5, **more,
    }  # fmt: skip


def dump(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "version": "2.10",
        "pg_config": {"0": {"name": "0", "desc": "default_pg", "ranks": "[0, 1]"}},
        "entries": list(entries),
        **more,
    }


@pytest.mark.parametrize("form", ["json", "pickle 2", "pickle 4"])
def test_dumps_are_read_in_every_form(form: str, tmp_path: Path) -> None:
    value = dump(entry(5), entry(6, "nccl:send 0->1", is_p2p=True, p2p_seq_id=9))
    data = json.dumps(value).encode() if form == "json" else pickle.dumps(value, protocol=int(form[-1]))
    file = write(tmp_path, data, "host12_rank_3") / "host12_rank_3"
    first, second = read_flight_recorder(file).rows(named=True)
    assert (first["rank"], first["group"], first["sequence_number"], first["version"]) == (3, "0,1", 5, "2.10")
    assert (first["send_bytes"], first["receive_bytes"]) == (4 * 2 * 4 + 3 * 2, None)
    assert (first["started_ns"], first["completed_ns"], first["duration_ns"]) == (None, 10**18 + 7, 1_500_000)
    assert (second["is_p2p"], second["sequence_number"]) == (True, 9)


class Runs:
    """Pickles to a call."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.target),)


def laughs() -> bytes:
    value: list[Any] = ["ha"]
    for _ in range(40):
        value = [value, value]
    return pickle.dumps({"entries": value})


def test_a_pickle_that_runs_code_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    file = write(tmp_path, pickle.dumps(dump(entry(1), extra=Runs(str(canary)))), "trace_0") / "trace_0"
    with pytest.raises(InputError, match="is not allowed"):
        read_flight_recorder(file)
    assert not canary.exists()


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(dump(entry(1)))[:60],
        b"\x80\x04cbuiltins\neval\n(S'1'\ntR.",
        b"\x80\x04\x8d\x00\x00\x00\x00\x00\x00\x00\x10ab.",  # a string that claims 2^60 bytes
        laughs(),
        b"\x80\x02}q\x00K\x01a.",  # appends to a dictionary
        pickle.dumps([1, 2]),
        pickle.dumps({"entries": 5}),
        b"",
        b"{",
        b"[" * 100_000,
        b"{" + b'"a":[' * 100_000,
    ],
    ids=["cut", "eval", "2^60", "laughs", "append", "list", "no list", "empty", "brace", "brackets", "deep"],
)
def test_what_is_no_dump_is_one_error(data: bytes, tmp_path: Path) -> None:
    file = write(tmp_path, data, "trace_0") / "trace_0"
    with pytest.raises(InputError):
        read_flight_recorder(file)


def test_fields_of_other_types_are_unknown_and_no_traceback(tmp_path: Path) -> None:
    odd = dump(entry(1, process_group=7, input_sizes=3, duration_ms="x", time_created_ns="soon"), pg_config=[1])
    file = write(tmp_path, json.dumps(odd), "trace_0.json") / "trace_0.json"
    row = read_flight_recorder(file).row(0, named=True)
    assert (row["pg_name"], row["send_bytes"], row["duration_ns"], row["group"]) == (None, None, None, None)


def test_who_did_not_call_is_reported_and_forgotten_history_does_not_prove_anything(tmp_path: Path) -> None:
    frames = []
    for rank, numbers in {0: range(1, 6), 1: range(3, 6), 2: range(1, 5)}.items():
        file = write(tmp_path, json.dumps(dump(*[entry(n) for n in numbers])), f"trace_{rank}") / f"trace_{rank}"
        frames.append(read_flight_recorder(file))
    found = missing_callers(pl.concat(frames))
    assert found.select("sequence_number", "called", "missing").rows() == [(5, [0, 1], [2])]


@pytest.mark.corpus
def test_dumps_of_gloo_are_read(corpus: Path) -> None:
    dumps = [
        read_flight_recorder(file) for file in sorted((corpus / "gloo-torch213").glob("flightrec_gloo_rank*.json"))
    ]
    table = pl.concat(dumps)
    assert sorted(table["rank"].unique()) == [0, 1, 2, 3]
    assert table["created_ns"].null_count() == 0
    assert missing_callers(table.filter(pl.col("pg_name") == "0")).is_empty()
