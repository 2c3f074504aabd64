"""Events to columns by compiled code: the same result as `decode.decode_events`, or none.

What the compiled scan finds odd goes to `decode_events`, event by event; text that it cannot follow is left to it whole.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from traceanalyzer.traces.decode import TEXTS, Decoded, MalformedError, decode_events
from traceanalyzer.traces.event_scan import ODD, Columns, gather_text, scan_events
from traceanalyzer.traces.json_scan import NON_ASCII
from traceanalyzer.traces.string_table import new_strings
from traceanalyzer.traces.text_column import text_column

_PADDING = 16
_EVENT_BYTES = 32  # common events are longer; of shorter ones some are left for the next call
_FEWEST = 64
_SIGNED = ("start_ns", "duration_ns", "device", "stream")
_UNSIGNED = ("correlation", "external_id", "flow_id")


class FastDecoder:
    """Decodes pieces of one file; keeps its working memory from piece to piece."""

    __slots__ = ("_columns", "_strings", "_text")

    def __init__(self) -> None:
        self._text = np.zeros(_PADDING, dtype=np.uint8)
        self._columns = _columns(0)
        self._strings = new_strings()

    def decode(self, text: bytes, start: int, stop: int) -> tuple[Decoded, int] | None:
        """The events of `text[start:stop]`, which begins with one, and where the next begins or their array ends.

        None if not even the first event can be told apart.
        """
        self._take(text, start, stop)
        num_rows, end, following, holds = scan_events(self._text.ctypes.data, self._columns, self._strings)
        if not num_rows:
            return None
        if holds & NON_ASCII and not _is_utf8(self._text[:end]):
            return None
        columns = Columns(
            texts=self._columns.texts[:, :num_rows],
            numbers=self._columns.numbers[:, :num_rows],
            known=self._columns.known[:num_rows],
            spans=self._columns.spans[:, :num_rows],
        )
        odd = np.flatnonzero(columns.known & ODD)
        spans = [(start + int(columns.spans[0, row]), start + int(columns.spans[1, row])) for row in odd]
        columns.spans[:, odd] = 0
        columns.texts[:, odd] = 0
        columns.known[odd] = 0
        frame = self._frame(columns)
        if not spans:
            return Decoded(frame, {}), start + following
        try:
            exact = decode_events(b"[" + b",".join([text[a:b] for a, b in spans]) + b"]")
        except MalformedError:
            return None
        return Decoded(_spliced(frame, exact.frame, odd), exact.notes), start + following

    def _take(self, text: bytes, start: int, stop: int) -> None:
        """Copy the piece and the zero bytes after it that the scan asks for; forget the strings of the last one."""
        size = stop - start
        if size + _PADDING > self._text.size:
            self._text = np.zeros(size + _PADDING, dtype=np.uint8)
            self._columns = _columns(size // _EVENT_BYTES + _FEWEST)
        self._text[:size] = np.frombuffer(text, dtype=np.uint8, count=size, offset=start)
        self._text[size : size + _PADDING] = 0
        self._strings.slots.fill(0)
        self._strings.next[0] = 1

    def _frame(self, columns: Columns) -> pl.DataFrame:
        strings = self._texts(self._strings.spans[:, 1 : self._strings.next[0]])
        named = pl.concat([pl.Series([None], dtype=pl.String), strings]).cast(pl.Categorical())
        texts = [named.gather(pl.Series(codes)).alias(name) for name, codes in zip(TEXTS, columns.texts, strict=True)]
        values = columns.numbers.copy()  # Polars does not copy, and the next piece is decoded into the same memory
        signed = {name: values[i] for i, name in enumerate(_SIGNED)}
        unsigned = {name: values[i].view(np.uint64) for i, name in enumerate(_UNSIGNED, len(_SIGNED))}
        numbers = pl.DataFrame({**signed, **unsigned, "known": columns.known}).select(
            pl.when(pl.col("known") & (1 << bit) != 0).then(pl.col(name)).alias(name)
            for bit, name in enumerate((*_SIGNED, *_UNSIGNED))
        )
        args = self._texts(columns.spans).alias("args")
        has_args = pl.Series(columns.spans[1] > columns.spans[0])
        return pl.DataFrame([*texts, *numbers, args]).with_columns(pl.when(has_args).then("args").alias("args"))

    def _texts(self, spans: npt.NDArray[np.int64]) -> pl.Series:
        offsets = np.empty(spans.shape[1] + 1, dtype=np.int64)
        return text_column(gather_text(self._text, spans, offsets), offsets)


def _columns(num_rows: int) -> Columns:
    return Columns(
        texts=np.zeros((len(TEXTS), num_rows), dtype=np.int32),
        numbers=np.zeros((len(_SIGNED) + len(_UNSIGNED), num_rows), dtype=np.int64),
        known=np.zeros(num_rows, dtype=np.uint8),
        spans=np.zeros((2, num_rows), dtype=np.int64),
    )


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
