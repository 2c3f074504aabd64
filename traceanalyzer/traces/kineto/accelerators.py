"""Device events of accelerators that name them in their own way, put into the terms of `KERNELS`.

* MTIA: `mtia_ccp_events` are kernels, but its DMA requests: copies by engines beside the streams, which no recorded call
  launched.
* Ascend: tasks of the process `Ascend Hardware` and the operations of its communication process are kernels on the stream of
  their row. A flow (`HostToDevice`, else `async_npu`) joins each to the call of CANN that launched it. Tasks that only wait for
  an event or a notification are left out, for then nothing runs.

Where streams and launches are not recorded in these terms, nothing changes: such a device is not read.
A kernel without `stream` among its arguments ran on the stream that its row is numbered for (Intel XPU, PrivateUse1).
"""

from __future__ import annotations

import polars as pl

LAUNCHED = "ascend_launch"
"""Category that the start of a launching flow of Ascend is given."""
_MTIA = "mtia_ccp_events"
_DMA = "dma_request"
_ASCEND = "Ascend Hardware"
_ASCEND_COMMUNICATION = ("HCCL", "Communication")
_FLOWS = ("hosttodevice", "async_npu")
_WAITS = (
    r"(?i)\"Task Type\"\s*:\s*\"(?:EVENT|NOTIFY)_(?:WAIT|RECORD)|\"Task Type\"\s*:\s*\"(?:Event|Notify) (?:Wait|Record)"
)
_COPIES = r"(?i)\"Task Type\"\s*:\s*\"(?:SDMA|MEMCPY)|^MEMCPY"
_ROW = ["rank", "cycle", "process", "thread", "start_ns"]
_DIRECT = 1 << 20  # of streams that are numbered for a communication process: apart from those of the hardware


def in_common_terms(events: pl.DataFrame) -> pl.DataFrame:
    """The events (`EVENTS`) with kernels, copies and launches of other accelerators as those of CUDA are."""
    return _with_streams(_of_ascend(_of_mtia(events)))


def _with_streams(events: pl.DataFrame) -> pl.DataFrame:
    """Kernels without a stream get the number of their row."""
    lacking = (pl.col("category") == "kernel") & (pl.col("ph") == "X") & pl.col("stream").is_null()
    if events.filter(lacking).is_empty():
        return events
    row = pl.col("thread").cast(pl.String).cast(pl.Int64, strict=False)
    return events.with_columns(pl.when(lacking).then(row).otherwise("stream").alias("stream"))


def _of_mtia(events: pl.DataFrame) -> pl.DataFrame:
    of_device = (pl.col("category") == _MTIA) & (pl.col("ph") == "X")
    launched = of_device & pl.col("correlation").is_not_null() & pl.col("stream").is_not_null()
    known = events.filter(launched).select("rank").unique()
    if known.is_empty():
        return events
    of_device &= pl.col("rank").is_in(known["rank"].implode())
    copied = of_device & (pl.col("name") == _DMA)
    number = pl.col("process").cast(pl.String).cast(pl.Int64, strict=False)
    return events.with_columns(
        _category(pl.when(copied).then(pl.lit("gpu_memcpy")).when(of_device).then(pl.lit("kernel"))),
        pl.when(of_device).then(number).otherwise("device").alias("device"),
        pl.when(~copied).then("stream").alias("stream"),
    )


def _of_ascend(events: pl.DataFrame) -> pl.DataFrame:
    hardware = _processes(events, [_ASCEND])
    if hardware.is_empty():
        return events
    flows = _launching_flows(events, hardware)
    if flows.is_empty():
        return events
    exchanging = _processes(events, list(_ASCEND_COMMUNICATION)).join(hardware, on=["rank", "cycle"], how="semi")
    tasks = pl.concat([_tasks(events, hardware), _exchanges(events, exchanging)])
    found = tasks.join(flows, on=_ROW, how="left", maintain_order="left").unique(
        ["rank", "cycle", "index"], keep="first", maintain_order=True
    )
    starts = events.join(_with_flow(events).select("rank", "cycle", "_flows").unique(), on=["rank", "cycle"]).filter(
        (pl.col("ph") == "s") & (pl.col("category") == pl.col("_flows")) & pl.col("flow_id").is_not_null()
    )
    calls = starts.select(
        "rank", "cycle", "index", pl.lit(LAUNCHED).alias("_as"), pl.col("flow_id").alias("_joined"), _none("_stream")
    )
    kernels = found.select("rank", "cycle", "index", "_as", pl.col("flow_id").alias("_joined"), "_stream")
    changed = events.join(pl.concat([kernels, calls]), on=["rank", "cycle", "index"], how="left", maintain_order="left")
    is_translated = pl.col("_as").is_not_null()
    return changed.with_columns(
        _category(pl.when(is_translated).then("_as")),
        pl.when(is_translated)
        .then(pl.lit("X"))
        .otherwise(pl.col("ph").cast(pl.String))
        .cast(pl.Categorical)
        .alias("ph"),
        pl.when(is_translated).then("_joined").otherwise("correlation").alias("correlation"),
        pl.when(is_translated).then("_stream").otherwise("stream").alias("stream"),
        pl.when(is_translated).then(pl.col("duration_ns").fill_null(0)).otherwise("duration_ns").alias("duration_ns"),
    ).drop("_as", "_joined", "_stream")


def _tasks(events: pl.DataFrame, hardware: pl.DataFrame) -> pl.DataFrame:
    """What ran on streams of the hardware: `_ROW`, `index`, `_as`, `_stream`."""
    name, args = pl.col("name").cast(pl.String), pl.col("args").fill_null("")
    found = events.filter(pl.col("ph") == "X").join(hardware, on=["rank", "cycle", "process"], how="semi")
    return found.filter(
        ~args.str.contains(_WAITS) & ~name.str.contains(r"(?i)^(?:event|notify)_?(?:wait|record)")
    ).select(
        *_ROW,
        "index",
        pl.when(args.str.contains(_COPIES) | name.str.contains(_COPIES))
        .then(pl.lit("gpu_memcpy"))
        .otherwise(pl.lit("kernel"))
        .alias("_as"),
        pl.col("thread").cast(pl.String).cast(pl.Int64, strict=False).alias("_stream"),
    )


def _exchanges(events: pl.DataFrame, exchanging: pl.DataFrame) -> pl.DataFrame:
    """Operations of the communication process, without the steps on its planes; columns of `_tasks`."""
    found = events.filter((pl.col("ph") == "X") & pl.col("name").cast(pl.String).str.contains(r"^(?:hcom_|Hccl)"))
    row = pl.col("thread").cast(pl.String).cast(pl.Int64, strict=False)
    return found.join(exchanging, on=["rank", "cycle", "process"], how="semi").select(
        *_ROW, "index", pl.lit("kernel").alias("_as"), (row + _DIRECT).alias("_stream")
    )


def _with_flow(events: pl.DataFrame) -> pl.DataFrame:
    """Ends of flows to devices, of the first kind in `_FLOWS` that the rank has, which is `_flows`."""
    category = pl.col("category").cast(pl.String)
    ends = events.filter((pl.col("ph") == "f") & category.is_in(_FLOWS) & pl.col("flow_id").is_not_null())
    place = category.replace_strict({name: place for place, name in enumerate(_FLOWS)}, return_dtype=pl.Int32)
    best = place.min().over("rank", "cycle")
    return ends.filter(place == best).with_columns(category.alias("_flows"))


def _launching_flows(events: pl.DataFrame, hardware: pl.DataFrame) -> pl.DataFrame:
    """`_ROW` and `flow_id` of every flow that ends on a device of which one does."""
    found = _with_flow(events)
    known = found.join(hardware, on=["rank", "cycle", "process"], how="semi").select("rank", "cycle").unique()
    return found.join(known, on=["rank", "cycle"], how="semi").select(*_ROW, "flow_id")


def _processes(events: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """`rank`, `cycle`, `process` of the processes that are called so."""
    named = events.filter((pl.col("ph") == "M") & (pl.col("name") == "process_name"))
    called = pl.col("args").str.extract(r'"name"\s*:\s*"([^"]*)"')
    return named.filter(called.is_in(names)).select("rank", "cycle", "process").unique()


def _category(is_translated: pl.Expr) -> pl.Expr:
    """`category`, as reported where it is."""
    return pl.coalesce(is_translated, pl.col("category").cast(pl.String)).cast(pl.Categorical).alias("category")


def _none(name: str) -> pl.Expr:
    return pl.lit(None, pl.Int64).alias(name)


def may_tell_of_devices() -> pl.Expr:
    """The rows that `in_common_terms` needs to tell what ran on another accelerator, and those that it changes."""
    category, called = pl.col("category").cast(pl.String), pl.col("name").cast(pl.String)
    named = (pl.col("ph") == "M") & (called == "process_name")
    return named | category.is_in([_MTIA, *_FLOWS]) | ((pl.col("ph") == "X") & category.is_null())
