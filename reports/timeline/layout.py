"""The timeline of a run: steps, lanes and spans, ready to be packed and drawn."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from reports.timeline import detail, lanes, spans
from reports.timeline.steps import Step, shown, timed_steps
from traceanalyzer.schema import TABLES, empty

_COMPUTE = ("gemm", "attention", "other", "fused")
MAX_WAITS = 60_000
MAX_ACTIONS = 200_000


@dataclass(frozen=True, slots=True)
class Laid:
    """What the timeline shows."""

    steps: tuple[Step, ...]
    shown: int
    """Position of the step that the page opens on."""
    lanes: lanes.Lanes
    stages: Mapping[int, int | None]
    """First stage of every rank with a lane."""
    actions: pl.DataFrame
    ideal: pl.DataFrame
    """One lane per set of stages; times since the start of the phase."""
    waits: pl.DataFrame
    device: detail.Detail
    busy: pl.DataFrame
    """rank, start_ns, end_ns of computation of all captured ranks, for the map; of collectives where no computation is known."""
    order: tuple[int, ...]
    """All captured ranks, by stage."""
    window: tuple[int, int]
    """First and last ns of everything that is drawn."""
    has_phase: bool
    """Whether steps are pipeline phases, not whole steps."""
    has_kernels: bool
    has_computation: bool
    """Whether computation of ranks without device is drawn."""

    @property
    def busy_with(self) -> str:
        """What the map shows."""
        known = self.has_phase or self.has_kernels or self.has_computation
        return "computing" if known else "communicating"

    @property
    def has_pipeline(self) -> bool:
        """Whether there is more than one stage."""
        return self.has_phase and self.actions["name"].str.extract(r"^(\d+)[FBIW]").n_unique() > 1

    @property
    def origin_ns(self) -> int:
        """Zero of the time axis as the page opens."""
        return self.steps[self.shown].start_ns


def lay_out(
    tables: Mapping[str, pl.DataFrame],
    *,
    apart: Collection[int] = (),
    named: Sequence[int] = (),
    windows: Sequence[detail.Window] = (),
    ordered: bool = True,
    limit: int = detail.MAX_KERNELS,
) -> Laid:
    """The timeline of the tables by name. Raises `ValueError` if nothing in them is timed.

    No step set `apart` is shown first. Ranks in `named` have lanes, `windows` (ns) have kernels, whatever the size of the job.
    """
    steps = timed_steps(tables)
    if not steps:
        raise ValueError("nothing is timed")
    place = shown(steps, apart)
    table = {name: tables.get(name, empty(TABLES[name].schema)) for name in _NEEDED}
    actions = table["actions"].drop_nulls(["rank", "step", "phase", "start_ns", "end_ns"])
    kernels = table["kernels"].drop_nulls(["start_ns", "end_ns"])
    computing = spans.computation_spans(table["owner_segments"]) if actions.is_empty() and kernels.is_empty() else None
    busy = _busy(actions, kernels, computing, table["collectives"])
    places = _places(actions, busy, table)
    chosen = lanes.choose(places, named)
    of_lanes = {
        name: frame.filter(pl.col("rank").is_in(list(chosen.ranks)))
        for name, frame in ({**table, "actions": actions, "kernels": kernels}).items()
    }
    drawn = spans.device_spans(*(of_lanes[name] for name in ("kernels", "communications", "collectives", "p2p")))
    if computing is not None:
        drawn = pl.concat([drawn, computing.filter(pl.col("rank").is_in(list(chosen.ranks)))])
        drawn = drawn.sort("rank", "row", "start_ns")
    first, last = _extent(steps, drawn)
    drawn = drawn.filter((pl.col("end_ns") > first) & (pl.col("start_ns") < last))
    return Laid(
        steps=steps,
        shown=place,
        lanes=chosen,
        stages=dict(places.filter(pl.col("rank").is_in(list(chosen.ranks))).select("rank", "stage").iter_rows()),
        actions=_within(spans.action_spans(of_lanes["actions"], ordered=ordered), MAX_ACTIONS, steps[place]),
        ideal=_ideal_lanes(table["ideal_actions"], actions, ordered=ordered),
        waits=_longest(spans.wait_spans(of_lanes["p2p"], of_lanes["collectives"])) if len(actions) else drawn.clear(),
        device=detail.chosen(drawn, windows, (steps[place].start_ns, steps[place].end_ns), limit),
        busy=busy,
        order=tuple(places.sort("stage", "pipeline", "rank", nulls_last=True)["rank"].to_list()),
        window=(first, last),
        has_phase=not actions.is_empty(),
        has_kernels=not kernels.is_empty(),
        has_computation=computing is not None and not computing.is_empty(),
    )


_NEEDED = (
    "actions",
    "ideal_actions",
    "steps",
    "kernels",
    "communications",
    "collectives",
    "p2p",
    "bubble",
    "owner_segments",
)


def _extent(steps: Sequence[Step], drawn: pl.DataFrame) -> tuple[int, int]:
    """From the first to the last step, with what is drawn up to a tenth of a step around them."""
    first, last = min(step.start_ns for step in steps), max(step.end_ns for step in steps)
    margin = max(step.end_ns - step.start_ns for step in steps)
    if drawn.is_empty():
        return first, last
    low, high = drawn.select(pl.col("start_ns").min(), pl.col("end_ns").max()).row(0)
    return max(min(first, low), first - margin), min(max(last, high), last + margin)


def _busy(
    actions: pl.DataFrame, kernels: pl.DataFrame, of_hosts: pl.DataFrame | None, collectives: pl.DataFrame
) -> pl.DataFrame:
    computing = kernels.filter(pl.col("kind").cast(pl.String).is_in(_COMPUTE))
    known = (computing, actions, actions if of_hosts is None else of_hosts, collectives)
    source = next((frame for frame in known if not frame.is_empty()), actions)
    return source.select("rank", "start_ns", "end_ns").drop_nulls()


def _places(actions: pl.DataFrame, busy: pl.DataFrame, table: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    stages = actions.group_by("rank").agg(pl.col("stage").min())
    pipelines = table["bubble"].group_by("rank").agg(pl.col("pipeline").first())
    lasting = busy.group_by("rank").agg(busy_ns=(pl.col("end_ns") - pl.col("start_ns")).sum())
    named = [table[name].select("rank") for name in ("steps", "kernels", "collectives")]
    ranks = pl.concat([actions.select("rank"), *named]).drop_nulls().unique().sort("rank")
    for frame in (stages, pipelines, lasting):
        ranks = ranks.join(frame, on="rank", how="left")
    return ranks.select(pl.col(name).cast(dtype) for name, dtype in lanes.PLACES.items()).with_columns(
        pl.col("busy_ns").fill_null(0)
    )


def _ideal_lanes(ideal: pl.DataFrame, actions: pl.DataFrame, *, ordered: bool) -> pl.DataFrame:
    """Ideal actions of one rank per set of stages, from the start of their phase."""
    timed = ideal.drop_nulls(["rank", "phase", "start_ns", "end_ns"])
    if timed.is_empty() or actions.is_empty():
        return spans.action_spans(timed.clear(), ordered=ordered)
    sets = timed.group_by("rank").agg(stages=pl.col("stage").unique().sort().cast(pl.String).str.join(","))
    one = sets.group_by("stages").agg(pl.col("rank").min())["rank"].to_list()
    first = timed["start_ns"].min()
    kept = timed.filter(pl.col("rank").is_in(one[: lanes.MAX_LANES]))
    return spans.action_spans(kept.with_columns(pl.col("start_ns") - first, pl.col("end_ns") - first), ordered=ordered)


def _within(frame: pl.DataFrame, limit: int, step: Step) -> pl.DataFrame:
    """At most `limit` spans: the shown step's first, then those nearest to it in time."""
    if len(frame) <= limit:
        return frame
    away = (pl.col("start_ns") - step.start_ns).abs()
    return frame.sort(away).head(limit).sort("rank", "row", "start_ns")


def _longest(frame: pl.DataFrame) -> pl.DataFrame:
    lasting = pl.col("end_ns") - pl.col("start_ns")
    return frame if len(frame) <= MAX_WAITS else frame.sort(lasting).tail(MAX_WAITS).sort("rank", "row", "start_ns")
