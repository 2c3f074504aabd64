"""Kernels → the actions table of device traces.

An action is what its CPU range launched: the range runs ahead of the device, so a kernel belongs to the action whose
range holds the *launch* (backward kernels are launched from the autograd thread while the main thread's range is open).
Its span is first to last of these kernels, without the pipeline's own sends and receives, exchanges between replicas
(`tables.replicas`) and the optimizer.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import ACTIONS, conform
from traceanalyzer.tables.actions.labelled import device_labels
from traceanalyzer.tables.actions.labels import Labels
from traceanalyzer.tables.groups.replicas import beside_chunks
from traceanalyzer.tables.rank_groups import in_rank_groups

_KEYS = ["rank", "step"]


def device_actions(
    events: pl.DataFrame,
    labelled: pl.DataFrame,
    kernels: pl.DataFrame,
    communications: pl.DataFrame,
    labels: Labels,
    windows: pl.DataFrame,
) -> pl.DataFrame:
    """Labelled actions (`ACTIONS`) from `EVENTS`, their `labelled_ranges`, `KERNELS` and `COMMUNICATIONS`, sorted by rank, step and start.

    `windows` is `STEPS`: what is labelled on the device itself is of the step in which it starts.
    """
    spans = _spans(labelled, kernels, communications)
    own = device_labels(events, labels, windows).drop("position")
    return ordered(pl.concat([conform(spans, ACTIONS).drop("position"), own]))


@in_rank_groups
def _spans(labelled: pl.DataFrame, kernels: pl.DataFrame, communications: pl.DataFrame) -> pl.DataFrame:
    """First to last kernel that each range launched."""
    ranges = labelled.rename({"start_ns": "range_start_ns", "end_ns": "range_end_ns"})
    work = chunk_kernels(kernels, communications)
    inside = (
        work.sort("launch_start_ns")
        .join_asof(
            ranges.sort("range_start_ns"),
            left_on="launch_start_ns",
            right_on="range_start_ns",
            by="rank",
            strategy="backward",
            check_sortedness=False,
        )
        .filter(pl.col("launch_start_ns") < pl.col("range_end_ns"))
    )
    return inside.group_by([*_KEYS, "stage", "phase", "microbatch", "range_start_ns"]).agg(
        pl.col("start_ns").min(), pl.col("end_ns").max()
    )


def chunk_kernels(kernels: pl.DataFrame, communications: pl.DataFrame) -> pl.DataFrame:
    """Launched kernels that can start or end a chunk: computation, and communication between the ranks that share it.

    Not among them are the pipeline's own messages, exchanges between replicas, and the optimizer.
    """
    pipeline = communications.filter(pl.col("role") == "pp").select("rank", "cycle", "index")
    return (
        kernels.filter(
            pl.col("launch_start_ns").is_not_null() & pl.col("step").is_not_null() & (pl.col("kind") != "copy")
        )
        .join(pipeline, on=["rank", "cycle", "index"], how="anti")
        .join(beside_chunks(kernels, communications), on=["rank", "cycle", "index"], how="anti")
    )


def ordered(spans: pl.DataFrame) -> pl.DataFrame:
    """Actions with their position on the rank, in the `ACTIONS` schema."""
    position = pl.int_range(pl.len(), dtype=pl.Int32).over(_KEYS).alias("position")
    rows = spans.sort(*_KEYS, "start_ns", "end_ns").with_columns(position)
    return conform(rows, ACTIONS)
