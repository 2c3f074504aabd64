"""An answer as text, CSV, JSON, JSON lines, Parquet or Markdown."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import polars as pl

from traceanalyzer.output import as_words, csv_text, flat
from traceanalyzer.review.words import NOTHING

Format = Literal["text", "csv", "json", "jsonl", "parquet", "markdown"]
FORMATS: tuple[Format, ...] = get_args(Format)
_BY_SUFFIX: dict[str, Format] = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".md": "markdown",
}
_MOST_CHARACTERS = 60
"""Of a cell in text; other formats have it whole."""
_GAP = "  "


def format_of(output: str) -> Format:
    """The format that the name of a file asks for; text where it asks for none."""
    return _BY_SUFFIX.get(Path(output).suffix.lower(), "text")


def render(frame: pl.DataFrame, kind: Format, width: int | None = None) -> bytes:
    """A table in the format `kind`; lines of text are at most `width` columns where one is given."""
    makers: dict[Format, Callable[[], bytes]] = {
        "text": lambda: _lines(_text(frame, width)),
        "csv": lambda: csv_text(frame).encode(),
        "json": lambda: as_words(frame).write_json().encode() + b"\n",
        "jsonl": lambda: as_words(frame).write_ndjson().encode(),
        "parquet": lambda: _parquet(frame),
        "markdown": lambda: _lines(_markdown(frame)),
    }
    return makers[kind]()


def _lines(lines: Iterator[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _text(frame: pl.DataFrame, width: int | None) -> Iterator[str]:
    """Columns that line up. Where they do not fit, the rest stands below, each block beginning with the first column."""
    cells = _cells(frame, _MOST_CHARACTERS)
    right = [dtype.is_numeric() for dtype in frame.dtypes]
    sizes = [max(map(len, column)) for column in cells]
    for number, block in enumerate(_blocks(sizes, width)):
        if number:
            yield ""
        for row in zip(*(cells[i] for i in block), strict=True):
            line = (
                cell.rjust(sizes[i]) if right[i] else cell.ljust(sizes[i]) for i, cell in zip(block, row, strict=True)
            )
            yield _GAP.join(line).rstrip()


def _blocks(sizes: Sequence[int], width: int | None) -> Iterator[list[int]]:
    """Positions of columns that stand side by side; a column is never broken."""
    if not sizes:
        return
    block, used = [0], sizes[0]
    for i, size in enumerate(sizes[1:], 1):
        if width is not None and used + len(_GAP) + size > width and len(block) > 1:
            yield block
            block, used = [0], sizes[0]
        block.append(i)
        used += len(_GAP) + size
    yield block


def _markdown(frame: pl.DataFrame) -> Iterator[str]:
    cells = [[cell.replace("\\", "\\\\").replace("|", "\\|") for cell in column] for column in _cells(frame, None)]
    rows = list(zip(*cells, strict=True))
    for number, row in enumerate(rows):
        yield f"| {' | '.join(row)} |"
        if number == 0:
            yield "|" + "|".join("---:" if dtype.is_numeric() else "---" for dtype in frame.dtypes) + "|"


def _cells(frame: pl.DataFrame, most: int | None) -> list[list[str]]:
    """Every column as text, its name first."""
    clean = flat(frame).with_columns(pl.col(pl.String).str.replace_all(r"[\pC\s]+", " "))
    return [[name, *(_cell(name, value, most) for value in clean[name])] for name in clean.columns]


def _cell(name: str, value: object, most: int | None) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.3f}" if name.endswith("_ms") else f"{value:.6g}"
    text = str(value)
    return text if most is None or len(text) <= most else text[: most - 1] + "…"
