"""Who owned the ranks' time, and what their steps were doing: the two axes of the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import OWNERS, STEP_PHASES
from reports.page.parts import Chart, Grid
from reports.page.text import number, quantity, records

OWNER_NAMES = {"launch_gap": "launch gap"}
PHASE_NAMES = {
    "F": "forward",
    "B": "backward",
    "I": "input gradient",
    "W": "weight gradient",
    "optimizer": "optimizer",
    "grad_sync": "gradient exchange",
    "before_chunks": "before chunks",
    "between_chunks": "between chunks",
    "other": "other",
}


def owner_shares(accounting: pl.DataFrame, column: str = "owner") -> pl.DataFrame:
    """Share of each rank's step time by owner (or phase), all steps: rank, `column`, duration_ns, share. 1 per rank."""
    known = accounting.drop_nulls(["rank", column, "duration_ns"]).with_columns(pl.col(column).cast(pl.String))
    total = known.group_by("rank", column).agg(pl.col("duration_ns").sum())
    return total.with_columns(share=pl.col("duration_ns") / pl.col("duration_ns").sum().over("rank")).sort("rank")


def owner_chart(accounting: pl.DataFrame) -> Chart | None:
    """Owners of each rank's time as bars that sum to 100%; None without rows."""
    return _by_rank(
        owner_shares(accounting), "owner", OWNERS, OWNER_NAMES,
        id="owner-chart",
        title="Who owned each rank's time",
        label="Share of each rank's step time by owner; every bar sums to 100 %.",
        caption="Every nanosecond of every step has exactly one owner, so each bar sums to 100 %.",
    )  # fmt: skip


def phase_chart(accounting: pl.DataFrame) -> Chart | None:
    """What each rank's steps were doing as bars that sum to 100%; None without phases or where there is but one."""
    shares = owner_shares(accounting, "phase") if "phase" in accounting.columns else pl.DataFrame()
    if shares.is_empty() or shares["phase"].n_unique() == 1:
        return None
    return _by_rank(
        shares, "phase", STEP_PHASES, PHASE_NAMES,
        id="phase-chart",
        title="What each rank's steps were doing",
        label="Share of each rank's step time by phase of the step; every bar sums to 100 %.",
        caption="The same time by phase of the step: inside forward and backward chunks, before, between, after them.",
    )  # fmt: skip


def _by_rank(
    shares: pl.DataFrame, column: str, colors: Mapping[str, str], names: Mapping[str, str], **said: str
) -> Chart | None:
    known = shares.filter(pl.col(column).is_in(list(colors)))
    ranks = known["rank"].unique().sort().to_list()[: charts.MAX_ROWS]
    if not ranks:
        return None
    place = {rank: i for i, rank in enumerate(ranks)}
    values = known.filter(pl.col("rank").is_in(ranks)).select(
        row=pl.col("rank").replace_strict(place, return_dtype=pl.Int64), part=column, value=100 * pl.col("share")
    )
    figure = charts.stacked_bars(
        values, [f"rank {rank}" for rank in ranks], colors,
        x_label="share of the step, %", unit="% of the rank's time", x_end=100.0,
    )  # fmt: skip
    used = set(values.filter(pl.col("value") > 0)["part"].to_list())
    cut = known["rank"].n_unique() - len(ranks)
    more = f" {cut} further ranks are not drawn." if cut else ""
    legend = tuple((names.get(part, part), color) for part, color in colors.items() if part in used)
    return Chart(
        id=said["id"],
        figure=figure,
        title=said["title"],
        label=said["label"],
        caption=said["caption"] + more,
        legend=legend,
    )


def phase_grid(review: Mapping[str, Any]) -> Grid | None:
    """Owners by phase, milliseconds per rank and step, with their sums; None where the review has no phases."""
    cells = {
        (str(row.get("phase")), str(row.get("owner"))): number(row.get("ms")) or 0.0
        for row in records(review, "accounting", "phases")
    }
    phases = [name for name in PHASE_NAMES if any(phase == name for phase, _ in cells)]
    owners = [name for name in OWNERS if any(owner == name for _, owner in cells)]
    if not phases or not owners:
        return None

    def line(title: str, wanted: list[str]) -> tuple[str, ...]:
        amounts = [sum(cells.get((phase, owner), 0.0) for phase in wanted) for owner in owners]
        return title, *(quantity(ms, "ms") if ms else "" for ms in amounts), quantity(sum(amounts), "ms")

    return Grid(
        id="phase-grid",
        title="Owners by phase of the step",
        columns=("phase", *(OWNER_NAMES.get(owner, owner) for owner in owners), "sum"),
        rows=(*(line(PHASE_NAMES[phase], [phase]) for phase in phases), line("sum", phases)),
        numeric=frozenset(range(1, len(owners) + 2)),
        note="Mean per rank and step. By rank and step in the table.",
        csv="accounting",
    )
