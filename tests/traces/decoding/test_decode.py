"""Decoding against `json` and `Decimal`; and what must not change the result: layout, codec, order, chunk size."""

from __future__ import annotations

import gzip
import json
import random
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from catalogue.base import BASE_NS, complete, events, text, trace
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs.trace_texts import json_values, mutated

from traceanalyzer.errors import InputError
from traceanalyzer.traces import Limits, read_traces
from traceanalyzer.traces.decoding.decode import MalformedError, decode_events, exact_nanoseconds
from traceanalyzer.traces.decoding.repair import repair_tokens


def test_one_event_becomes_one_row() -> None:
    source = (
        b'[{"ph": "X", "cat": "kernel", "name": "a\\"b", "pid": 0, "tid": "stream 7", "ts": 12.5, "dur": 3,'
        b' "args": {"device": 1, "stream": 7, "correlation": 18446744073709551615, "External id": 9}}]'
    )
    row = decode_events(source).frame.row(0, named=True)
    assert row | {"args": None} == {
        "ph": "X",
        "category": "kernel",
        "name": 'a"b',
        "process": "0",
        "thread": "stream 7",
        "start_ns": 12_500,
        "duration_ns": 3_000,
        "device": 1,
        "stream": 7,
        "correlation": (1 << 64) - 1,
        "external_id": 9,
        "flow_id": None,
        "args": None,
    }
    assert json.loads(row["args"])["device"] == 1


@settings(deadline=None)
@given(st.lists(st.decimals(Decimal(-(10**15)), Decimal(10**15), places=3), min_size=1, max_size=20))
def test_times_are_exact_to_the_nanosecond(times: list[Decimal]) -> None:
    source = "[" + ",".join(f'{{"ph": "X", "ts": {time:f}}}' for time in times) + "]"
    assert decode_events(source.encode()).frame["start_ns"].to_list() == [int(time * 1000) for time in times]


@pytest.mark.parametrize(
    ("spelling", "nanoseconds"),
    [
        ("1790857026000000.123", 1790857026000000123),
        ("1.790857026e15", 1790857026000000000),
        ('"12.5"', 12_500),
        ("7", 7_000),
        ("-0.5", -500),
        ("0.0005", 0),
        ("0.0015", 2),
        ("true", None),
        ('"soon"', None),
        ("1e400", None),
        ("99999999999999999999", None),
        ("9223372036854774.999", 9_223_372_036_854_774_999),
        ("9999999999999999", None),
    ],
)
def test_spellings_of_times(spelling: str, nanoseconds: int | None) -> None:
    assert decode_events(f'[{{"ph": "X", "ts": {spelling}}}]'.encode()).frame["start_ns"].to_list() == [nanoseconds]


def test_negative_span_of_kineto() -> None:
    assert exact_nanoseconds("-5.-123") == (-5_123, False)


def test_last_of_repeated_keys_counts_everywhere() -> None:
    source = b'[{"ph": "X", "ts": 1, "ts": 2, "args": {"stream": 3, "stream": 4, "x": {"stream": 9}}}]'
    row = decode_events(source).frame.row(0, named=True)
    assert (row["start_ns"], row["stream"]) == (2_000, 4)


def test_inner_objects_and_strings_lend_no_ids() -> None:
    source = rb'[{"ph": "X", "args": {"a": {"correlation": 1}, "b": "\"correlation\": 2"}}]'
    assert decode_events(source).frame["correlation"].to_list() == [None]


def test_ids_of_other_types_are_read_row_by_row() -> None:
    source = b'[{"ph":"X","args":{"stream":"7","correlation":1}},{"ph":"X","args":{"stream":[1],"correlation":2}}]'
    frame = decode_events(source).frame
    assert frame["stream"].to_list() == [7, None]
    assert frame["correlation"].to_list() == [1, 2]


@pytest.mark.parametrize(("source", "byte", "ended"), [(b"[{}], 3", 4, True), (b'[{"ph": @}]', 8, False)])
def test_malformed_text_shows_where(source: bytes, byte: int, *, ended: bool) -> None:
    with pytest.raises(MalformedError) as error:
        decode_events(source)
    assert (error.value.byte, error.value.ended) == (byte, ended)


@given(json_values)
def test_repair_leaves_valid_json_alone(value: object) -> None:
    source = json.dumps(value).encode()
    assert repair_tokens(source) == (source, frozenset())


def table(path: Path, *, chunk_bytes: int = 1 << 22) -> pl.DataFrame:
    return read_traces(path, limits=Limits(chunk_bytes=chunk_bytes)).events


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pl.DataFrame]:
    """A trace with brackets and commas where events seem to end, and its events."""
    path = tmp_path_factory.mktemp("chunks") / "t.json"
    document = trace()
    document["traceEvents"] = [
        *events(),
        complete("x", "cpu_op", 104_500, 1, a=[{"b": "},{"}, {"ph": "X", "c": [{}, {}]}], d=']}, {"ph": 3'),
        *(complete("y", "cpu_op", 104_600 + i, 1) for i in range(300)),
    ]
    path.write_text(text(document))
    return path, table(path)


@pytest.mark.wide
@settings(max_examples=15, deadline=None)
@given(st.integers(200, 20_000))
def test_chunk_size_changes_nothing(nested: tuple[Path, pl.DataFrame], size: int) -> None:
    path, expected = nested
    assert table(path, chunk_bytes=size).equals(expected)


def test_layout_codec_and_order_change_nothing(tmp_path: Path) -> None:
    document = trace()
    shuffled = document | {"traceEvents": random.Random(5).sample(document["traceEvents"], k=len(events()))}  # noqa: S311
    variants = {
        "lines.json": text(document).encode(),
        "pretty.json": json.dumps(document, indent=4).encode(),
        "dense.json": json.dumps(document, separators=(",", ":")).encode(),
        "packed.json.gz": gzip.compress(text(document).encode()),
        "shuffled.json": text(shuffled).encode(),
    }
    found = {}
    for name, content in variants.items():
        (tmp_path / name).write_bytes(content)
        frame = table(tmp_path / name).drop("index").with_columns(pl.col("args").str.replace_all(r"\s", ""))
        found[name] = frame.with_columns(pl.col(pl.Categorical).cast(pl.String)).sort(pl.all())
    assert all(frame.equals(found["lines.json"]) for frame in found.values())


def test_base_time_moves_every_event(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(text(trace()))
    assert table(path)["start_ns"].min() == BASE_NS + 1_000_000


def test_whole_and_fractional_durations_sum_exactly(tmp_path: Path) -> None:
    document = trace()
    document["traceEvents"] += [complete("p", "cpu_op", 106_000 + 8 * i, 4 if i < 150 else 4.4) for i in range(200)]
    path = tmp_path / "t.json"
    path.write_text(text(document))
    assert table(path).filter(pl.col("name") == "p")["duration_ns"].sum() == 150 * 4_000 + 50 * 4_400


@pytest.mark.wide
@pytest.mark.sweep(1)
@pytest.mark.parametrize("first", range(0, 400, 80))
def test_random_damage_is_read_or_refused_but_never_miscounted(first: int, tmp_path: Path) -> None:
    source = text(trace()).encode()
    path = tmp_path / "t.json"
    for seed in range(first, first + 80):
        path.write_bytes(mutated(source, random.Random(seed)))  # noqa: S311 - repeatable damage, no secret
        try:
            counts = read_traces(path).counts
        except InputError:
            continue
        assert counts.events_seen == counts.events_kept + sum(counts.events_dropped.values()), seed
        assert counts.bytes_seen == path.stat().st_size, seed


@pytest.mark.parametrize(
    ("rest", "code"),
    [
        (b', "\xff": 1}', "json.damaged_metadata"),
        (b', "a": 1, "te\xd9x": {"b": 2}}', "json.damaged_metadata"),
        (b', "\xff": 1', "json.truncated"),
    ],
)
def test_members_after_the_events_that_are_not_utf8_are_damage(rest: bytes, code: str, tmp_path: Path) -> None:
    file = tmp_path / "rank0.json"
    file.write_bytes(text(trace()).encode().rstrip().removesuffix(b"}") + rest)
    found = read_traces(file)
    assert found.num_events == len(events())
    assert found.defects["code"].to_list() == [code]
