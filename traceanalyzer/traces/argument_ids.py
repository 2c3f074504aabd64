"""The ids inside events' arguments: device, stream, correlation, external id.

A scan with one regular expression per key is exact where the arguments hold no inner object and the key occurs once;
all other rows are parsed.
"""

from __future__ import annotations

from collections import Counter
from typing import cast

import msgspec
import polars as pl

_COLUMNS: tuple[tuple[str, tuple[str, ...], pl.DataType], ...] = (
    ("device", ("device",), pl.Int64()),
    ("stream", ("stream",), pl.Int64()),
    ("correlation", ("correlation",), pl.UInt64()),
    ("external_id", ("External id", "external id"), pl.UInt64()),
)
"""Column, keys in order of preference, type."""


def id_columns(args: pl.Series, notes: Counter[str]) -> list[pl.Series]:
    """The id columns of `EVENTS` out of the arguments' JSON text; null where absent or no integer of the type."""
    frame = args.alias("args").to_frame()
    columns = frame.select(
        *(_scan(keys).cast(dtype, strict=False).alias(name) for name, keys, dtype in _COLUMNS), _doubtful().alias("doubt")
    )
    rows = columns["doubt"].fill_null(value=False).arg_true()
    if rows.is_empty():
        return [columns[name] for name, _, _ in _COLUMNS]
    parsed = [_parse(text) for text in args.gather(rows)]
    result: list[pl.Series] = []
    for name, keys, dtype in _COLUMNS:
        texts = [next((found[key] for key in keys if key in found), None) for found in parsed]
        values = pl.Series(texts, dtype=pl.String).cast(dtype, strict=False)
        notes["event.id_out_of_range"] += sum(
            text is not None and value is None and text.lstrip("-").isdigit()
            for text, value in zip(texts, values, strict=True)
        )
        result.append(columns[name].scatter(rows, values))
    return result


def _scan(keys: tuple[str, ...]) -> pl.Expr:
    found = [pl.col("args").str.extract(rf'"{key}"\s*:\s*"?(-?\d+)"?\s*[,}}]') for key in keys]
    return pl.coalesce(found)


def _doubtful() -> pl.Expr:
    """Rows whose ids a scan could get wrong: inner objects, a key twice, or a key without a plain integer."""
    args = pl.col("args")
    doubt = args.str.count_matches("{", literal=True) > 1
    for _, keys, dtype in _COLUMNS:
        for key in keys:
            count = args.str.count_matches(f'"{key}"', literal=True)
            doubt = doubt | (count > 1) | ((count == 1) & _scan((key,)).cast(dtype, strict=False).is_null())
    return doubt


def _parse(text: str) -> dict[str, str]:
    """The scalars of a JSON object as text, without quotes."""
    try:
        values = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return {}
    return {key: cast("bytes", bytes(value)).decode("utf-8", "replace").strip('"') for key, value in values.items()}
