"""Text of events to columns: the one place where JSON becomes a table.

`decode_events` is pure and knows nothing of files, so that a native decoder can replace it. It decodes with msgspec
into structs whose fields stay JSON text, joins each field's texts into one blob, and lets Polars split and convert the
blob: no number passes through a binary float, and no Python object is made per value beyond the text's own handle.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from operator import attrgetter

import msgspec
import polars as pl
from msgspec import Raw

SEPARATOR = "\x1e"
"""Joins texts. A control character cannot occur in valid JSON, neither inside strings nor between tokens."""

_MISSING = Raw(b"")
_INT64_MAX = (1 << 63) - 1


class _Event(msgspec.Struct, gc=False):
    ph: Raw = _MISSING
    cat: Raw = _MISSING
    name: Raw = _MISSING
    pid: Raw = _MISSING
    tid: Raw = _MISSING
    ts: Raw = _MISSING
    dur: Raw = _MISSING
    id: Raw = _MISSING
    args: Raw = _MISSING


class _Ids(msgspec.Struct, gc=False):
    device: Raw = _MISSING
    stream: Raw = _MISSING
    correlation: Raw = _MISSING
    external_id: Raw = msgspec.field(default=_MISSING, name="External id")
    external_id_2021: Raw = msgspec.field(default=_MISSING, name="external id")
    rank: Raw = msgspec.field(default=_MISSING, name="rank")


_EVENTS = msgspec.json.Decoder(list[_Event])
_IDS = msgspec.json.Decoder(list[_Ids])
_POSITION = re.compile(r"\(byte (\d+)\)$")


class MalformedError(Exception):
    """The text is not a JSON array of objects. `byte` is where, None if the decoder does not tell."""

    def __init__(self, message: str, byte: int | None) -> None:
        super().__init__(message)
        self.message = message
        self.byte = byte


def decode_events(text: bytes) -> pl.DataFrame:
    """Decode a JSON array of events.

    Returns one row per element, in order: `ph`, `category`, `name`, `process`, `thread` and `args` as text,
    `start_ns` and `duration_ns` as the file has them times 1000, without base time, and the ids of `EVENTS`.
    What is missing or of the wrong type is null. Raises `MalformedError`.
    """
    try:
        events = _EVENTS.decode(text)
    except msgspec.DecodeError as error:
        match = _POSITION.search(str(error))
        raise MalformedError(str(error), int(match[1]) if match else None) from None
    except RecursionError:
        raise MalformedError("nested too deeply", None) from None
    columns = {name: _texts([getter(e) for e in events]) for name, getter in _FIELDS}
    args = columns["args"]
    return pl.DataFrame(
        [
            _strings(columns["ph"]).alias("ph"),
            _strings(columns["cat"]).alias("category"),
            _strings(columns["name"]).alias("name"),
            _strings(columns["pid"]).alias("process"),
            _strings(columns["tid"]).alias("thread"),
            _nanoseconds(columns["ts"]).alias("start_ns"),
            _nanoseconds(columns["dur"]).alias("duration_ns"),
            _integers(columns["id"], pl.UInt64()).alias("flow_id"),
            *_ids(args),
            args.alias("args"),
        ]
    )


_FIELDS = [(name, attrgetter(name)) for name in _Event.__struct_fields__]


def _texts(values: list[Raw]) -> pl.Series:
    """The JSON texts of one field, null where the field is absent, `null` or an empty object."""
    if not values:
        return pl.Series(dtype=pl.String)
    blob = SEPARATOR.encode().join(values)  # pyright: ignore[reportArgumentType] - Raw has the buffer protocol
    series = pl.Series([blob.decode("utf-8", "replace")]).str.split(SEPARATOR).explode()
    return series.set(series.is_in(["", "null", "{}"]), None)


def _unquote(text: str) -> str:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
    return value if isinstance(value, str) else text


def _strings(texts: pl.Series) -> pl.Series:
    """Strings without quotes and escapes; a value that is no string stays its JSON text."""
    plain = texts.str.strip_prefix('"').str.strip_suffix('"')
    escaped = texts.str.contains("\\", literal=True).fill_null(value=False)
    if not escaped.any():
        return plain
    unique = texts.filter(escaped).unique()
    return texts.replace(unique, [_unquote(text) for text in unique]).to_frame("text").select(
        pl.when(escaped).then(pl.col("text")).otherwise(plain)
    ).to_series()


def exact_nanoseconds(text: str) -> int | None:
    """Nanoseconds of a decimal number of microseconds; None if it is none or beyond int64."""
    try:
        value = Decimal(text.strip().strip('"').strip()) * 1000
        whole = int(value.to_integral_value())
    except (InvalidOperation, ValueError, OverflowError):
        return None
    return whole if abs(whole) <= _INT64_MAX else None


def _nanoseconds(texts: pl.Series) -> pl.Series:
    """Decimal microseconds to integer nanoseconds, digit by digit."""
    parts = texts.str.split_exact(".", 1).struct.unnest()
    whole, fraction = parts["field_0"], parts["field_1"]
    negative = whole.str.starts_with("-")
    digits = fraction.fill_null("").str.pad_end(3, "0")
    plain = digits.str.len_bytes() == 3
    value = whole.cast(pl.Int64, strict=False) * 1000
    extra = digits.cast(pl.Int64, strict=False)
    result = pl.DataFrame({"value": value, "extra": extra, "negative": negative}).select(
        pl.when("negative").then(pl.col("value") - pl.col("extra")).otherwise(pl.col("value") + pl.col("extra"))
    ).to_series()
    in_range = whole.str.len_bytes() <= 16  # more digits could overflow when multiplied
    result = result.set(~(plain & in_range), None)
    rest = texts.is_not_null() & result.is_null()
    if not rest.any():
        return result
    where = rest.arg_true()
    return result.scatter(where, [exact_nanoseconds(text) for text in texts.gather(where)])


def _integers(texts: pl.Series, dtype: pl.DataType) -> pl.Series:
    return texts.str.strip_chars('"').cast(dtype, strict=False)


def _ids(args: pl.Series) -> list[pl.Series]:
    """Device, stream, correlation and external id out of the args' text."""
    objects = args.set(~args.str.starts_with("{"), None).fill_null("{}")
    text = f"[{','.join(objects)}]".encode()
    ids = _IDS.decode(text)
    column = {name: _texts([getattr(i, name) for i in ids]) for name in _Ids.__struct_fields__}
    external = column["external_id"].is_null()
    outer = column["external_id"].zip_with(~external, column["external_id_2021"])
    return [
        _integers(column["device"], pl.Int64()).alias("device"),
        _integers(column["stream"], pl.Int64()).alias("stream"),
        _integers(column["correlation"], pl.UInt64()).alias("correlation"),
        _integers(outer, pl.UInt64()).alias("external_id"),
    ]
