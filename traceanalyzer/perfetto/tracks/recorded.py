"""What the trace recorded: kernels by stream, and threads of the host."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import polars as pl

from traceanalyzer.perfetto.timeline import NO_FLOWS, SLICES, Track, in_lanes, slices
from traceanalyzer.perfetto.tracks.operations import LAUNCH
from traceanalyzer.tables.computation.kernels import DEVICE_CATEGORIES, LAUNCH_CATEGORIES

_KERNEL = ["cycle", "index"]
_CALL = ["cycle", "correlation"]


def streams(
    rank: int, kernels: pl.DataFrame, events: pl.DataFrame | None, *, calls: pl.DataFrame | None
) -> Iterator[Track]:
    """A track for each stream with every kernel and copy of `KERNELS`.

    `events` are the rank's recorded events, for the kernels' own arguments; `calls` the launching calls that are drawn, as
    `launch_flows` gives them.
    """
    bars = (
        kernels if events is None else kernels.join(_arguments(events), on=_KERNEL, how="left", maintain_order="left")
    )
    if calls is not None:
        flows = calls.select("cycle", pl.col("kernel_index").alias("index"), pl.concat_list("flow").alias("into"))
        bars = bars.join(flows, on=_KERNEL, how="left", maintain_order="left").with_columns(
            pl.col("into").fill_null([])
        )
    launched = (pl.col("start_ns") - pl.col("launch_start_ns")).alias("since_launch_ns")
    args = [
        *("step", pl.col("kind").cast(pl.String), "operation", launched, "correlation"),
        pl.when("in_graph").then(pl.lit(value=True)).alias("in_graph"),
        pl.when("cut").then(pl.lit(value=True)).alias("cut"),
    ]
    for key, own in (
        bars.sort("stream", "start_ns", "index").partition_by("stream", as_dict=True, maintain_order=True).items()
    ):
        kind = pl.concat_str(pl.lit("kernel,"), pl.col("kind").cast(pl.String))
        lanes = in_lanes(
            own.select(
                "start_ns",
                "end_ns",
                "name",
                "kind",
                *(c for c in own.columns if c not in ("start_ns", "end_ns", "name", "kind")),
            )
        )
        made = slices(lanes, pl.col("name"), kind, args, lane=pl.col("lane"))
        if "recorded" in lanes.columns:
            made = made.with_columns(_with_recorded(made["args"], lanes["recorded"]))
        yield Track("kernels" if key[0] is None else f"stream {key[0]}", made, f"Kernels and copies of rank {rank}.")


def launch_flows(rank: int, kernels: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Flows from launching calls to the first kernel of each: `cycle`, `index` of the call, `kernel_index`, `flow`."""
    launched = (
        kernels.sort("start_ns", "index")
        .select(*_CALL, pl.col("index").alias("kernel_index"))
        .drop_nulls()
        .unique(_CALL, keep="first", maintain_order=True)
    )
    calls = (
        events.filter(pl.col("category").cast(pl.String).is_in(LAUNCH_CATEGORIES) & (pl.col("ph") == "X"))
        .select(*_CALL, "index")
        .unique(_CALL, keep="first", maintain_order=True)
        .join(launched, on=_CALL, maintain_order="left")
    )
    number = pl.int_range(pl.len(), dtype=pl.UInt64) + LAUNCH + (rank << 32)
    return calls.with_columns(number.alias("flow"))


def threads(events: pl.DataFrame, calls: pl.DataFrame) -> Iterator[Track]:
    """A track for each thread of the host, and each row of other devices, with every event that has a time."""
    category = pl.col("category").cast(pl.String)
    drawn = events.filter(
        pl.col("ph").cast(pl.String).is_in(["X", "i", "I", "R"])
        & ~category.is_in(DEVICE_CATEGORIES).fill_null(value=False)
        & pl.col("start_ns").is_not_null()
    )
    flows = calls.select("cycle", "index", pl.concat_list("flow").alias("out"))
    drawn = drawn.join(flows, on=["cycle", "index"], how="left", maintain_order="left")
    keys = [pl.col(name).cast(pl.String).alias(f"_{name}") for name in ("process", "thread")]
    drawn = drawn.with_columns(*keys)
    for key, own in drawn.partition_by("_process", "_thread", as_dict=True, maintain_order=True).items():
        yield Track(f"thread {key[1]} of process {key[0]}", _thread(own), "As recorded, on the solved clock.")


def _thread(own: pl.DataFrame) -> pl.DataFrame:
    recorded = own["args"].map_elements(_json, return_dtype=pl.String, skip_nulls=True)
    made = own.select(
        pl.col("name").cast(pl.String).fill_null("?"),
        pl.col("category").cast(pl.String).fill_null("host"),
        "start_ns",
        (pl.col("start_ns") + pl.col("duration_ns").fill_null(0)).alias("end_ns"),
        pl.lit(0, pl.Int32).alias("lane"),
        pl.int_range(pl.len(), dtype=pl.Int32).alias("depth"),
        recorded.alias("args"),
        pl.col("out").fill_null([]),
        NO_FLOWS.alias("into"),
    )
    return in_lanes(made, nested=True).select(list(SLICES))


def _arguments(events: pl.DataFrame) -> pl.DataFrame:
    """Own arguments of device rows: `cycle`, `index`, `recorded`."""
    device = events.filter(pl.col("category").cast(pl.String).is_in(DEVICE_CATEGORIES) & pl.col("args").is_not_null())
    return device.select(*_KERNEL, pl.col("args").map_elements(_json, return_dtype=pl.String).alias("recorded")).unique(
        _KERNEL, keep="first", maintain_order=True
    )


def _json(text: str) -> str:
    """JSON as it was recorded; as a string where it is not valid, so that the file stays readable."""
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw], strict=True)
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return msgspec.json.encode({"text": text}).decode()
    return text


def _with_recorded(args: pl.Series, recorded: pl.Series) -> pl.Series:
    """Arguments with the recorded ones inside."""
    frame = pl.DataFrame({"args": args, "recorded": recorded})
    both = pl.concat_str(pl.col("args").str.head(-1), pl.lit(',"recorded":'), "recorded", pl.lit("}"))
    return frame.select(pl.when(pl.col("recorded").is_null()).then("args").otherwise(both).alias("args"))["args"]
