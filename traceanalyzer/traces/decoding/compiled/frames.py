"""Events to columns by compiled code: the same result as `decode.decode_events`, or none.

What the compiled scan finds odd goes to `decode_events`, event by event; text that it cannot follow is left to it whole.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from traceanalyzer.traces.decoding.compiled.events import (
    ARGS_END,
    ARGS_START,
    CORRELATION,
    KNOWN,
    NUM_COLUMNS,
    ODD,
    PH,
    THREAD,
    gather_text,
    scan_events,
)
from traceanalyzer.traces.decoding.compiled.grammar import NON_ASCII
from traceanalyzer.traces.decoding.compiled.strings import StringTable
from traceanalyzer.traces.decoding.decode import TEXTS, Decoded, MalformedError, decode_events
from traceanalyzer.traces.decoding.text_column import text_column

_PADDING = 16
_EVENT_BYTES = 32  # common events are longer; of shorter ones some are left for the next call
_FEWEST = 64
_NUMBERS = ("start_ns", "duration_ns", "device", "stream", "correlation", "external_id", "flow_id")


class FastDecoder:
    """Decodes pieces of one file; keeps its working memory from piece to piece."""

    __slots__ = ("_rows", "_strings", "_text")

    def __init__(self) -> None:
        self._text = np.zeros(_PADDING, dtype=np.uint8)
        self._rows = np.zeros((_FEWEST, NUM_COLUMNS), dtype=np.int64)
        self._strings = StringTable()

    def decode(self, text: bytes, start: int, stop: int) -> tuple[Decoded, int] | None:
        """The events of `text[start:stop]`, which begins with one, and where the next begins or their array ends.

        None if not even the first event can be separated.
        """
        self._take(text, start, stop)
        num_rows, end, following, holds = scan_events(
            self._text.ctypes.data, self._rows.ctypes.data, len(self._rows), self._strings.address
        )
        if not num_rows or (holds & NON_ASCII and not _is_utf8(self._text[:end])):
            return None
        rows = np.ascontiguousarray(self._rows[:num_rows].T)
        odd = np.flatnonzero(rows[KNOWN] & ODD)
        spans = rows[ARGS_START:, odd] + start
        rows[KNOWN:, odd] = 0
        frame = self._frame(rows, end)
        if not odd.size:
            return Decoded(frame, {}), start + following
        try:
            exact = decode_events(b"[" + b",".join([text[a:b] for a, b in zip(*spans[:2], strict=True)]) + b"]")
        except MalformedError:
            return None
        return Decoded(_spliced(frame, exact.frame, odd), exact.notes), start + following

    def _take(self, text: bytes, start: int, stop: int) -> None:
        """Copy the piece and the zero bytes after it that the scan asks for; forget the strings of the last one."""
        size = stop - start
        if size + _PADDING > self._text.size:
            self._text = np.zeros(size + _PADDING, dtype=np.uint8)
            self._rows = np.zeros((size // _EVENT_BYTES + _FEWEST, NUM_COLUMNS), dtype=np.int64)
        self._text[:size] = np.frombuffer(text, dtype=np.uint8, count=size, offset=start)
        self._text[size : size + _PADDING] = 0
        self._strings.clear()

    def _frame(self, rows: npt.NDArray[np.int64], end: int) -> pl.DataFrame:
        """Columns of the events before `end`; strings of what follows were not checked to be UTF-8."""
        strings = self._texts(self._strings.spans(end))
        named = pl.concat([pl.Series([None], dtype=pl.String), strings]).cast(pl.Categorical())
        codes = rows[PH : THREAD + 1].astype(np.uint32)
        texts = [named.gather(pl.Series(one)).alias(name) for name, one in zip(TEXTS, codes, strict=True)]
        # A column of one row keeps the memory it was made from, which the next piece is read into.
        copies = [rows[i].copy() for i in range(len(_NUMBERS))]
        numbers = {
            name: copies[i].view(np.uint64) if i >= CORRELATION else copies[i] for i, name in enumerate(_NUMBERS)
        }
        known = pl.col("known")
        frame = pl.DataFrame({**numbers, "known": rows[KNOWN], "args": self._texts(rows[ARGS_START : ARGS_END + 1])})
        return frame.select(
            *texts,
            *(pl.when(known & (1 << bit) != 0).then(pl.col(name)).alias(name) for bit, name in enumerate(_NUMBERS)),
            pl.when(pl.Series(rows[ARGS_END] > rows[ARGS_START])).then("args").alias("args"),
        )

    def _texts(self, spans: npt.NDArray[np.int64]) -> pl.Series:
        offsets = np.empty(spans.shape[1] + 1, dtype=np.int64)
        return text_column(gather_text(self._text, spans, offsets), offsets)


def _is_utf8(text: npt.NDArray[np.uint8]) -> bool:
    try:
        text.tobytes().decode()
    except UnicodeDecodeError:
        return False
    return True


def _spliced(frame: pl.DataFrame, exact: pl.DataFrame, rows: npt.NDArray[np.int64]) -> pl.DataFrame:
    """`frame` with its rows `rows` replaced by those of `exact`."""
    places = np.arange(frame.height)
    places[rows] = frame.height + np.arange(len(rows))
    return pl.concat([frame, exact.select(frame.columns)])[places]
