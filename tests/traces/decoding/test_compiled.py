"""Compiled decoding against the exact decoder: the same columns from every text, or none."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from catalogue.base import Case, events, text, trace
from catalogue.codec_cases import CASES as CODEC_CASES
from catalogue.event_cases import CASES as EVENT_CASES
from catalogue.folder_cases import CASES as FOLDER_CASES
from catalogue.json_cases import CASES as JSON_CASES
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs.trace_texts import json_values, mutated, trace_files

from traceanalyzer.errors import InputError
from traceanalyzer.traces import Counts, Limits, Traces, prepare, read_traces
from traceanalyzer.traces.decoding.compiled import acceleration
from traceanalyzer.traces.decoding.compiled.frames import FastDecoder
from traceanalyzer.traces.decoding.compiled.strings import StringTable
from traceanalyzer.traces.decoding.decode import decode_events

event_scan = pytest.importorskip("traceanalyzer.traces.decoding.compiled.events", reason="numba is not installed")
fast_decode = pytest.importorskip("traceanalyzer.traces.decoding.compiled.frames", reason="numba is not installed")
CASES = [*JSON_CASES, *CODEC_CASES, *EVENT_CASES, *FOLDER_CASES]
USE = "traceanalyzer.traces.decoding.scan.fast_decoder"


def exactly(path: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits | None = None) -> Traces:
    monkeypatch.setattr(USE, lambda _: None)
    return read_traces(path, limits=limits or Limits())


def quickly(path: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits | None = None) -> Traces:
    monkeypatch.setattr(USE, lambda _: fast_decode.FastDecoder())
    return read_traces(path, limits=limits or Limits())


def told(traces: Traces) -> pl.DataFrame:
    """Defects but for where they stand: of what concerns many events, where the decoded piece began."""
    return traces.defects.drop("byte_from", "byte_to")


def counted(counts: Counts) -> tuple[object, ...]:
    """Counts but for how the bytes of one event that is too long are divided: that is where reading met its limit."""
    dropped = sum(counts.bytes_dropped.values())
    return counts.events_seen, counts.events_kept, counts.events_dropped, counts.bytes_kept, dropped


def accepted(source: bytes) -> int:
    """How many events compiled decoding takes from the start of an array; each as the exact decoder reads it."""
    result = fast_decode.FastDecoder().decode(source, 1, len(source))
    if result is None:
        return 0
    decoded, following = result
    exact = decode_events(b"[" + source[1:following].rstrip().rstrip(b",") + b"]")
    assert decoded.frame.equals(exact.frame)
    assert decoded.notes == exact.notes
    return decoded.frame.height


@pytest.mark.sweep(24)
@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_every_catalogued_input_reads_the_same(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = case.build(tmp_path)
    try:
        exact = exactly(path, monkeypatch)
    except InputError as error:
        with pytest.raises(InputError, match=re.escape(error.message)):
            quickly(path, monkeypatch)
        return
    quick = quickly(path, monkeypatch)
    assert quick.events.equals(exact.events)
    assert quick.ranks.equals(exact.ranks)
    assert counted(quick.counts) == counted(exact.counts)
    assert told(quick).equals(told(exact))


@pytest.mark.wide
@pytest.mark.corpus
def test_every_trace_of_the_corpus_reads_the_same(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in trace_files(corpus):
        exact, quick = exactly(path, monkeypatch), quickly(path, monkeypatch)
        assert quick.events.equals(exact.events), path
        assert quick.ranks.equals(exact.ranks), path
        assert told(quick).equals(told(exact)), path
        assert quick.counts == exact.counts, path


keys = st.sampled_from(["ph", "cat", "name", "pid", "tid", "ts", "dur", "id", "args", "bp", "s", "named"])
inner_keys = st.sampled_from(["device", "stream", "correlation", "External id", "external id", "x", "Input Dims", "é"])
numbers = (
    st.integers(-(1 << 65), 1 << 65)
    | st.integers(-5, 5000)
    | st.decimals(-(10**15), 10**15, places=3).map(float)
    | st.floats(allow_nan=False, allow_infinity=False)
)
words = st.text(max_size=12) | st.sampled_from(["X", "M", "", "7", "null", "kernel", '"', "stream 7", "\\", "ü\u2028"])
arguments = st.dictionaries(inner_keys, numbers | words | json_values, max_size=5)
event = st.dictionaries(keys, numbers | words | arguments | json_values, max_size=9)
layouts: list[Callable[[Any], str]] = [
    json.dumps,
    lambda value: json.dumps(value, indent=2),
    lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
]


@settings(deadline=None, max_examples=100)
@given(st.lists(event, min_size=1, max_size=5), st.sampled_from(layouts))
def test_any_events_in_any_layout_decode_the_same(made: list[dict[str, Any]], layout: Callable[[Any], str]) -> None:
    assert accepted(layout(made).encode("utf-8", "surrogatepass")) in (0, len(made))


def test_common_events_are_all_taken() -> None:
    source = json.dumps(events())
    assert accepted(source.encode()) == len(events())


@pytest.mark.parametrize(
    ("member", "is_json"),
    [
        ('"ts": 01', False),
        ('"ts": 1.', False),
        ('"ts": .5', False),
        ('"ts": +1', False),
        ('"ts": 1e', False),
        ('"ts": -', False),
        ('"ts": -0.5', True),
        ('"ts": 1.2345', True),
        ('"ts": 9223372036854775.807', True),
        ('"ts": 9223372036854775808', True),
        ('"ts": 9999999999999999999', True),
        ('"dur": -9223372036854775808', True),
        ('"ts": 1e3', True),
        ('"ts": 1, "ts": 2', True),
        ('"t\\u0073": 1', True),
        ('"name": "a\\qb"', False),
        ('"name": "a\nb"', False),
        ('"name": "\\u00e9"', True),
        ('"name": "\\ud800"', False),
        ('"args": {"x": {"\\ud800": 1}}', False),
        ('"args": {"stream": NaN}', False),
        ('"args": {"stream": 1,}', False),
        ('"args": {"stream": [1, }', False),
        ('"args": {"stream": 1} }', False),
        ('"args": {"External id": 3, "external id": 4}', True),
        ('"args": {"External id": null, "external id": 4}', True),
        ('"args": {"external id": 4}', True),
        ('"args": {"correlation": -1}', True),
        ('"args": {"correlation": 18446744073709551615}', True),
        ('"args": {"x": 100000000000000000000000}', True),
        ('"args": ' + "[" * 70 + "]" * 70, True),
        ('"args": { }', True),
        ('"pid": ""', True),
        ('"pid": "null"', True),
        ('"pid": {"a": 1}', True),
        ('"id": "0x12"', True),
        ('"x": tru', False),
        ('"x" 1', False),
    ],
)
def test_spellings(member: str, *, is_json: bool) -> None:
    num_taken = accepted(f'[{{"ph": "i"}}, {{{member}}}, {{"ph": "M"}}]'.encode())
    assert num_taken in ((1, 3) if is_json else (0, 1))


@pytest.mark.parametrize(
    "member", [b'"args": {"x": {"\xff": 1}}', b'"args": {"x": [1, {"a": 2, "\xed\xa0\x80": 1}]}', b'"name": "\xff"']
)
@pytest.mark.parametrize("rest", [b'}, {"ph": "M"}]', b""])
def test_no_text_that_is_not_utf8_becomes_a_column(member: bytes, rest: bytes) -> None:
    source = b'[{"ph": "X", "name": "a", "ts": 1, "dur": 1}, {' + member + rest
    result = fast_decode.FastDecoder().decode(source, 1, len(source))
    assert (result is None) == bool(rest)
    strings = StringTable()
    text = np.frombuffer(source + bytes(16), dtype=np.uint8)
    rows = np.zeros((4, event_scan.NUM_COLUMNS), dtype=np.int64)
    _, end, _, _ = event_scan.scan_events(text[1:].ctypes.data, rows.ctypes.data, len(rows), strings.address)
    assert all(source[1:][a:b].isascii() for a, b in strings.spans(end).T) or rest


def test_damage_anywhere_never_yields_other_rows() -> None:
    source = json.dumps(events()[:12], indent=1).encode()
    for seed in range(500):
        accepted(b"[" + mutated(source[1:], random.Random(seed)))  # noqa: S311 - repeatable damage, no secret


def test_more_different_names_than_one_piece_may_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = trace()
    document["traceEvents"] = [event | {"name": f"n{i}"} for i, event in enumerate(events() * 300)]
    path = tmp_path / "t.json"
    path.write_text(text(document))
    assert quickly(path, monkeypatch).events.equals(exactly(path, monkeypatch).events)


@pytest.mark.parametrize("size", [1000, 4096, 50_000])
def test_piece_size_changes_nothing(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.json"
    path.write_text(text(trace() | {"traceEvents": events() * 8}))
    small = quickly(path, monkeypatch, Limits(chunk_bytes=size))
    assert small.events.equals(exactly(path, monkeypatch).events)


def test_a_tight_memory_bound_goes_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_num_bytes: int) -> None:
        raise AssertionError

    monkeypatch.setattr(USE, refuse)
    path = tmp_path / "t.json"
    path.write_text(text(trace()))
    assert read_traces(path, limits=Limits.for_memory(300 << 20)).counts.events_seen == len(events())


def test_without_numba_the_exact_decoder_reads_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_name: str) -> None:
        raise ImportError

    for name, value in {"_module": None, "_useless": False, "_WORTH_LOADING": 0}.items():
        monkeypatch.setattr(acceleration, name, value)
    monkeypatch.setattr(acceleration.importlib, "import_module", absent)
    path = tmp_path / "t.json"
    path.write_text(text(trace()))
    assert read_traces(path).events.filter(pl.col("ph") == "X").height == 65
    assert not prepare()


def test_machine_code_that_is_kept_is_found() -> None:
    """Else inputs of 24 to 256 MiB would never be decoded by it."""
    assert prepare()
    assert acceleration._is_compiled()


def test_a_piece_keeps_its_numbers_while_the_next_is_read() -> None:
    assert prepare()
    decoder = FastDecoder()
    pieces = [[{"ph": "X", "name": "x", "ts": 10 + n, "dur": 1}] for n in range(2)]
    frames = []
    for piece in pieces:
        source = (",".join(json.dumps(event) for event in piece) + "]").encode()
        decoded = decoder.decode(source, 0, len(source))
        assert decoded is not None
        frames.append(decoded[0].frame)
    assert [frame["start_ns"].to_list() for frame in frames] == [[10_000], [11_000]]
