"""Spans as bytes: columns in planes, packed, so that a million of them fit into a page and the page's script reads them at once."""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

MAX_NAMES = 4000
"""Different names that are kept; a rarer one is shown as its kind."""
MAX_NAME_LENGTH = 120
NO_PEER = 0
_COLUMNS = (("start", 4), ("duration", 4), ("kind", 1), ("name", 2), ("peer", 2), ("match", 4))
"""Columns in the order of the bytes, with their width; `peer` is a rank plus one, `match` a number plus one, 0 is none."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Packed spans with what their numbers mean."""

    data: str
    """Base64 of a gzip: for each column its byte planes, lowest first; start is the difference to the span before on its track."""
    num: int
    unit_ns: int
    names: tuple[str, ...]
    tracks: tuple[tuple[int, int, int, int], ...]
    """(layer, rank, row, number of spans), in the order of the spans."""


def pack(layers: list[tuple[int, pl.DataFrame]], zero_ns: int, kinds: list[str]) -> Packed:
    """Spans of every layer, of which each frame is sorted by rank, row and start; times are since `zero_ns` (no span starts before it)."""
    frames = [frame.with_columns(layer=pl.lit(number, pl.UInt8)) for number, frame in layers]
    spans = pl.concat(frames)
    last = int(spans["end_ns"].max() or zero_ns)  # type: ignore[arg-type] - Int64
    unit = max(1 if len(spans) < 50_000 else 100, -(-(last - zero_ns) // 0xFFFF_FFFF))
    names, name = _numbered(spans["name"])
    start = (spans["start_ns"].to_numpy() - zero_ns) // unit
    end = -(-(spans["end_ns"].to_numpy() - zero_ns) // unit)
    first = spans.select(f=pl.struct("layer", "rank", "row").rle_id().diff().fill_null(1) != 0)["f"].to_numpy()
    delta = np.where(first, start, np.diff(start, prepend=0))
    columns = {
        "start": delta,
        "duration": end - start,
        "kind": spans["kind"].replace_strict({kind: i for i, kind in enumerate(kinds)}, default=0).to_numpy(),
        "name": name,
        "peer": (spans["peer"].fill_null(-1) + 1).to_numpy(),
        "match": (spans["match"].rank("dense").fill_null(0)).to_numpy(),
    }
    planes = b"".join(_planes(columns[column], width) for column, width in _COLUMNS)
    data = base64.b64encode(gzip.compress(planes, 6, mtime=0)).decode("ascii")
    tracks = spans.group_by("layer", "rank", "row", maintain_order=True).len()
    return Packed(data, len(spans), unit, names, tuple(tracks.iter_rows()))


def _numbered(names: pl.Series) -> tuple[tuple[str, ...], Any]:
    """The most frequent names, and each span's number among them; the last one stands for all others."""
    short = names.fill_null("").str.head(MAX_NAME_LENGTH)
    counts = short.value_counts(sort=True).head(MAX_NAMES)
    known = counts[short.name].to_list()
    numbers = short.replace_strict({name: i for i, name in enumerate(known)}, default=len(known), return_dtype=pl.Int64)
    return (*known, ""), numbers.to_numpy()


def _planes(column: Any, width: int) -> bytes:  # noqa: ANN401 - an array
    """The lowest `width` bytes of every number: first all lowest bytes, then all second ones, and so on."""
    raw = np.asarray(column).astype("<i8").view(np.uint8).reshape(-1, 8)
    return np.ascontiguousarray(raw[:, :width].T).tobytes()
