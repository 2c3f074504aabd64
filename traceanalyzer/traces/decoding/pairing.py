"""`B` and `E` events to complete ones, across frames."""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl

_Row = dict[str, Any]
_DEEPEST = 512  # open begins that an end is compared with; more would cost time with the square of the events


class Pairing:
    """Holds what was begun and not ended, per process and thread; an end closes the last open begin of its name."""

    __slots__ = ("_open", "_unopened_ends", "num_pairs")

    def __init__(self) -> None:
        self._open: dict[tuple[str | None, str | None], list[_Row]] = {}
        self._unopened_ends = 0
        self.num_pairs = 0

    def pair(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Replace `B` and `E` rows by one `X` row for each pair that is now complete, at the begin's position."""
        is_half = pl.col("ph").is_in(["B", "E"])
        done = [row for half in frame.filter(is_half).iter_rows(named=True) if (row := self._take(half)) is not None]
        whole = frame.filter(~is_half)
        return pl.concat([whole, pl.DataFrame(done, schema=frame.schema, orient="row")]).sort("index")

    def unpaired(self) -> tuple[int, int]:
        """Begins without end and ends without begin, so far."""
        return sum(map(len, self._open.values())), self._unopened_ends

    def _take(self, half: _Row) -> _Row | None:
        stack = self._open.setdefault((half["process"], half["thread"]), [])
        if half["ph"] == "B":
            stack.append(half)
            return None
        name = half["name"]
        match = next(
            (
                i
                for i in range(len(stack) - 1, max(-1, len(stack) - 1 - _DEEPEST), -1)
                if name in (None, stack[i]["name"])
            ),
            None,
        )
        if match is None:
            self._unopened_ends += 1
            return None
        begin = stack.pop(match)
        self.num_pairs += 1
        return {
            **begin,
            "ph": "X",
            "duration_ns": half["start_ns"] - begin["start_ns"],
            "args": _merged(begin["args"], half["args"]),
            **{
                key: begin[key] if half[key] is None else half[key]
                for key in ("device", "stream", "correlation", "external_id")
            },
        }


def _merged(begin: str | None, end: str | None) -> str | None:
    """Arguments of both halves; where both have a key, the end's value counts."""
    if begin is None or end is None:
        return begin or end
    try:
        members = [msgspec.json.decode(text, type=dict[str, msgspec.Raw]) for text in (begin, end)]
    except (msgspec.MsgspecError, RecursionError):
        return begin
    return msgspec.json.encode(members[0] | members[1]).decode()
