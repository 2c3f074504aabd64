"""Blame and worth over all steps of a run: what made its pipeline steps longer than their ideal, and what to gain.

The step of a job is as long as its longest pipeline, so of every step that one is attributed; figures are means over
steps, and so add up: measured = ideal + Σ causes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from traceanalyzer.gaps.causes.blame import Blamed, blame, with_duration_parts
from traceanalyzer.gaps.causes.graph import DependencyGraph, dependency_graph, with_arrivals
from traceanalyzer.gaps.causes.slowdown import rank_slowdowns
from traceanalyzer.gaps.causes.worth import Worth, with_evened, worth
from traceanalyzer.schema import ATTRIBUTION, BLAME, CAUSE, conform

_STEP = ["pipeline", "step"]


@dataclass(frozen=True, slots=True)
class Attributed:
    """What made the steps of one run longer than their ideal; milliseconds are means over steps."""

    measured_ms: float
    ideal_ms: float
    schedule_ms: float
    """Bubble of the ideal, mean over ranks."""
    causes_ms: Mapping[str, float]
    """All of `CAUSE`; with `ideal_ms` they sum to `measured_ms`."""
    culprits: pl.DataFrame
    """`cause`, `culprit`, `ms`: what the causes are made of, largest first."""
    waits: pl.DataFrame
    """`waiter`, `culprit`, `cause`, `ms`: what each rank's waiting is made of, largest first."""
    worth: Worth
    attribution: pl.DataFrame
    """`ATTRIBUTION` of every pipeline and step."""
    blame: pl.DataFrame
    """`BLAME` of every pipeline and step."""
    slowdowns: pl.DataFrame
    """`rank`, `slowdown`."""
    steps: tuple[tuple[DependencyGraph, Blamed], ...]
    """What all of it comes from."""
    separable: bool
    """Every stage has enough replicas to tell a straggler from it."""


def attribute(
    actions: pl.DataFrame,
    receives: pl.DataFrame,
    num_stages: int | None = None,
    messages: pl.DataFrame | None = None,
    *,
    coupled: bool = False,
) -> Attributed:
    """Blame and worth of complete pipeline steps.

    Args:
        actions: `ACTIONS` with `pipeline`, actions of a rank not overlapping; optionally with `comm_ns` and
            `launched_ns` (see `gaps.blame`).
        receives: `RECEIVES` of the main thread; empty if nothing shows what messages took.
        num_stages: stages of the whole pipeline where not all were captured.
        messages: of device ranks, as `gaps.message_nodes` gives them; then `actions` has `launched_ns`.
        coupled: ranks of different pipelines wait for each other inside actions (see `gaps.worth`).

    Raises `InputError` if the actions cannot be put in order.
    """
    parts = with_evened(with_duration_parts(with_arrivals(actions, receives)))
    steps: list[tuple[DependencyGraph, Blamed]] = []
    for _, rows in sorted(parts.partition_by(_STEP, as_dict=True).items()):
        graph = dependency_graph(rows, num_stages, messages)
        steps.append((graph, blame(graph)))
    attribution = conform(pl.concat([each.attribution for _, each in steps]), ATTRIBUTION)
    blamed = conform(pl.concat([each.blame for _, each in steps]), BLAME)
    longest = _longest(steps)
    num_steps = len(longest)
    per_step = pl.col("duration_ns").sum() / 1e6 / num_steps
    shown = attribution.join(longest, on=_STEP, how="semi")
    culprits = shown.group_by("cause", "culprit").agg(per_step.alias("ms")).filter(pl.col("ms") != 0)
    waits = (
        blamed.join(longest, on=_STEP, how="semi").group_by("waiter", "culprit", "cause").agg(per_step.alias("ms"))
    ).filter(pl.col("ms") != 0)
    by_cause = shown.group_by("cause").agg(per_step.alias("ms"))  # sums of integers: the same in any order
    causes = dict.fromkeys(CAUSE.categories, 0.0) | dict(by_cause.iter_rows())
    return Attributed(
        measured_ms=float(longest["measured_ns"].sum()) / 1e6 / num_steps,
        ideal_ms=float(longest["ideal_ns"].sum()) / 1e6 / num_steps,
        schedule_ms=float(longest["schedule_ns"].sum()) / 1e6 / num_steps,
        causes_ms=causes,
        culprits=_by_size(culprits).select("cause", "culprit", "ms"),
        waits=_by_size(waits.sort("waiter")).select("waiter", "culprit", "cause", "ms"),
        worth=worth(steps, shown, coupled=coupled),
        attribution=attribution,
        blame=blamed,
        slowdowns=rank_slowdowns(steps),
        steps=tuple(steps),
        separable=bool(parts["separable"].all()),
    )


def _by_size(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort(["ms", "cause", "culprit"], descending=[True, False, False], maintain_order=True)


def _longest(steps: list[tuple[DependencyGraph, Blamed]]) -> pl.DataFrame:
    """The longest pipeline of every step, with its lengths and the bubble of its ideal (mean over ranks)."""
    rows: list[dict[str, float]] = []
    for graph, each in steps:
        num_ranks = graph.actions["rank"].n_unique()
        rows.append(
            {
                "pipeline": graph.actions["pipeline"][0],
                "step": graph.actions["step"][0],
                "measured_ns": each.measured_ns,
                "ideal_ns": each.ideal_ns,
                "schedule_ns": each.ideal_ns - int(graph.actions["base_ns"].sum()) / num_ranks,
            }
        )
    schema = {"pipeline": pl.Int32, "step": pl.Int32, "measured_ns": pl.Int64, "ideal_ns": pl.Int64}
    table = pl.DataFrame(rows, schema={**schema, "schedule_ns": pl.Float64})
    return table.sort(["step", "measured_ns", "pipeline"], descending=[False, True, False]).group_by(
        "step", maintain_order=True
    ).first()  # fmt: skip
