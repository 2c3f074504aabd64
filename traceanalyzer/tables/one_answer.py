"""A function of a frame that is asked about the same frame by many."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import polars as pl


class OneAnswer:
    """Keeps the answer for the frame asked about last, for as long as that frame lives. Frames are never changed in place."""

    def __init__(self, function: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        self._function = function
        self._kept: tuple[weakref.ref[pl.DataFrame], pl.DataFrame] | None = None

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The function's answer."""
        kept = self._kept
        if kept is not None and kept[0]() is frame:
            return kept[1]
        answer = self._function(frame)
        self._kept = (weakref.ref(frame, self._forget), answer)
        return answer

    def _forget(self, gone: weakref.ref[pl.DataFrame]) -> None:
        if self._kept is not None and self._kept[0] is gone:
            self._kept = None
