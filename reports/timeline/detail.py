"""For which windows the page holds every kernel, when it cannot hold all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

MAX_KERNELS = 200_000
"""Spans of kernels in one page: under 1 MB of it."""
Window = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Detail:
    """The spans of kernels that the page holds."""

    spans: pl.DataFrame
    windows: tuple[Window, ...]
    """Where all kernels of the lanes are, in ns; empty if that is everywhere."""
    num_all: int
    cut_step: bool
    """Whether the typical step does not fit whole."""

    @property
    def whole(self) -> bool:
        """Whether every kernel of the lanes is here."""
        return len(self.spans) == self.num_all


def chosen(spans: pl.DataFrame, findings: Sequence[Window], step: Window | None, limit: int = MAX_KERNELS) -> Detail:
    """All spans if there are no more than `limit`; else those that meet the windows of `findings`, in order, and the typical `step`.

    A finding's window longer than the step is cut to its length. What does not fit any more is cut at its end.
    """
    if len(spans) <= limit:
        return Detail(spans, (), len(spans), False)
    length = step[1] - step[0] if step else max((b - a for a, b in findings), default=0)
    wanted = [(a - (b - a) // 5, min(b, a + length) + (b - a) // 5) for a, b in findings] + ([step] if step else [])
    kept, windows = spans.clear(), list[Window]()
    cut = False
    for window in wanted:
        fits = _that_fits(spans, window, limit - len(kept))
        if fits is None:
            cut = True
            continue
        cut = cut or fits != window
        windows.append(fits)
        kept = pl.concat([kept, _meeting(spans, fits)]).unique()
    return Detail(kept.sort("rank", "row", "start_ns"), tuple(windows), len(spans), cut)


def _meeting(spans: pl.DataFrame, window: Window) -> pl.DataFrame:
    return spans.filter((pl.col("start_ns") < window[1]) & (pl.col("end_ns") > window[0]))


def _that_fits(spans: pl.DataFrame, window: Window, room: int) -> Window | None:
    """The window, cut at its end so that no more than `room` spans meet it; None if nothing is left of it."""
    met = _meeting(spans, window)
    if len(met) <= room:
        return window
    if room <= 0:
        return None
    last = int(met["start_ns"].sort()[room])
    return (window[0], last) if last > window[0] and len(_meeting(spans, (window[0], last))) <= room else None
