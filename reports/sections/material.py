"""What sections are made from: the review, its tables, and the timelines laid out from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from reports.page.model import Part, Section
from reports.timeline.steps import shown, timed_steps
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

    @property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """Windows that findings point to, the most costly first; ns."""
        failed = (f for f in self.review.findings if not f.passed)
        return tuple((f.start_ns, f.end_ns) for f in failed if f.start_ns is not None and f.end_ns is not None)

    @property
    def ordered(self) -> bool:
        """Whether the microbatch of an action is known."""
        schedule = self.review.job.schedule
        return schedule is None or schedule.value != "unknown"

    @property
    def named(self) -> tuple[int, ...]:
        """Ranks that findings and culprits name, the most costly first."""
        ranks = [f.rank for f in self.review.findings if not f.passed] + [each.rank for each in self.review.stragglers]
        return tuple(dict.fromkeys(rank for rank in ranks if rank is not None))

    @property
    def set_apart(self) -> frozenset[int]:
        """Captured steps that no figure speaks of."""
        return frozenset(each.step for each in self.review.step.set_apart)

    @cached_property
    def origin_ns(self) -> int | None:
        """Zero of the timeline's axis, on the tables' clock: the start of the step that it opens on."""
        steps = timed_steps(self.tables)
        return steps[shown(steps, self.set_apart)].start_ns if steps else None

    def section(
        self,
        section_id: str,
        title: str,
        parts: Iterable[Part | None],
        *metrics: str,
        absent: str = "",
        lead: str = "",
        in_terminal: bool = True,
        folded: bool = False,
    ) -> Section:
        """A section that says which of `metrics` are withheld and why, and is one such line if it has no parts."""
        missing = withheld(self.review.quality, *metrics) if metrics else ()
        kept = tuple(part for part in parts if part is not None)
        if kept:
            return Section(
                id=section_id, title=title, short=_SHORT.get(section_id, ""), lead=lead, parts=kept, in_terminal=in_terminal, withheld=missing, folded=folded
            )  # fmt: skip
        why = (
            f"{missing[0][1][:1].upper()}{missing[0][1][1:]}."
            if missing
            else absent or "The review gives neither a value nor a reason."
        )
        return Section(id=section_id, title=title, parts=(), absent=why)


_SHORT = {
    "sample": "Captured ranks",
    "bubble": "Bubble",
    "next-schedules": "Next schedules",
    "next-configurations": "Next configurations",
    "all-to-all": "Experts",
    "recorded": "Records",
    "owners": "Owners",
    "kernels": "Kernels",
    "quality": "Quality",
    "method": "Method",
}
"""Sections in the contents bar, where their whole titles would not fit side by side."""


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
