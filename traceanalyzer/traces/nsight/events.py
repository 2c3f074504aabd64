"""Rows of an Nsight Systems export → rows as the decoder of Kineto traces gives them.

Every function takes the rows of one table, with `process` (of the row's `globalTid` or `globalPid`) added and names
resolved, and returns columns of `DECODED`.
"""

from __future__ import annotations

import polars as pl

DECODED = pl.Schema(
    {
        **dict.fromkeys(("ph", "category", "name", "process", "thread"), pl.Categorical()),
        **dict.fromkeys(("start_ns", "duration_ns", "device", "stream"), pl.Int64()),
        **dict.fromkeys(("correlation", "external_id", "flow_id"), pl.UInt64()),
        "args": pl.String(),
    }
)
"""Columns of `Decoded.frame`."""

_DIRECTIONS = {1: "HtoD", 2: "DtoH", 8: "DtoD", 9: "HtoH", 10: "PtoP", 11: "HtoD", 12: "DtoH", 13: "DtoD"}
"""`copyKind` by Kineto's word for it; 11 to 13 are migrations of managed memory."""
RANGES = (59, 60)
"""`eventType` of pushed and of started ranges."""
MARK = 34
"""`eventType` of marks; others are declarations."""
_EMITTED = r"(?s), (?:seq|op_id|sizes|input_op_ids) = .*$"
_OPERATOR = r"^[A-Za-z_]\w*::[\w:]+$"


def calls(rows: pl.DataFrame) -> pl.DataFrame:
    """CUDA calls. Their names carry the version of the entry point, which is taken off."""
    name = pl.col("name").str.replace(r"_v\d+(_ptsz|_ptds)?$", "")
    driver = name.str.contains(r"^cu[A-Z]")
    return _decoded(
        rows.with_columns(
            name.alias("name"),
            pl.when(driver).then(pl.lit("cuda_driver")).otherwise(pl.lit("cuda_runtime")).alias("category"),
            pl.col("correlationId").alias("correlation"),
        )
    )


def ranges(rows: pl.DataFrame) -> pl.DataFrame:
    """NVTX ranges; one that was still open, and a mark, is an instant."""
    name = pl.col("name").str.replace(_EMITTED, "")
    closed = pl.col("end").is_not_null() & pl.col("eventType").is_in(RANGES)
    operator = name.str.contains(_OPERATOR)
    return _decoded(
        rows.with_columns(
            pl.when(closed).then(pl.lit("X")).otherwise(pl.lit("i")).alias("ph"),
            pl.when(closed).then("end").otherwise("start").alias("end"),
            name.alias("name"),
            pl.when(operator).then(pl.lit("cpu_op")).otherwise(pl.lit("user_annotation")).alias("category"),
        )
    )


def kernels(rows: pl.DataFrame) -> pl.DataFrame:
    """Kernels, with grid and block as Kineto writes them."""
    sizes = [
        pl.format('"{}": [{}, {}, {}]', pl.lit(key), *[pl.col(f"{key}{axis}").fill_null(0) for axis in "XYZ"])
        for key in ("grid", "block")
    ]
    in_graph = pl.col("graphNodeId").fill_null(0) > 0
    graph = (
        pl.when(in_graph).then(pl.format(', "graph id": {}', pl.coalesce("graphId", pl.lit(1)))).otherwise(pl.lit(""))
    )
    grid = pl.concat_str(pl.lit(", "), sizes[0], pl.lit(", "), sizes[1])
    shown = pl.when(pl.col("gridX").is_not_null()).then(grid).otherwise(pl.lit(""))
    return _on_device(rows, "kernel", pl.concat_str(shown, graph))


def copies(rows: pl.DataFrame) -> pl.DataFrame:
    """Copies; `source` and `target` are the kinds of memory in words."""
    direction = pl.col("copyKind").replace_strict(_DIRECTIONS, default="unknown", return_dtype=pl.String)
    places = pl.format(" ({} -> {})", "source", "target").fill_null("")
    name = pl.concat_str(pl.lit("Memcpy "), direction, places)
    return _on_device(rows.with_columns(name.alias("name")), "gpu_memcpy", _bytes())


def fills(rows: pl.DataFrame) -> pl.DataFrame:
    """Fills of memory."""
    name = pl.format("Memset ({})", "source").fill_null("Memset (Unknown)")
    return _on_device(rows.with_columns(name.alias("name")), "gpu_memset", _bytes())


def graphs(rows: pl.DataFrame) -> pl.DataFrame:
    """Graphs that were recorded whole: each is one kernel."""
    number = pl.col("graphId").fill_null(0)
    named = rows.with_columns(pl.format("CUDA graph {}", number).alias("name"))
    return _on_device(named, "kernel", pl.format(', "graph id": {}', pl.max_horizontal(number, 1)))


def _bytes() -> pl.Expr:
    return pl.format(', "bytes": {}', "bytes").fill_null("")


def _on_device(rows: pl.DataFrame, category: str, more: pl.Expr) -> pl.DataFrame:
    head = pl.format(
        '"device": {}, "stream": {}, "correlation": {}',
        *[pl.col(name).fill_null(0) for name in ("deviceId", "streamId", "correlationId")],
    )
    return _decoded(
        rows.with_columns(
            pl.lit(category).alias("category"),
            pl.col("deviceId").alias("device"),
            pl.col("streamId").alias("stream"),
            pl.col("streamId").cast(pl.String).alias("thread"),
            pl.col("correlationId").alias("correlation"),
            pl.concat_str(pl.lit("{"), head, more, pl.lit("}")).alias("args"),
        )
    )


def _decoded(rows: pl.DataFrame) -> pl.DataFrame:
    start = pl.col("start")
    timed = rows.with_columns(start.alias("start_ns"), (pl.col("end") - start).alias("duration_ns"))
    filled = timed if "ph" in rows.columns else timed.with_columns(pl.lit("X").alias("ph"))
    return filled.select(
        (pl.col(name) if name in filled.columns else pl.lit(None).alias(name)).cast(dtype, strict=False)
        for name, dtype in DECODED.items()
    )
