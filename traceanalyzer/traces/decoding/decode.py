"""Text of events to columns: the one place where JSON becomes a table.

`decode_events` is pure and knows nothing of files, so that a native decoder can replace it. msgspec decodes into
structs whose numbers and arguments stay JSON text; each field's texts are joined into one blob that Polars splits and
converts. No number passes through a binary float: times are exact to the nanosecond, ids to the last digit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

import msgspec
import polars as pl
from msgspec import Raw

from traceanalyzer.traces.decoding.argument_ids import id_columns
from traceanalyzer.traces.decoding.repair import fitting_numbers

_SEPARATOR = b"\x1e"  # joins texts; valid JSON holds no control character but white space, so none contains it

_MISSING = Raw(b"")
_NO_ARGS = Raw(b"{}")
_HUGE = r"\d{20}|[eE]\+?\d{3}"  # what a number that does not fit contains
_INT64_MAX = (1 << 63) - 1
_MOST_MICROSECONDS = _INT64_MAX // 1000 - 1


class _Event(msgspec.Struct, gc=False):
    """An event as every writer means it."""

    ph: str = ""
    cat: str = ""
    name: str = ""
    pid: Raw = _MISSING
    tid: Raw = _MISSING
    ts: Raw = _MISSING
    dur: Raw = _MISSING
    id: Raw = _MISSING
    args: Raw = _NO_ARGS


class _AnyEvent(msgspec.Struct, gc=False):
    """An event whose fields may have any type."""

    ph: Raw = _MISSING
    cat: Raw = _MISSING
    name: Raw = _MISSING
    pid: Raw = _MISSING
    tid: Raw = _MISSING
    ts: Raw = _MISSING
    dur: Raw = _MISSING
    id: Raw = _MISSING
    args: Raw = _NO_ARGS


TEXTS = ("ph", "category", "name", "process", "thread")
"""Columns of few different texts."""

_EVENTS = msgspec.json.Decoder(list[_Event])
_ANY_EVENTS = msgspec.json.Decoder(list[_AnyEvent])
_ELEMENTS = msgspec.json.Decoder(list[Raw])
_POSITION = re.compile(r"\(byte (\d+)\)$")


class MalformedError(Exception):
    """The text is not a JSON array. `byte` is the first that cannot be; None if the decoder does not say.

    `ended` says that the array was closed at `byte` and something follows it.
    """

    def __init__(self, message: str, byte: int | None, *, ended: bool = False) -> None:
        super().__init__(message)
        self.byte = byte
        self.ended = ended


@dataclass(frozen=True, slots=True)
class Decoded:
    """Columns of events and how often something about them had to be settled, by defect code."""

    frame: pl.DataFrame
    notes: Mapping[str, int]


def decode_events(text: bytes) -> Decoded:
    """Decode a JSON array of events.

    The frame has one row per object, in order: `ph`, `category`, `name`, `process`, `thread` (categorical); `args` as
    text; `start_ns` and `duration_ns`, the file's microseconds times 1000 without base time; `device`, `stream`,
    `correlation`, `external_id`, `flow_id`. What is missing or of the wrong type is null; of a key that occurs twice
    the last value counts. Raises `MalformedError`.
    """
    notes: Counter[str] = Counter()
    try:
        try:
            columns = _typed_columns(text)
        except (msgspec.ValidationError, UnicodeDecodeError):
            columns = _untyped_columns(text, notes)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _malformed(error) from None
    args = _SEPARATOR.join(columns.pop("args"))  # type: ignore[arg-type] - Raw has the buffer protocol
    raw = pl.DataFrame(
        {**{name: _series(values, notes) for name, values in columns.items()}, "args": _split(args, notes)}
        if columns["ph"]
        else {name: pl.Series(dtype=pl.String) for name in (*columns, "args")}
    )
    joined = b"[" + args.replace(_SEPARATOR, b",") + b"]"
    return Decoded(_convert(raw, joined, notes), {code: count for code, count in notes.items() if count})


def _malformed(error: Exception) -> MalformedError:
    if isinstance(error, RecursionError):
        return MalformedError("nested too deeply", None)
    message = str(error)
    match = _POSITION.search(message)
    if match is None:
        return MalformedError(message, None)
    ended = "trailing characters" in message
    # msgspec counts what trails an array from one, everything else from zero
    return MalformedError(message, int(match[1]) - ended, ended=ended)


def _typed_columns(text: bytes) -> dict[str, Sequence[str] | Sequence[Raw]]:
    events = _EVENTS.decode(text)
    return {
        "ph": [e.ph for e in events],
        "category": [e.cat for e in events],
        "name": [e.name for e in events],
        "process": [e.pid for e in events],
        "thread": [e.tid for e in events],
        "ts": [e.ts for e in events],
        "dur": [e.dur for e in events],
        "flow_id": [e.id for e in events],
        "args": [e.args for e in events],
    }


def _untyped_columns(text: bytes, notes: Counter[str]) -> dict[str, Sequence[str] | Sequence[Raw]]:
    elements = _ELEMENTS.decode(text)
    objects = [e for e in elements if bytes(e)[:1] == b"{"]
    notes["event.not_an_object"] += len(elements) - len(objects)
    events = _ANY_EVENTS.decode(b"[" + b",".join([bytes(e) for e in objects]) + b"]")
    notes["json.invalid_utf8"] += sum(_is_broken(e.name) for e in events)
    notes["event.name_not_text"] += sum(bytes(e.name)[:1] not in (b'"', b"") for e in events)
    return {
        "ph": [_unquote(e.ph) for e in events],
        "category": [_unquote(e.cat) for e in events],
        "name": [_unquote(e.name) for e in events],
        "process": [e.pid for e in events],
        "thread": [e.tid for e in events],
        "ts": [e.ts for e in events],
        "dur": [e.dur for e in events],
        "flow_id": [e.id for e in events],
        "args": [e.args for e in events],
    }


def _is_broken(raw: Raw) -> bool:
    try:
        bytes(raw).decode()
    except UnicodeDecodeError:
        return True
    return False


def _unquote(raw: Raw) -> str:
    """The string that a JSON text means; the text itself if it is not a string, "" for null."""
    text = bytes(raw).decode("utf-8", "replace")
    if text in ("", "null"):
        return ""
    return msgspec.json.decode(text, type=str) if text.startswith('"') else text


def _series(values: Sequence[str] | Sequence[Raw], notes: Counter[str]) -> pl.Series:
    if not values or isinstance(values[0], str):
        return pl.Series(values, dtype=pl.String)
    return _split(_SEPARATOR.join(values), notes)  # type: ignore[arg-type] - Raw has the buffer protocol


def _split(joined: bytes, notes: Counter[str]) -> pl.Series:
    try:
        text = joined.decode("utf-8")
    except UnicodeDecodeError:
        text = joined.decode("utf-8", "replace")
        notes["json.invalid_utf8"] += 1
    return pl.Series([text]).str.split(_SEPARATOR.decode()).explode()


def _absent(name: str) -> pl.Expr:
    column = pl.col(name)
    return pl.when((column == "") | (column == "null")).then(None).otherwise(column)


def _plain(name: str) -> pl.Expr:
    """Text of a JSON scalar without its quotes."""
    return _absent(name).str.strip_chars('"').alias(name)


def _convert(raw: pl.DataFrame, joined: bytes, notes: Counter[str]) -> pl.DataFrame:
    """Texts to typed columns."""
    args = pl.col("args")
    frame = raw.select(
        *(pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in ("ph", "category", "name")),
        _plain("process"),
        _plain("thread"),
        _plain("ts"),
        _plain("dur"),
        _plain("flow_id").cast(pl.UInt64, strict=False),
        pl.when(~args.is_in(["", "null", "{}"])).then(args).alias("args"),
    )
    frame = _fitting_args(_object_args(frame, notes), joined, notes)
    ids = id_columns(frame["args"], joined, notes)
    return frame.select(
        *(pl.col(name).cast(pl.Categorical()) for name in TEXTS),
        _nanoseconds(frame["ts"], notes).alias("start_ns"),
        _nanoseconds(frame["dur"], notes).alias("duration_ns"),
        *ids,
        "flow_id",
        "args",
    )


def _object_args(frame: pl.DataFrame, notes: Counter[str]) -> pl.DataFrame:
    """Arguments that are not an object become an object with the one key `value`."""
    other = ~pl.col("args").str.starts_with("{")
    num_other = int(frame.select(other.sum()).item())
    if not num_other:
        return frame
    notes["event.args_not_object"] += num_other
    return frame.with_columns(
        pl.when(other).then(pl.concat_str(pl.lit('{"value": '), "args", pl.lit("}"))).otherwise("args").alias("args")
    )


def _fitting_args(frame: pl.DataFrame, joined: bytes, notes: Counter[str]) -> pl.DataFrame:
    """Arguments in which numbers that fit neither 64 bits nor a double became text."""
    if not pl.Series([joined.decode("utf-8", "replace")]).str.contains(_HUGE).item():
        return frame
    rows = frame["args"].str.contains(_HUGE).fill_null(value=False).arg_true()
    before = frame["args"].gather(rows)
    after = pl.Series([fitting_numbers(text) for text in before], dtype=pl.String)
    changed = int((before != after).sum())
    if not changed:
        return frame
    notes["event.number_out_of_range"] += changed
    return frame.with_columns(frame["args"].scatter(rows, after))


class Nanoseconds(NamedTuple):
    """A time as it was written."""

    value: int | None
    rounded: bool
    """Digits below 1 ns were rounded."""


def exact_nanoseconds(text: str) -> Nanoseconds:
    """Nanoseconds of a decimal number of microseconds, and whether digits below 1 ns were rounded.

    None if the text is not a number or the value is beyond int64.
    """
    fixed = re.sub(r"^(-?\d+)\.-(\d+)$", r"\1.\2", text.strip())  # how Kineto prints a negative span
    try:
        value = Decimal(fixed) * 1000
        whole = int(value.to_integral_value())
    except (InvalidOperation, ValueError, OverflowError):
        return Nanoseconds(None, rounded=False)
    return Nanoseconds(whole, whole != value) if abs(whole) <= _INT64_MAX else Nanoseconds(None, rounded=False)


def _nanoseconds(texts: pl.Series, notes: Counter[str]) -> pl.Series:
    """Decimal microseconds to integer nanoseconds, digit by digit; odd spellings one at a time."""
    parts = pl.col("text").str.split_exact(".", 1)
    whole, fraction = parts.struct.field("field_0"), parts.struct.field("field_1")
    digits = fraction.fill_null("").str.pad_end(3, "0")
    extra = digits.cast(pl.Int64, strict=False)
    signed = pl.when(whole.str.starts_with("-")).then(-extra).otherwise(extra)
    # a fraction longer than ns or with a sign is left for the exact way
    thousandth = whole.cast(pl.Int64, strict=False)
    fits = (whole.str.len_bytes() <= 16) & thousandth.is_between(-_MOST_MICROSECONDS, _MOST_MICROSECONDS)
    simple = fits & digits.str.contains(r"^\d{3}$")
    value = thousandth * 1000 + signed
    result = texts.alias("text").to_frame().select(pl.when(simple).then(value)).to_series()
    odd = (texts.is_not_null() & result.is_null()).arg_true()
    if odd.is_empty():
        return result
    exact = [exact_nanoseconds(text) for text in texts.gather(odd)]
    notes["time.rounded"] += sum(rounded for _, rounded in exact)
    notes["time.not_a_number"] += sum(value is None for value, _ in exact)
    return result.scatter(odd, pl.Series([value for value, _ in exact], dtype=pl.Int64))
