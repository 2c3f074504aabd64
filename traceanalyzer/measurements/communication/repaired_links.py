"""What transfers would take if slow ports were repaired.

Every rank that exchanges bytes with a slow port is slowed as well, and so is the line through the group's transfers
(`measurements.slow_exchange`). Of the other ranks' transfers, though, only the bytes exchanged with slow ports are slow:
least squares of `latency + bytes with slow ports ÷ slow rate + other bytes ÷ rate`, each on the side (sent or received)
that takes longer by the fit. Where they do not tell the rates apart (even exchanges), the slow ranks' own transfers join,
all of whose bytes are slow; latency is left out if bytes do not vary. Repaired, all bytes pass at the latter rate, and no
transfer takes longer than in a faster group of the same kind.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from traceanalyzer.measurements.communication.slow_exchange import MIN_SAMPLES, slow_ports
from traceanalyzer.measurements.experts.traffic import EXCHANGE
from traceanalyzer.schema import TRAFFIC

NUM_ROUNDS = 5
"""Fits, each with the sides that the one before chose."""
MAX_LEFT = 0.5
"""Of the squares that one rate for all bytes misses, two rates may leave so much; else the second one shows nothing."""

EXPECTED = pl.Schema(
    {
        **{name: TRAFFIC[name] for name in EXCHANGE},
        "rank": pl.Int32,
        **dict.fromkeys(
            (
                "index",
                "sent_bytes",
                "received_bytes",
                "transfer_ns",
                "expected_ns",
                "balanced_ns",
                "repaired_ns",
            ),
            pl.Int64,
        ),
    }
)
"""What `with_repaired` gives."""

Fit = tuple[float, float]
"""Latency in nanoseconds, nanoseconds per byte."""


def with_repaired(expected: pl.DataFrame, matrix: pl.DataFrame) -> pl.DataFrame:
    """Add `repaired_ns` to `slow_exchange.expected_transfers` of `TRAFFIC`.

    The group's own line where it has no slow port, and where transfers do not separate two rates.
    """
    ports = slow_ports(expected)
    fits: dict[str, Fit] = {}
    for (group,), of_group in ports.group_by("group"):
        rows = _with_slow(expected.filter(pl.col("group") == group), matrix, of_group["rank"].to_list())
        others = rows.filter(~pl.col("is_slow"))
        found = _fit(others) if _tells_rates(others) else _fit(rows)
        if found is not None:
            fits[str(group)] = found
    schema = {"group": pl.String, "_latency": pl.Float64, "_per_byte": pl.Float64}
    rates = pl.DataFrame([(group, *fit) for group, fit in fits.items()], schema=schema, orient="row")
    port_bytes = pl.max_horizontal("sent_bytes", "received_bytes")
    repaired = (pl.col("_latency") + pl.col("_per_byte") * port_bytes).round().cast(pl.Int64)
    return (
        expected.join(rates, on="group", how="left", maintain_order="left")
        .with_columns(pl.min_horizontal(pl.coalesce(repaired, "expected_ns"), "usual_ns").alias("repaired_ns"))
        .drop("_latency", "_per_byte", "usual_ns")
    )


def _with_slow(transfers: pl.DataFrame, matrix: pl.DataFrame, slow: list[int]) -> pl.DataFrame:
    """Add `is_slow`, and `slow_sent` and `slow_received`: bytes exchanged with slow ports; all bytes of a slow one."""
    rows = transfers.with_columns(pl.col("rank").is_in(slow).alias("is_slow"))
    for side, own, other in (("sent", "source", "target"), ("received", "target", "source")):
        with_slow = (
            matrix.filter(pl.col(other).is_in(slow))
            .group_by(*EXCHANGE, pl.col(own).alias("rank"))
            .agg(pl.col("bytes").sum().alias(f"slow_{side}"))
        )
        rows = rows.join(with_slow, on=[*EXCHANGE, "rank"], how="left", nulls_equal=True)
    return rows.with_columns(
        pl.when("is_slow").then(f"{side}_bytes").otherwise(pl.col(f"slow_{side}").fill_null(0)).alias(f"slow_{side}")
        for side in ("sent", "received")
    )


def _tells_rates(rows: pl.DataFrame) -> bool:
    """Whether the bytes exchanged with slow ports vary against the others."""
    share = rows.select(
        (pl.col("slow_sent") / pl.col("sent_bytes")).alias("sent"),
        (pl.col("slow_received") / pl.col("received_bytes")).alias("received"),
    )
    return any(float(share[side].max() or 0) > float(share[side].min() or 0) for side in share.columns)  # pyright: ignore[reportArgumentType]


def _fit(rows: pl.DataFrame) -> Fit | None:
    """From the transfers of ranks whose own ports are healthy; None if they tell no rate faster than the slow one."""
    if rows.height < MIN_SAMPLES:
        return None
    sent, received = (
        rows.select(pl.lit(1.0), f"slow_{side}", pl.col(f"{side}_bytes") - pl.col(f"slow_{side}")).to_numpy()
        for side in ("sent", "received")
    )
    return _rates(sent, received, rows["transfer_ns"].to_numpy().astype(np.float64))


def _rates(sent: NDArray[np.float64], received: NDArray[np.float64], duration: NDArray[np.float64]) -> Fit | None:
    sides = np.greater_equal(sent.sum(axis=1), received.sum(axis=1))
    scaled = np.where(sides[:, None], sent, received)
    columns = _separated(scaled / scaled.max(axis=0).clip(1.0))
    if columns is None:
        return None
    found, known = np.zeros(3), 1.0
    for _ in range(NUM_ROUNDS):
        design = np.where(sides[:, None], sent, received)
        alike = np.column_stack([design[:, 0], design[:, 1] + design[:, 2]])[:, -len(columns) + 1 :]
        found[columns], missed = _least_squares(design[:, columns], duration)
        known = missed / max(_least_squares(alike, duration)[1], 1.0)
        sides = np.greater_equal(sent @ found, received @ found)
    latency, slow, healthy = (float(each) for each in found)
    return (max(latency, 0.0), healthy) if known <= MAX_LEFT and 0 <= healthy < slow else None


def _separated(design: NDArray[np.float64]) -> list[int] | None:
    """Columns whose coefficients follow from the samples: all, or those of bytes alone; None if not even these do."""
    for columns in ([0, 1, 2], [1, 2]):
        if np.linalg.matrix_rank(design[:, columns]) == len(columns):
            return columns
    return None


def _least_squares(design: NDArray[np.float64], duration: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Coefficients, and the sum of squares they miss."""
    scale: NDArray[np.float64] = design.max(axis=0).clip(1.0)
    found: NDArray[np.float64] = np.linalg.pinv(design / scale) @ duration / scale
    return found, float(np.square(design @ found - duration).sum())
