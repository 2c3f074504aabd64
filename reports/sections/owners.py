"""Who owned the ranks' time, and what their steps were doing: the two axes of the ledger."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import OWNERS, STEP_PHASES
from reports.page.grids import grid
from reports.page.model import Chart, Grid, Section
from reports.sections.devices.mesh import late_ranks, mesh_chart
from reports.sections.material import Material
from reports.sections.rows import rows_of
from traceanalyzer.review import Accounting, Figure, OwnerShare, Review
from traceanalyzer.review.words import loss_text, milliseconds, n_of_n, percent, ranks_text, spaced

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


def section(material: Material) -> Section:
    """Where the ranks' time went, by owner and by phase of the step."""
    review = material.review
    account = material.table("accounting").filter(~pl.col("step").is_in(list(material.set_apart)))
    parts = [
        owner_chart(material, account),
        mesh_chart(material),
        phase_chart(material, account),
        owner_grid(review.accounting, review.figures),
    ]
    return material.section("owners", "Owners of time", parts, "accounting", lead=_lead(review))


def _lead(review: Review) -> str:
    """The largest loss, and the ranks that stand out."""
    losses = [row for row in review.accounting.owners if row.owner != "compute" and row.ms > 0]
    computed = next((row.share for row in review.accounting.owners if row.owner == "compute"), 0.0)
    if not review.accounting.owners:
        return ""
    largest = max(losses, key=lambda row: row.ms, default=None)
    has_devices = review.kernels is not None
    lost = (
        f"; the largest loss is {loss_text(largest.owner, has_devices=has_devices)}, {percent(largest.share)}"
        if largest
        else ""
    )
    late = late_ranks(review)
    named = f" {ranks_text(list(late)).capitalize()} {'stands' if len(late) == 1 else 'stand'} out." if late else ""
    return f"{_who(review)} for {percent(computed)} of {'its' if review.quality.num_ranks_found == 1 else 'their'} step{lost}.{named}"


def _who(review: Review) -> str:
    """Whose mean the sentence tells: of all ranks, or of those that were captured."""
    found, expected = review.quality.num_ranks_found, review.quality.num_ranks_expected
    if found == 1:
        return "The captured rank computes"
    if found == expected:
        return f"The {found:,} ranks compute on average"
    return f"The {found:,} captured ranks compute on average"


def owner_shares(accounting: pl.DataFrame, column: str = "owner") -> pl.DataFrame:
    """Share of each rank's step time by owner (or phase): rank, `column`, duration_ns, share. 1 per rank."""
    known = accounting.drop_nulls(["rank", column, "duration_ns"]).with_columns(pl.col(column).cast(pl.String))
    total = known.group_by("rank", column).agg(pl.col("duration_ns").sum())
    return total.with_columns(share=pl.col("duration_ns") / pl.col("duration_ns").sum().over("rank")).sort("rank")


def owner_chart(material: Material, accounting: pl.DataFrame) -> Chart | None:
    """Owners of each rank's time as bars that sum to 100%; None without rows."""
    return _by_rank(
        material,
        owner_shares(accounting),
        "owner",
        OWNERS,
        title="Who owned each rank's time",
        label="Share of each rank's step time by owner; every bar sums to 100%.",
        caption="Every nanosecond of every step has exactly one owner, so each bar sums to 100%.",
    )


def phase_chart(material: Material, accounting: pl.DataFrame) -> Chart | None:
    """What each rank's steps were doing as bars that sum to 100%; None with fewer than two phases."""
    shares = owner_shares(accounting, "phase") if "phase" in accounting.columns else pl.DataFrame()
    if shares.is_empty() or shares["phase"].n_unique() == 1:
        return None
    return _by_rank(
        material,
        shares,
        "phase",
        STEP_PHASES,
        title="What each rank's steps were doing",
        label="Share of each rank's step time by phase of the step; every bar sums to 100%.",
        caption="The same time by phase of the step: inside forward and backward chunks, and before, between and after them.",
    )


def _by_rank(
    material: Material,
    shares: pl.DataFrame,
    column: str,
    colors: Mapping[str, str],
    *,
    title: str,
    label: str,
    caption: str,
) -> Chart | None:
    known = shares.filter(pl.col(column).is_in(list(colors)))
    if known.is_empty():
        return None
    first = pl.when(pl.col(column) == next(iter(colors))).then(pl.col("share")).otherwise(0.0).sum()
    rows = rows_of(material, known.group_by("rank").agg(value=first), late_ranks(material.review))
    means = rows.means(known.rename({"share": "value", column: "part"}), ["part"])
    values = means.with_columns(pl.col("value") * 100)
    used = set(values.filter(pl.col("value") > 0)["part"].to_list())
    return Chart(
        id=f"{column}-chart",
        draw=lambda: charts.stacked_bars(
            values, rows.names, colors, x_label="share of the step, %", unit="% of the rank's time", x_end=100.0
        ),
        title=title,
        label=label,
        caption=caption + rows.said,
        legend=tuple((_word(part), color) for part, color in colors.items() if part in used),
        third=True,
        half=True,
        numbers=_numbers(known, column),
    )


def _numbers(shares: pl.DataFrame, column: str) -> Grid | None:
    """Time and share by rank."""
    rows = shares.sort("rank", "share", descending=[False, True]).to_dicts()
    return grid(
        f"{column}-numbers",
        "By rank",
        rows,
        [
            ("rank", lambda r: r["rank"], "count"),
            (column, lambda r: _word(r[column]), None),
            ("share", lambda r: r["share"], "share"),
            ("all steps", lambda r: r["duration_ns"], "ns"),
        ],
        limit=256,
        few=0,
        csv="accounting",
    )


def _word(part: str) -> str:
    return PHASE_NAMES.get(part, spaced(part))


def owner_grid(accounting: Accounting, figures: Mapping[str, Figure]) -> Grid | None:
    """Owners with their share, and their time by phase: per rank and step. None without owners."""
    if not accounting.owners:
        return None
    cells = {(each.owner, each.phase): each.ms for each in accounting.phases}
    phases = [phase for phase in PHASE_NAMES if any(key[1] == phase for key in cells)]

    def row(owned: OwnerShare) -> tuple[str, ...]:
        by_phase = (cells.get((owned.owner, phase)) for phase in phases)
        times = (milliseconds(ms) if ms else "" for ms in by_phase)
        return (spaced(owned.owner), percent(owned.share), milliseconds(owned.ms), *times)

    whole = sum(owned.ms for owned in accounting.owners)
    sums = (sum(ms for (_, name), ms in cells.items() if name == phase) for phase in phases)
    return Grid(
        id="owner-grid",
        title=f"Where the time of {_of_whom(accounting, figures)} went",
        columns=("owner", "share", "in all", *(_word(phase) for phase in phases)),
        rows=(
            *(row(owned) for owned in accounting.owners),
            ("in all", percent(1.0), milliseconds(whole), *map(milliseconds, sums)),
        ),
        numeric=frozenset(range(1, 3 + len(phases))),
        note="Mean per rank and step. Owners and phases sum to every step exactly." + _bounds(accounting, figures),
        csv="accounting",
        few=len(accounting.owners) + 1,
    )


def _figures(accounting: Accounting, figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """The figures of owners' shares, with what each rests on."""
    named = {owned.owner: f"accounting.owners.{owned.owner}" for owned in accounting.owners}
    return {owner: figures[name] for owner, name in named.items() if name in figures}


def _of_whom(accounting: Accounting, figures: Mapping[str, Figure]) -> str:
    first = next(iter(_figures(accounting, figures).values()), None)
    if first is None or first.num_ranks == first.num_ranks_expected:
        return "the ranks"
    return n_of_n(first.num_ranks, first.num_ranks_expected)


def _bounds(accounting: Accounting, figures: Mapping[str, Figure]) -> str:
    """Shares of waiting and transfer that are known only within bounds."""
    known = _figures(accounting, figures)
    return "".join(
        f" {owner.capitalize()} is {percent(each.low)} to {percent(each.high)}, by the ranks' own durations."
        for owner, each in known.items()
        if owner in ("wait", "transfer") and each.low is not None and each.high is not None and each.low < each.high
    )
