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

from traceanalyzer.measurements.experts.traffic import EXCHANGE, byte_loads
from traceanalyzer.schema import EXCHANGES, conform

MATERIAL_SHARE = 0.2
"""Skew or excess over this share of an exchange's duration is reported."""
MIN_SAMPLES = 8
"""Fewer transfers give no line."""
MAX_PAIRED = 400
"""Samples whose pairwise slopes are taken: every n-th in order of bytes."""
SLOW_GROUP = 1.25
"""A group that takes so many times as long for the same bytes as others of its size is slow as a whole."""
ALONE = 2.0
"""A rank with so many times the excess of the next one is the only slow one."""
ALONE_OF_THREE = 1.5
"""Likewise of three members: half the bytes of the other two pass its link, so that they have half its excess."""
ALIKE_BYTES = 1.25
"""A line shows what up to so many times the bytes should take that it was fitted to."""
CLEAR_CORRELATION = 0.3
"""By how much excess must follow sent bytes more than received ones, or the other way, to tell which."""

Line = tuple[float, float]
"""Latency in nanoseconds, nanoseconds per byte."""
Lines = dict[str, Line | None]
"""By group."""


def expected_transfers(splits: pl.DataFrame, matrix: pl.DataFrame) -> pl.DataFrame:
    """All-to-alls with known split and bytes: what the transfer took, and what the run's own line says.

    `EXCHANGE`, `rank`, `index`, `sent_bytes`, `received_bytes`, `transfer_ns`, `expected_ns`, `balanced_ns` (the line at the mean
    bytes of a member, as if loads were even), and `usual_ns` (a fast group's line, where the own one is far slower).
    `expected_ns` is null with fewer than eight transfers; where all bytes are equal it is the median transfer.
    """
    known = splits.filter((pl.col("kind") == "all_to_all") & pl.col("transfer_ns").is_not_null())
    rows = known.join(byte_loads(matrix), on=[*EXCHANGE, "rank"], nulls_equal=True)
    rows = rows.with_columns(pl.max_horizontal("sent_bytes", "received_bytes").alias("port_bytes"))
    own, usual = _lines(rows)
    parts = [(str(group), part) for (group,), part in rows.group_by("group", maintain_order=True)]
    by_own = [_with_line(part, own[group]) for group, part in parts]
    by_usual = [_with_line(part, usual[group]) for group, part in parts]
    patterns = slow_patterns(slow_ports(pl.concat(by_own))) if parts else pl.DataFrame({"group": [], "pattern": []})
    explained = set(patterns.filter(pl.col("pattern") != "mixed")["group"].to_list())
    expected = [
        (mine if group in explained else other).with_columns(other["expected_ns"].alias("usual_ns"))
        for (group, _), mine, other in zip(parts, by_own, by_usual, strict=True)
    ]
    columns = [*EXCHANGE, "rank", "index", "sent_bytes", "received_bytes", "transfer_ns"]
    columns += ["expected_ns", "balanced_ns", "usual_ns"]
    if not expected:
        return rows.with_columns(pl.lit(None, pl.Int64).alias(name) for name in columns[-3:]).select(columns)
    return pl.concat(expected).select(columns)


def exchanges(splits: pl.DataFrame, expected: pl.DataFrame) -> pl.DataFrame:
    """`EXCHANGES`: skew, lateness, transfer and cause of every all-to-all all of whose members were captured.

    Skew compares clocks: exchanges whose late member they do not show are left out.
    """
    size = pl.col("group").str.split(",").list.len()
    whole = splits.filter(
        (pl.col("kind") == "all_to_all")
        & (pl.col("rank").n_unique().over("step", "group", "kind", "sequence") == size)
        & pl.all_horizontal(pl.col("wait_ns", "late_rank").is_not_null())
        .all()
        .over("step", "group", "kind", "sequence")
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
    """Ports that are slow against their group's own line (`_ports`); of three members also against the other two's.

    A slow one of three makes up a third of the samples, and half the bytes of the others: the line through all may be its own.
    """
    found = _ports(expected)
    of_three = pl.col("group").str.count_matches(",", literal=True) == 2
    left = expected.filter(of_three & ~pl.col("group").is_in(found["group"].to_list()))
    return pl.concat([found, _ports(_against_others(left))]).sort("group", "excess_ns", descending=[False, True])


def _against_others(expected: pl.DataFrame) -> pl.DataFrame:
    """`expected` with each rank at the line of the others' transfers, where its bytes are like theirs."""
    rows = expected.with_columns(pl.max_horizontal("sent_bytes", "received_bytes").alias("port_bytes"))
    parts: list[pl.DataFrame] = []
    for _, group in rows.group_by("group", maintain_order=True):
        for (rank,), own in group.group_by("rank", maintain_order=True):
            others = group.filter(pl.col("rank") != rank)
            usual, mine = others["port_bytes"].median(), own["port_bytes"].median()
            alike = isinstance(usual, float) and isinstance(mine, float) and mine <= ALIKE_BYTES * usual
            line = _line(*(others[name].to_numpy().astype(float) for name in ("port_bytes", "transfer_ns")))
            parts.append(_with_line(own, line if alike else None))
    return pl.concat(parts).select(expected.columns) if parts else expected.clear()


def _ports(expected: pl.DataFrame) -> pl.DataFrame:
    """Whether a rank's excess follows what it sends or what it receives: `group`, `rank`, `excess_ns`, `side`.

    `side` is `row` (its sends are slow), `column` (its receives are) or `row or column` where its sends and receives are
    too alike to tell; from the correlation of excess with either over the exchanges of a group. Medians over exchanges;
    ranks whose excess is under a fifth of their transfer, or below 0 in a quarter of the exchanges, are left out, and so are
    those beside one that exceeds them twice over: they only wait on its link.
    """
    known = expected.filter(pl.col("expected_ns").is_not_null()).with_columns(
        (pl.col("transfer_ns") - pl.col("expected_ns")).alias("excess_ns")
    )
    rows = known.group_by("group", "rank").agg(
        pl.col("excess_ns").median().round().cast(pl.Int64),
        pl.col("excess_ns").quantile(0.25).alias("low_ns"),
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
    of_three = pl.col("group").str.count_matches(",", literal=True) == 2
    alone = pl.when(of_three).then(ALONE_OF_THREE).otherwise(ALONE)
    second = pl.col("excess_ns").sort(descending=True).get(1, null_on_oob=True).over("group")
    first = pl.col("excess_ns").max().over("group")
    stands_alone = (first >= alone * second).fill_null(value=False)
    return (
        rows.filter((pl.col("excess_ns") > MATERIAL_SHARE * pl.col("transfer_ns")) & (pl.col("low_ns") > 0))
        .filter(~stands_alone | (pl.col("excess_ns") == first))
        .select("group", "rank", "excess_ns", side.alias("side"))
        .sort("group", "excess_ns", descending=[False, True])
    )


def slow_patterns(ports: pl.DataFrame) -> pl.DataFrame:
    """What the slow ports of each group look like in the matrix of senders and receivers, from `slow_ports`.

    `group`, `pattern`, `sender`, `receiver`: a `row` (one sender), a `column` (one receiver), `row or column` (one rank,
    both ends named), a `point` (one pair: exactly two ranks, alike in excess, one that sends and one that receives), or
    `mixed`.
    """
    rows = [_pattern(str(group), part) for (group,), part in ports.group_by("group", maintain_order=True)]
    schema = {"group": pl.String, "pattern": pl.String, "sender": pl.Int32, "receiver": pl.Int32}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _pattern(group: str, ports: pl.DataFrame) -> tuple[str, str, int | None, int | None]:
    first, *others = sorted(ports.select("rank", "side", "excess_ns").rows(), key=lambda port: -port[2])
    if not others or first[2] >= ALONE * others[0][2]:
        sends, receives = first[1] != "column", first[1] != "row"
        return group, first[1], first[0] if sends else None, first[0] if receives else None
    if len(others) == 1:
        for sender, receiver in ((first, others[0]), (others[0], first)):
            if sender[1] != "column" and receiver[1] != "row" and {sender[1], receiver[1]} != {"row or column"}:
                return group, "point", sender[0], receiver[0]
    return group, "mixed", None, None


def _lines(rows: pl.DataFrame) -> tuple[Lines, Lines]:
    """The own line of every group; and likewise, with that of a fast group of its kind where its own is far slower."""
    own: Lines = {}
    alike: dict[tuple[int, bool | None], list[str]] = {}
    for (group, between), part in rows.group_by("group", "between_hosts", maintain_order=True):
        own[str(group)] = _line(
            part["port_bytes"].to_numpy().astype(float), part["transfer_ns"].to_numpy().astype(float)
        )
        alike.setdefault((str(group).count(","), between), []).append(str(group))  # pyright: ignore[reportArgumentType]
    found = dict(own)
    for groups in alike.values():
        lines = [line for group in groups if (line := own[group]) is not None]
        usual_bytes = float(rows.filter(pl.col("group").is_in(groups))["port_bytes"].to_numpy().mean())
        lines.sort(key=lambda line: line[0] + line[1] * usual_bytes)
        fast = lines[(len(lines) - 1) // 4] if lines else None
        for group in groups:
            line = own[group]
            if line and fast and line[0] + line[1] * usual_bytes > SLOW_GROUP * (fast[0] + fast[1] * usual_bytes):
                found[group] = fast
    return own, found


def _with_line(rows: pl.DataFrame, line: Line | None) -> pl.DataFrame:
    """Add `expected_ns` and `balanced_ns` of one group's transfers."""
    mean = pl.col("sent_bytes").mean().over(EXCHANGE)
    at = {"expected_ns": pl.col("port_bytes"), "balanced_ns": mean}
    if line is None:
        return rows.with_columns(pl.lit(None, pl.Int64).alias(name) for name in at)
    return rows.with_columns(
        (line[0] + line[1] * num_bytes).round().cast(pl.Int64).alias(name) for name, num_bytes in at.items()
    )


def _line(num_bytes: NDArray[np.float64], duration: NDArray[np.float64]) -> Line | None:
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
