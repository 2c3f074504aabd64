"""Where time went: owners of every nanosecond, the bubble with its parts, and who is blamed for it."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from traceanalyzer.gaps.pipeline.bubble import transfers_of
from traceanalyzer.measurements.ledger.intervals import clip, sweep
from traceanalyzer.measurements.pipeline.bubble import IDLE_PARTS, gaps_before
from traceanalyzer.measurements.pipeline.replica_waits import replica_exchanges
from traceanalyzer.perfetto.source import Source
from traceanalyzer.perfetto.timeline import POINTS, Counter, Track, slices
from traceanalyzer.perfetto.window import Window

_SPAN = ["rank", "start_ns", "end_ns"]
_DEPENDENCY = ("warmup", "steady", "drain")
_NAMES = {
    "warmup": "dependency: warm-up",
    "steady": "dependency: steady",
    "drain": "dependency: drain",
    "dp_wait": "exposed DP wait",
    "dp_transfer": "exposed DP transfer",
}
_NS_PER_MS = 1e6


def owners(rank: int, source: Source, window: Window, asked: pl.DataFrame) -> Track | None:
    """Who owns which time of a rank; None if nothing tells it. `asked` are moments at which a flow leaves (`Operations.owners`)."""
    segments = source.owners(rank)
    if segments is None:
        return None
    own = window.kept(segments.sort("start_ns")).with_row_index("segment")
    out = (
        asked.filter(pl.col("rank") == rank)
        .sort("at_ns")
        .join_asof(own.select("segment", "start_ns"), left_on="at_ns", right_on="start_ns", strategy="backward")
        .drop_nulls("segment")
        .group_by("segment")
        .agg(pl.col("flow").alias("out"))
    )
    parts = pl.col("label").str.split("/")
    own = own.join(out, on="segment", how="left", maintain_order="left").with_columns(pl.col("out").fill_null([]))
    made = slices(own, parts.list.slice(0, 2).list.join(": "), parts.list.first(), ["step"])
    return Track(
        "accounting", made, "Every nanosecond of a step has one owner; by owner they sum to the table accounting."
    )


def idle(source: Source) -> pl.DataFrame:
    """The bubble in time: `pipeline`, `step`, `rank`, `part`, `start_ns`, `end_ns`; parts as in `BUBBLE`.

    Empty if the table's sums cannot be placed in time: a kept result does not say what an action without known schedule needs.
    """
    columns = ["pipeline", "step", "rank", "part", "start_ns", "end_ns"]
    table, actions = source.whole("bubble"), source.pipeline
    if table.is_empty() or actions.is_empty():
        return pl.DataFrame(schema=dict.fromkeys(columns))
    transfers, exchanges = transfers_of(source.whole("communications")), replica_exchanges(source.whole("collectives"))
    gaps = gaps_before(actions, transfers, exchanges).with_row_index("gap")
    keys = ["pipeline", "step", "rank"]
    after = gaps.group_by(keys).agg(
        pl.lit("drain").alias("part"),
        pl.col("end_ns").max().alias("start_ns"),
        pl.col("phase_end_ns").first().alias("end_ns"),
    )
    before = gaps.select(*keys, "part", pl.col("previous_ns").alias("start_ns"), pl.col("ready_ns").alias("end_ns"))
    late = _covered(
        gaps.select("gap", *keys, pl.col("ready_ns").alias("start_ns"), pl.col("start_ns").alias("end_ns")),
        transfers,
        exchanges,
    )
    found = pl.concat([frame.select(columns) for frame in (before, after, late)]).filter(
        pl.col("end_ns") > pl.col("start_ns")
    )
    return found.sort("rank", "start_ns") if _closes(found, table) else found.clear()


def _covered(windows: pl.DataFrame, transfers: pl.DataFrame, exchanges: pl.DataFrame) -> pl.DataFrame:
    """Time in which an action could have started, by what covers it; in the order in which the bubble gives it away."""
    moving = exchanges.select("rank", pl.col("transfer_start_ns").alias("start_ns"), "end_ns")
    sets = {"transfer": transfers.select(_SPAN), "dp_transfer": moving, "dp_wait": exchanges.select(_SPAN)}
    windows = windows.filter(pl.col("end_ns") > pl.col("start_ns"))
    labelled = pl.concat([frame.with_columns(pl.lit(label).alias("label")) for label, frame in sets.items()])
    spans = windows.select("gap", *_SPAN)
    segments = sweep(clip(labelled, spans, ["rank"]), spans, ["gap", "rank"], list(sets))
    keys = windows.select("gap", "pipeline", "step")
    return segments.join(keys, on="gap").with_columns(pl.col("label").fill_null("overhead").alias("part"))


def _closes(found: pl.DataFrame, table: pl.DataFrame) -> bool:
    """Whether the parts sum to `BUBBLE`."""
    keys = ["pipeline", "step", "rank"]
    length = pl.col("end_ns") - pl.col("start_ns")
    names = [name.removesuffix("_ns") for name in IDLE_PARTS]
    sums = found.group_by(keys).agg(length.filter(pl.col("part") == part).sum().alias(f"_{part}") for part in names)
    both = table.join(sums, on=keys, how="left")
    same = [pl.col(f"{part}_ns").fill_null(0) == pl.col(f"_{part}").fill_null(0) for part in names]
    return both.select(pl.all_horizontal(same).all()).item() is True


def bubble(rank: int, segments: pl.DataFrame, window: Window) -> tuple[list[Track], list[Counter]]:
    """A rank's idle time in the pipeline as a track, and how much of it was dependency so far in each step."""
    own = window.kept(segments.filter(pl.col("rank") == rank))
    if own.is_empty():
        return [], []
    name = pl.col("part").replace(_NAMES)
    track = Track(
        "bubble",
        slices(own, name, pl.lit("bubble"), ["step", "pipeline"]),
        "Idle time of the pipeline phase; the bubble is its dependency. Part by part it sums to the table bubble.",
    )
    waiting = own.filter(pl.col("part").is_in(_DEPENDENCY)).with_columns(
        (pl.col("end_ns") - pl.col("start_ns")).cum_sum().over("step").alias("so_far_ns")
    )
    length = pl.col("end_ns") - pl.col("start_ns")
    points = pl.concat(
        [
            waiting.select(pl.col("start_ns").alias("at_ns"), (pl.col("so_far_ns") - length).alias("value")),
            waiting.select(pl.col("end_ns").alias("at_ns"), pl.col("so_far_ns").alias("value")),
        ]
    ).sort("at_ns", maintain_order=True)
    return [track], [Counter("bubble of the step so far", "ms", _points(points, _NS_PER_MS))]


def ranks_idle(segments: pl.DataFrame, window: Window) -> Iterator[Counter]:
    """Of every pipeline, how many of the chosen ranks have nothing to compute: its integral is the pipeline's bubble."""
    own = window.kept(segments.filter(pl.col("part").is_in(_DEPENDENCY)))
    for key, rows in own.sort("pipeline").partition_by("pipeline", as_dict=True, maintain_order=True).items():
        edges = pl.concat(
            [
                rows.select(pl.col(at).alias("at_ns"), pl.lit(change).alias("value"))
                for at, change in (("start_ns", 1), ("end_ns", -1))
            ]
        )
        counts = (
            edges.group_by("at_ns").agg(pl.col("value").sum()).sort("at_ns").with_columns(pl.col("value").cum_sum())
        )
        yield Counter(f"ranks in the bubble, pipeline {key[0]}", "ranks", _points(counts))


def blame_of_waiter(rank: int, source: Source, window: Window) -> list[Track]:
    """What a rank's waiting in the pipeline is blamed on, step by step: bars as long as the blame, not placed in time."""
    rows = _blame_in_time(source).filter(pl.col("waiter") == rank)
    own = rows.sort("at_ns", pl.col("duration_ns"), descending=[False, True]).with_columns(
        pl.col("duration_ns").clip(lower_bound=0).alias("_length")
    ).with_columns((pl.col("at_ns") + pl.col("_length").cum_sum().over("step") - pl.col("_length")).alias("start_ns"))  # fmt: skip
    own = own.with_columns(
        (pl.col("start_ns") + pl.col("_length")).alias("end_ns"), pl.lit(rank, pl.Int32).alias("rank")
    )
    own = window.kept(own)
    if own.is_empty():
        return []
    name = pl.concat_str(
        pl.col("cause").cast(pl.String), pl.lit(", rank "), pl.col("culprit").cast(pl.String).fill_null("not captured")
    )
    made = slices(own, name, pl.lit("blame"), ["step", "pipeline", "duration_ns"])
    return [
        Track("blame", made, "How much of the step's waiting each cause and culprit explain; lengths, not moments.")
    ]


def blame_counters(source: Source, window: Window) -> Iterator[Counter]:
    """What each culprit and cause cost the chosen ranks that waited, for as long as the pipeline phase of the step."""
    rows = _blame_in_time(source).with_columns(pl.col("waiter").alias("rank"), pl.col("at_ns").alias("start_ns"))
    rows = window.kept(rows.with_columns(pl.col("until_ns").alias("end_ns")))
    sums = (
        rows.group_by("culprit", "cause", "at_ns", "until_ns")
        .agg(pl.col("duration_ns").sum())
        .sort("culprit", "cause", "at_ns")
    )
    for key, own in sums.partition_by("culprit", "cause", as_dict=True, maintain_order=True).items():
        who = "outside the sample" if key[0] is None else f"rank {key[0]}"
        ends = own.select(pl.col("until_ns").alias("at_ns"), pl.lit(0, pl.Int64).alias("value"))
        starts = own.select("at_ns", pl.col("duration_ns").alias("value"))
        by_step = (
            pl.concat([ends.join(starts, on="at_ns", how="anti"), starts]).group_by("at_ns").agg(pl.col("value").sum())
        )
        yield Counter(f"blame on {who}: {key[1]}", "ms", _points(by_step.sort("at_ns"), _NS_PER_MS))


def _blame_in_time(source: Source) -> pl.DataFrame:
    """`BLAME` with begin and end of the pipeline phase (`at_ns`, `until_ns`)."""
    phases = source.whole("bubble").group_by("pipeline", "step").agg(
        pl.col("phase_start_ns").first().alias("at_ns"),
        (pl.col("phase_start_ns") + pl.col("phase_ns")).first().alias("until_ns"),
    )  # fmt: skip
    return source.whole("blame").join(phases, on=["pipeline", "step"])


def _points(frame: pl.DataFrame, divisor: float = 1.0) -> pl.DataFrame:
    return frame.select(pl.col("at_ns").cast(POINTS["at_ns"]), (pl.col("value") / divisor).cast(POINTS["value"]))
