"""Two runs on one time axis: the new run's lanes above the typical step of the base."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import polars as pl

from reports.page.model import Section, Timeline, TimelineContent
from traceanalyzer.review import Review
from traceanalyzer.schema import TABLES, empty

Result = tuple[Review, Mapping[str, pl.DataFrame]]


def timelines(base: Result, new: Result) -> Section | None:
    """Both runs, aligned where their steps begin; None without pipeline actions of both."""
    if any(_actions(result).is_empty() for result in (base, new)):
        return None
    return Section(
        id="timeline-section",
        title="Timelines, aligned",
        lead="The new run above the base's typical step, which begins where the chosen step does, and where others leave room for it.",
        parts=(Timeline(id="timeline", make=functools.cache(lambda: _content(base, new))),),
    )


def _actions(result: Result) -> pl.DataFrame:
    frame = result[1].get("actions", empty(TABLES["actions"].schema))
    return frame.drop_nulls(["rank", "step", "phase", "start_ns", "end_ns"])


def _apart(review: Review) -> frozenset[int]:
    return frozenset(each.step for each in review.step.set_apart)


def _content(base: Result, new: Result) -> TimelineContent:
    from reports.timeline.layout import lay_out  # noqa: PLC0415 - a terminal does not need arrays
    from reports.timeline.part import BASE, content  # noqa: PLC0415
    from reports.timeline.steps import shown, timed_steps  # noqa: PLC0415

    steps = timed_steps({"actions": _actions(base)})
    typical = steps[shown(steps, _apart(base[0]))].step
    tables = {**new[1], "ideal_actions": _actions(base).filter(pl.col("step") == typical)}
    late = [each.rank for each in new[0].findings if not each.passed and each.rank is not None]
    laid = lay_out(tables, apart=_apart(new[0]), named=list(dict.fromkeys(late)))
    return content(laid, late, halves=BASE)
