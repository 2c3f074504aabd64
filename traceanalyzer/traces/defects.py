"""The table of what was found to be wrong with the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from traceanalyzer.regular_file import shown
from traceanalyzer.schema import DEFECTS, conform
from traceanalyzer.traces.defect_codes import CODES


@dataclass(slots=True)
class _Found:
    count: int
    byte_from: int | None
    byte_to: int | None
    message: str


def losses(defects: pl.DataFrame) -> pl.DataFrame:
    """The rows of `DEFECTS` that say that data was lost: what `--strict` refuses. A file that is there twice is none."""
    return defects.filter(pl.col("severity").is_in(["loss", "error"]))


class DefectLog:
    """The defects of one file: one entry per code, with the number of events and the bytes that it spans."""

    __slots__ = ("_found", "file", "rank")

    def __init__(self, file: str) -> None:
        self.file = shown(file)
        self.rank: int | None = None
        self._found: dict[str, _Found] = {}

    def add(
        self, code: str, *, events: int = 1, byte_from: int | None = None, byte_to: int | None = None, detail: str = ""
    ) -> None:
        """Record that `code` was met; of several meetings the first detail is kept and the span grows."""
        if code not in CODES:
            raise KeyError(code)
        found = self._found.get(code)
        if found is None:
            self._found[code] = _Found(events, byte_from, byte_to, detail)
            return
        found.count += events
        found.byte_to = byte_to if byte_to is not None else found.byte_to

    def __contains__(self, code: str) -> bool:
        return code in self._found

    def rows(self) -> list[dict[str, Any]]:
        """The entries as rows of `DEFECTS`."""
        return [
            defect_row(
                code,
                self.file,
                rank=self.rank,
                events=f.count,
                byte_from=f.byte_from,
                byte_to=f.byte_to,
                detail=f.message,
            )
            for code, f in self._found.items()
        ]


def defect_row(
    code: str,
    file: str,
    *,
    rank: int | None = None,
    events: int = 0,
    byte_from: int | None = None,
    byte_to: int | None = None,
    detail: str = "",
) -> dict[str, Any]:
    """One row of `DEFECTS`."""
    known = CODES[code]
    return {
        "code": code,
        "severity": known.severity,
        "file": shown(file),
        "rank": rank,
        "byte_from": byte_from,
        "byte_to": byte_to,
        "events_affected": events,
        "action": known.action,
        "affects": list(known.affects),
        "message": f"{known.meaning}: {shown(detail)}" if detail else known.meaning,
        "hint": known.hint,
    }


def defect_table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows as the table `DEFECTS`, in the order of `in_order`."""
    return in_order(conform(pl.DataFrame(rows, schema={**DEFECTS, "severity": pl.String()}, orient="row"), DEFECTS))


def in_order(defects: pl.DataFrame) -> pl.DataFrame:
    """`DEFECTS` worst first, then by rank: the names of files change nothing."""
    order = ["rank", "code", "byte_from", "message", "file"]
    return defects.sort("severity", *order, descending=[True, *[False] * len(order)])
