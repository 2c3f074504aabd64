"""Files named from the place that was given: a result that is handed on does not tell the folders above it."""

from __future__ import annotations

from pathlib import PurePath

import polars as pl


def relative(file: str, place: str) -> str:
    """A file below `place` from there on; a file elsewhere, or `place` itself, as it is."""
    folder = place.rstrip("/") + "/"
    if file.startswith(folder):
        return file.removeprefix(folder)
    return PurePath(file).name if file == place else file


def with_relative_files(table: pl.DataFrame, place: str) -> pl.DataFrame:
    """A table with its column `file` named from `place` on."""
    folder = place.rstrip("/") + "/"
    text = pl.col("file").cast(pl.String)
    name = pl.when(text == place).then(pl.lit(PurePath(place).name)).otherwise(text.str.strip_prefix(folder))
    return table.with_columns(name.cast(table["file"].dtype).alias("file"))
