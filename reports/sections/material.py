"""What sections are made from: the review, its tables, and the timelines laid out from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from reports.charts import exchanges, timeline
from reports.page.model import Part, Section
from traceanalyzer.review import Quality, Review
from traceanalyzer.schema import TABLES, empty


@dataclass(frozen=True)
class Material:
    """A review with its tables; any table may be missing."""

    review: Review
    tables: Mapping[str, pl.DataFrame]

    def table(self, name: str) -> pl.DataFrame:
        """The table called `name`; an empty one of its schema if it is missing."""
        return self.tables[name] if name in self.tables else empty(TABLES[name].schema)

    @cached_property
    def actions(self) -> timeline.Timeline | None:
        """The timeline of pipeline actions."""
        return timeline.lay_out(self.table("actions"), self.table("ideal_actions"), apart=self.set_apart)

    @cached_property
    def exchanges(self) -> exchanges.Exchanges | None:
        """The timeline of all-to-alls, on the same axis."""
        zero = self.actions.origin_ns if self.actions else None
        return exchanges.lay_out(self.table("collectives"), zero, apart=self.set_apart)

    @property
    def set_apart(self) -> frozenset[int]:
        """Captured steps that no figure speaks of."""
        return frozenset(each.step for each in self.review.step.set_apart)

    @property
    def origin_ns(self) -> int | None:
        """Zero of the time axis, on the tables' clock."""
        first = self.actions or self.exchanges
        return first.origin_ns if first else None

    @property
    def first_step_ns(self) -> int | None:
        """Start of the first step of any rank; None without steps."""
        starts = self.table("steps")["start_ns"].drop_nulls()
        return int(starts.min()) if starts.len() else None  # pyright: ignore[reportArgumentType] - integers

    def section(
        self,
        section_id: str,
        title: str,
        parts: Iterable[Part | None],
        *metrics: str,
        absent: str = "",
        lead: str = "",
        in_terminal: bool = True,
    ) -> Section:
        """A section that says which of `metrics` are withheld and why, and is one such line if it has no parts."""
        missing = withheld(self.review.quality, *metrics) if metrics else ()
        kept = tuple(part for part in parts if part is not None)
        if kept:
            return Section(id=section_id, title=title, lead=lead, parts=kept, in_terminal=in_terminal, withheld=missing)
        why = f"Withheld: {missing[0][1]}." if missing else absent or "The review gives neither a value nor a reason."
        return Section(id=section_id, title=title, parts=(), absent=why)


def withheld(quality: Quality, *metrics: str) -> tuple[tuple[str, str], ...]:
    """What is withheld of `metrics` and their parts (of everything without any), once for each reason: (names, reason)."""
    names: dict[str, list[str]] = {}
    for item in quality.withheld:
        if not metrics or any(f"{item.metric}.".startswith(f"{metric}.") for metric in metrics):
            names.setdefault(item.reason, []).append(item.metric)
    return tuple((", ".join(found), reason) for reason, found in names.items())


def reason(quality: Quality, metric: str) -> str:
    """Why `metric`, a part of it or what it is a part of has no value."""
    for item in quality.withheld:
        if f"{item.metric}.".startswith(f"{metric}.") or f"{metric}.".startswith(f"{item.metric}."):
            return item.reason
    return "the review gives neither a value nor a reason"
