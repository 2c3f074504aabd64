"""The ids inside events' arguments: device, stream, correlation, external id."""

from __future__ import annotations

from collections import Counter

import msgspec
import polars as pl

_COLUMNS: tuple[tuple[str, tuple[str, ...], pl.DataType], ...] = (
    ("device", ("device",), pl.Int64()),
    ("stream", ("stream",), pl.Int64()),
    ("correlation", ("correlation",), pl.UInt64()),
    ("external_id", ("External id", "external id"), pl.UInt64()),
)
"""Column, keys in order of preference, type."""


class _Ids(msgspec.Struct, gc=False):
    """Ids as every writer means them: integers."""

    device: int | None = None
    stream: int | None = None
    correlation: int | None = None
    external_id: int | None = msgspec.field(default=None, name="External id")
    older_external_id: int | None = msgspec.field(default=None, name="external id")


_IDS = msgspec.json.Decoder(list[_Ids])


def id_columns(args: pl.Series, joined: bytes | None, notes: Counter[str]) -> list[pl.Series]:
    """The id columns of `EVENTS` out of the arguments' JSON text; null if absent or no integer of the type.

    `joined` is the same texts as one JSON array, if the caller has it and every text is an object.
    """
    if joined is not None:
        try:
            return _fast(joined)
        except (msgspec.DecodeError, OverflowError, TypeError, UnicodeDecodeError, RecursionError):
            pass  # some id is not an integer: take each row for itself
    return _one_by_one(args, notes)


def _fast(joined: bytes) -> list[pl.Series]:
    found = _IDS.decode(joined)
    external = pl.Series("external_id", [i.external_id for i in found], dtype=pl.UInt64)
    if external.null_count():
        older = [i.older_external_id for i in found]
        if any(value is not None for value in older):
            external = external.zip_with(external.is_not_null(), pl.Series(older, dtype=pl.UInt64))
    return [
        pl.Series("device", [i.device for i in found], dtype=pl.Int64),
        pl.Series("stream", [i.stream for i in found], dtype=pl.Int64),
        pl.Series("correlation", [i.correlation for i in found], dtype=pl.UInt64),
        external,
    ]


def _one_by_one(args: pl.Series, notes: Counter[str]) -> list[pl.Series]:
    parsed = [_parse(text) for text in args]
    result: list[pl.Series] = []
    for name, keys, dtype in _COLUMNS:
        texts = [next((found[key] for key in keys if key in found), None) for found in parsed]
        values = pl.Series(name, texts, dtype=pl.String).cast(dtype, strict=False)
        notes["event.id_out_of_range"] += sum(
            text is not None and value is None and text.lstrip("-").isdigit()
            for text, value in zip(texts, values, strict=True)
        )
        result.append(values)
    return result


def _parse(text: str | None) -> dict[str, str]:
    """The members of a JSON object as text, without quotes."""
    if text is None:
        return {}
    try:
        values = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return {}
    return {key: bytes(value).decode("utf-8", "replace").strip('"') for key, value in values.items()}
