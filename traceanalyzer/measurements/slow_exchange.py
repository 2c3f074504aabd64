"""Why an all-to-all took long: a member came late, or the exchange itself was slow.

Per exchange, *skew* = last arrival − first arrival. What a transfer should take is the run's own: a line `latency + bytes
÷ rate` fitted robustly (Theil–Sen: median of pairwise slopes) through all members of all exchanges of a group, bytes
being the larger of what a rank sends and receives. *Excess* = transfer − that line. An exchange is

* `compute`: its skew, not its excess, is over a fifth of its duration (what the late rank did before is blame's matter);
* `communication`: its excess is, its skew is not; * `mixed`: both are; * `even`: neither is.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from traceanalyzer.measurements.traffic import EXCHANGE, byte_loads
from traceanalyzer.schema import EXCHANGES, conform

MATERIAL_SHARE = 0.2
"""Skew or excess over this share of an exchange's duration is told."""
MIN_SAMPLES = 8
"""Fewer transfers give no line."""
MAX_PAIRED = 400
"""Samples whose pairwise slopes are taken: every n-th in order of bytes."""
SLOW_SHARE = 0.5
"""Of the largest excess in a matrix: from here on a cell counts as slow."""
CLEAR_CORRELATION = 0.3
"""By how much excess must follow sent bytes more than received ones, or the other way, to tell which."""


def expected_transfers(splits: pl.DataFrame, matrix: pl.DataFrame) -> pl.DataFrame:
    """All-to-alls with known split and bytes: what the transfer took, and what the run's own line says.

    `EXCHANGE`, `rank`, `sent_bytes`, `received_bytes`, `transfer_ns`, `expected_ns`, and `balanced_ns`: the line at the
    mean bytes of a member, as if loads were even.
    `expected_ns` is null with fewer than eight transfers; where all bytes are equal it is the median transfer.
    """
    known = splits.filter((pl.col("kind") == "all_to_all") & pl.col("transfer_ns").is_not_null())
    rows = known.join(byte_loads(matrix), on=[*EXCHANGE, "rank"], nulls_equal=True)
    rows = rows.with_columns(pl.max_horizontal("sent_bytes", "received_bytes").alias("port_bytes"))
    expected = [_with_line(part) for _, part in rows.group_by("group", maintain_order=True)]
    columns = [*EXCHANGE, "rank", "sent_bytes", "received_bytes", "transfer_ns", "expected_ns", "balanced_ns"]
    if not expected:
        none = pl.lit(None, pl.Int64)
        return rows.with_columns(none.alias("expected_ns"), none.alias("balanced_ns")).select(columns)
    return pl.concat(expected).select(columns)


def exchanges(splits: pl.DataFrame, expected: pl.DataFrame) -> pl.DataFrame:
    """`EXCHANGES`: skew, lateness, transfer and cause of every all-to-all all of whose members were captured."""
    size = pl.col("group").str.split(",").list.len()
    whole = splits.filter(
        (pl.col("kind") == "all_to_all")
        & (pl.col("rank").n_unique().over("step", "group", "kind", "sequence") == size)
        & pl.col("wait_ns").is_not_null().all().over("step", "group", "kind", "sequence")
    )
    joined = whole.join(
        expected.select(*EXCHANGE, "rank", "expected_ns"), on=[*EXCHANGE, "rank"], how="left", nulls_equal=True
    )
    by_transfer = pl.col("transfer_ns").arg_max()
    start = pl.col("start_ns")
    rows = joined.group_by(EXCHANGE).agg(
        (start.max() - start.min()).alias("skew_ns"),
        pl.col("rank").get(start.arg_max()).alias("late_rank"),
        (start.max() - start.sort(descending=True).get(1, null_on_oob=True)).alias("lead_ns"),
        pl.col("transfer_ns").max(),
        pl.col("rank").get(by_transfer).alias("slow_rank"),
        pl.col("expected_ns").get(by_transfer),
        pl.col("wait_ns").sum(),
        (pl.col("end_ns").max() - start.min()).alias("duration_ns"),
    )
    return conform(rows.with_columns(_cause().alias("cause")), EXCHANGES).sort("step", "group", "sequence")


def _cause() -> pl.Expr:
    material = MATERIAL_SHARE * pl.col("duration_ns")
    late = pl.col("skew_ns") > material
    slow = (pl.col("transfer_ns") - pl.col("expected_ns") > material).fill_null(value=False)
    return (
        pl.when(late & slow)
        .then(pl.lit("mixed"))
        .when(late)
        .then(pl.lit("compute"))
        .when(slow)
        .then(pl.lit("communication"))
        .otherwise(pl.lit("even"))
    )


def slow_ports(expected: pl.DataFrame) -> pl.DataFrame:
    """Whether a rank's excess follows what it sends or what it receives: `group`, `rank`, `excess_ns`, `side`.

    `side` is `row` (its sends are slow), `column` (its receives are) or `row or column` where its sends and receives are
    too alike to tell; from the correlation of excess with either over the exchanges of a group. Medians over exchanges;
    ranks whose excess is under a fifth of their transfer are left out.
    """
    known = expected.filter(pl.col("expected_ns").is_not_null()).with_columns(
        (pl.col("transfer_ns") - pl.col("expected_ns")).alias("excess_ns")
    )
    rows = known.group_by("group", "rank").agg(
        pl.col("excess_ns").median().round().cast(pl.Int64),
        pl.col("transfer_ns").median(),
        pl.corr("excess_ns", "sent_bytes").fill_nan(0.0).alias("sent"),
        pl.corr("excess_ns", "received_bytes").fill_nan(0.0).alias("received"),
    )
    side = (
        pl.when(pl.col("sent") - pl.col("received") > CLEAR_CORRELATION)
        .then(pl.lit("row"))
        .when(pl.col("received") - pl.col("sent") > CLEAR_CORRELATION)
        .then(pl.lit("column"))
        .otherwise(pl.lit("row or column"))
    )
    return (
        rows.filter(pl.col("excess_ns") > MATERIAL_SHARE * pl.col("transfer_ns"))
        .select("group", "rank", "excess_ns", side.alias("side"))
        .sort("group", "excess_ns", descending=[False, True])
    )


def slow_pattern(excess: NDArray[np.float64]) -> tuple[str, int | None, int | None]:
    """What a matrix of slowness, sender × receiver, looks like: `(pattern, sender, receiver)`.

    `excess[i, j]` is how much longer a message from i to j took than its peers (any unit, 0: normal; the diagonal is not
    read). `row`: one sender is slow to most receivers; `column`: one receiver from most senders; `point`: one pair
    alone; `mixed`: more than one of these; `none`: nothing is slow. Cells over half the largest count as slow.
    """
    cells = np.where(np.eye(len(excess), dtype=bool), 0.0, excess)
    worst = float(cells.max(initial=0.0))
    if worst <= 0:
        return "none", None, None
    slow = cells > worst * SLOW_SHARE
    most = (len(cells) - 1) * 2 / 3
    rows = [int(i) for i in np.flatnonzero(slow.sum(axis=1) >= most)]
    columns = [int(j) for j in np.flatnonzero(slow.sum(axis=0) >= most)]
    if len(cells) > 2:  # of two ranks every pair is a row and a column
        if len(rows) == 1 and not slow[np.arange(len(cells)) != rows[0]].any():
            return "row", rows[0], None
        if len(columns) == 1 and not slow[:, np.arange(len(cells)) != columns[0]].any():
            return "column", None, columns[0]
    if slow.sum() == 1:
        sender, receiver = np.argwhere(slow)[0]
        return "point", int(sender), int(receiver)
    return "mixed", None, None


def _with_line(rows: pl.DataFrame) -> pl.DataFrame:
    """Add `expected_ns` and `balanced_ns` from the line through all transfers of one group."""
    line = _line(rows["port_bytes"].to_numpy().astype(float), rows["transfer_ns"].to_numpy().astype(float))
    mean = pl.col("sent_bytes").mean().over(EXCHANGE)
    at = {"expected_ns": pl.col("port_bytes"), "balanced_ns": mean}
    if line is None:
        return rows.with_columns(pl.lit(None, pl.Int64).alias(name) for name in at)
    return rows.with_columns(
        (line[0] + line[1] * num_bytes).round().cast(pl.Int64).alias(name) for name, num_bytes in at.items()
    )


def _line(num_bytes: NDArray[np.float64], duration: NDArray[np.float64]) -> tuple[float, float] | None:
    """Latency and time per byte, neither below 0; None with too few samples."""
    if len(num_bytes) < MIN_SAMPLES:
        return None
    order = np.argsort(num_bytes, kind="stable")[:: max(1, len(num_bytes) // MAX_PAIRED)]
    x, y = num_bytes[order], duration[order]
    dx = x[None, :] - x[:, None]
    above = dx > 0
    slope = float(np.median(((y[None, :] - y[:, None])[above]) / dx[above])) if above.any() else 0.0
    slope = max(slope, 0.0)
    return max(float(np.median(y - slope * x)), 0.0), slope
