"""Which actions a bubble can be measured on: whole pipelines, whole steps, known stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from traceanalyzer.errors import DomainError
from traceanalyzer.job import Job
from traceanalyzer.measurements.pipeline.bubble import producer_release
from traceanalyzer.measurements.pipeline.unordered import with_message_needs
from traceanalyzer.review.vocabulary import WithheldCode
from traceanalyzer.schedule import Op, Phase, RankOrders, ScheduleName, actions_of
from traceanalyzer.tables import ClockState, Tables
from traceanalyzer.tables.actions.inferred import pipeline_places
from traceanalyzer.tables.actions.overlaps import overlapping_steps
from traceanalyzer.tables.clocks.alignment import same_clock
from traceanalyzer.theory.schedules.known import full_backward_loops
from traceanalyzer.theory.schedules.orders import order, placement

_STEP = ["pipeline", "step"]
_OVERLAP = "compute actions of one rank overlap in every step, so its time cannot be split between them"
MIN_STAGES = 2
_SHOWN = 8
_MOST_APART = 0.5
MAX_EARLY_NS = 500_000
"""What an action may start before its input was computed where clocks are said to agree: Kineto converts CPU clocks to
within some 10 µs, and a range's end is noted late on a loaded host."""


@dataclass(frozen=True, slots=True)
class PipelineActions:
    """`ACTIONS` with `pipeline`, of complete pipelines and steps; or why there are none."""

    actions: pl.DataFrame
    why_not: str | None = None
    code: WithheldCode | None = None
    """The kind of that reason."""
    inferred: bool = False
    """Stages and microbatches were inferred, not labelled."""
    unordered: bool = False
    """No schedule known by name has this order: `stage` is the rank's place, `microbatch` an ordinal, and what each action
    needs (`needed_ns`, `needed_rank`) is known from messages alone."""
    set_apart: str | None = None
    """Steps that are not among the actions because they contradict themselves, in words."""


def pipeline_actions(tables: Tables, job: Job | None) -> PipelineActions:
    """The actions that the job's bubble can be measured on."""
    nothing = tables.actions.clear()
    members = with_clocks(pipelines(tables, job), tables)
    reason = _why_not(tables, members)
    if reason is not None:
        return PipelineActions(nothing, reason, _code(tables, members))
    chosen = members.filter(pl.col("is_whole") & pl.col("shares_clock"))
    actions = tables.actions.join(chosen.select("rank", "pipeline"), on="rank")
    if tables.actions_inferred:
        named = _with_chunks(actions)
        if named.is_empty() and not actions.is_empty():
            return _unordered(actions, tables)
        actions = named
    reason = _why_no_pipeline(actions)
    if reason is not None:
        return PipelineActions(nothing, reason, _code(tables, members))
    complete = complete_steps(actions, job)
    whole = complete.join(overlapping_steps(complete, _STEP), on=_STEP, how="anti")
    if whole.is_empty() and complete.height:
        return PipelineActions(whole, _OVERLAP)
    apart, why_apart = _set_apart(whole, tables.clock)
    kept = whole.join(apart, on=_STEP, how="anti")
    reason = _why_not_whole(kept, tables.clock)
    return PipelineActions(kept, reason, inferred=tables.actions_inferred, set_apart=None if reason else why_apart)


def _set_apart(whole: pl.DataFrame, clock: ClockState) -> tuple[pl.DataFrame, str | None]:
    """Pipeline steps, fewer than half, that contradict their own order, and why: a range was noted late in them.

    Clocks that disagree, or wrong labels, would show in most.
    """
    found = whole.partition_by(_STEP, as_dict=True)
    reasons = {key: reason for key, each in found.items() if (reason := contradiction(each, clock)) is not None}
    if not reasons or len(reasons) >= _MOST_APART * len(found):
        return whole.select(_STEP).clear(), None
    rows = pl.DataFrame(list(reasons), schema={name: whole.schema[name] for name in _STEP}, orient="row")
    steps = sorted({int(str(step)) for _, step in reasons})
    named = f"step{'s' if len(steps) > 1 else ''} {', '.join(map(str, steps))}"
    event = next(iter(reasons.values())).split(":")[0]
    return rows, f"{named} set apart: {event}; the other steps agree, so a range ended late there"


def _unordered(actions: pl.DataFrame, tables: Tables) -> PipelineActions:
    """Chunks whose stage and microbatch nobody knows, of the pipeline steps in which all ranks do as many forwards."""
    forwards = actions.group_by(*_STEP, "rank").agg(
        (pl.col("phase") == "F").sum().alias("forwards"), (pl.col("phase") != "F").any().alias("returns")
    )
    places = actions.group_by("pipeline").agg(pl.col("rank").n_unique().alias("num_ranks"))
    whole = (
        forwards.group_by(_STEP)
        .agg(pl.col("forwards").n_unique() == 1, pl.col("returns").all(), pl.len().alias("found"))
        .join(places, on="pipeline")
        .filter(pl.col("forwards") & pl.col("returns") & (pl.col("found") == pl.col("num_ranks")))
    )
    kept = actions.join(whole, on=_STEP, how="semi")
    if kept.is_empty():
        counts = forwards.filter(pl.col("step") == forwards["step"].min()).sort("rank")
        said = ", ".join(
            f"{num} on rank {rank}" for rank, num in counts.select("rank", "forwards").head(_SHOWN).iter_rows()
        )
        more = " and so on" if counts.height > _SHOWN else ""
        return PipelineActions(
            kept,
            "the unlabelled chunks do not follow any schedule known by name, and ranks run unequal numbers of them: "
            f"forwards of a step are {said}{more}",
        )
    kept = kept.join(overlapping_steps(kept, _STEP), on=_STEP, how="anti")
    if kept.is_empty():
        return PipelineActions(kept, _OVERLAP)
    messages = tables.p2p.filter(pl.col("role") == "pp")
    return PipelineActions(with_message_needs(kept, messages), None, inferred=True, unordered=True)


def _why_no_pipeline(actions: pl.DataFrame) -> str | None:
    """Why these actions form no pipeline; None if they do."""
    if actions.is_empty():
        return "no pipeline was captured with chunks of all its ranks"
    if actions["stage"].n_unique() < MIN_STAGES:
        return "no pipeline: the model is in one stage"
    holders = actions.group_by(*_STEP, "stage").agg(pl.col("rank").n_unique())
    if holders["rank"].max() != 1:
        return "several ranks run the same stage, and neither run.json nor pipeline messages show which of them form a pipeline"
    return None


def _why_not_whole(whole: pl.DataFrame, clock: ClockState) -> str | None:
    """Why complete steps cannot be measured; None if they can."""
    if whole.is_empty():
        return "no step holds forward and backward of every stage and microbatch exactly once"
    return contradiction(whole, clock)


def pipelines(tables: Tables, job: Job | None) -> pl.DataFrame:
    """The pipeline of every rank: `rank`, `pipeline`, `is_whole` (all its ranks are here; null if unknown).

    From the job's description, else from the process groups of its pipeline messages, else one pipeline of all ranks. A
    description of one stage does not count where pipeline messages were recorded: it cannot be of this run.
    """
    if tables.pipelines is not None:
        return tables.pipelines
    present = tables.ranks.select("rank").unique().sort("rank")
    places = pipeline_places(tables.p2p)
    if job is not None and job.layout is not None and (job.layout.pp > 1 or places.is_empty()):
        width = job.layout.width
        known = present.with_columns((pl.col("rank") % width).alias("pipeline"), pl.lit(job.layout.pp).alias("size"))
    elif places.height:
        known = present.join(places, on="rank", how="inner").with_columns(
            pl.col("group").rank("dense").cast(pl.Int64).alias("pipeline") - 1, pl.col("num_ranks").alias("size")
        )
    else:
        world = expected_ranks(tables.ranks, job) or _ranks_of_one_file(tables)
        known = present.with_columns(pl.lit(0).alias("pipeline"), pl.lit(world, pl.Int64).alias("size"))
    whole = (pl.len().over("pipeline") == pl.col("size")).alias("is_whole")
    return known.select("rank", pl.col("pipeline").cast(pl.Int32), whole)


def with_clocks(members: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    """Add `shares_clock` to `rank`, `pipeline`: the times of all ranks of the pipeline that are here may be compared."""
    references = same_clock(tables.ranks, tables.clocks, tables.clock)
    single = pl.col("reference").is_not_null().all() & (pl.col("reference").n_unique() == 1)
    return members.join(references, on="rank", how="left", maintain_order="left").with_columns(
        single.over("pipeline").alias("shares_clock")
    ).drop("reference")  # fmt: skip


def no_clock(ranks: pl.DataFrame, members: pl.DataFrame) -> str:
    """Why times of the ranks of a pipeline cannot be compared; hosts are named only where each pipeline has several."""
    hosts = ranks.select("rank", "host").unique()
    spread = members.join(hosts, on="rank", how="left").group_by("pipeline").agg(pl.col("host").drop_nulls().n_unique())
    if spread.height and bool((spread["host"] > 1).all()):
        return "the ranks of a pipeline ran on different hosts and their clocks could not be compared"
    return "nothing shows that these ranks share a clock, and no operation that two of them took part in relates their clocks"


def _ranks_of_one_file(tables: Tables) -> int | None:
    """How many ranks a pipeline has that one file, which is the whole input, holds completely; None if that is not sure.

    Its stages are numbered without a gap and lie on one rank each, and the last one does not wait for further ones: it
    runs one forward before its first backward, or all of them (GPipe).
    """
    actions, ranks = tables.actions, tables.ranks
    num = ranks["rank"].n_unique()
    if num == 1 or ranks["file"].n_unique() != 1 or actions["rank"].n_unique() != num:
        return None
    holders = actions.group_by("stage").agg(pl.col("rank").n_unique())
    last = holders["stage"].max()
    if holders["rank"].max() != 1 or last != holders.height - 1:
        return None
    forward = pl.col("phase") == "F"
    ahead = (
        actions.filter(pl.col("stage") == last)
        .group_by("step")
        .agg(
            (forward & (pl.col("start_ns") < pl.col("start_ns").filter(~forward).min())).sum().alias("ahead"),
            forward.sum().alias("all"),
        )
    )
    return num if ahead.select(((pl.col("ahead") == 1) | (pl.col("ahead") == pl.col("all"))).all()).item() else None


def expected_ranks(ranks: pl.DataFrame, job: Job | None) -> int | None:
    """How many ranks the job has, from its description, else from what the traces say of the world size."""
    if job is not None and job.world_size:
        return job.world_size
    world = ranks["world_size"].max()
    return world if isinstance(world, int) else None


def _why_not(tables: Tables, members: pl.DataFrame) -> str | None:
    """Why the job's bubble cannot be measured at all; None if it can."""
    if tables.actions.is_empty():
        return (
            "no pipeline: these traces label no compute actions (compute:2F0, PP:2F0, or an action_pattern in the job "
            "file) and hold no pipeline messages"
        )
    if not members["shares_clock"].any():
        return no_clock(tables.ranks, members)
    if members["is_whole"].any():
        whole = members.filter("is_whole")
        return None if whole["shares_clock"].any() else no_clock(tables.ranks, whole)
    found = tables.ranks["rank"].n_unique()
    return f"no pipeline was captured with all its ranks ({found} captured): the bubble of a pipeline needs one rank per stage"


def _code(tables: Tables, members: pl.DataFrame) -> WithheldCode | None:
    """The kind of what `_why_not` says."""
    if tables.actions.is_empty():
        return "no_pipeline"
    return "no_whole_pipeline" if members["shares_clock"].any() and not members["is_whole"].any() else None


def complete_steps(actions: pl.DataFrame, job: Job | None) -> pl.DataFrame:
    """Actions of the pipeline steps in which every stage ran every microbatch forward and backward exactly once."""
    declared = (job.num_stages, job.num_microbatches) if job is not None else (None, None)
    sizes = actions.group_by("pipeline").agg(  # over all steps: a step that lacks a rank must not look whole
        (pl.lit(declared[0]) if declared[0] else pl.col("stage").max() + 1).alias("num_stages"),
        (pl.lit(declared[1]) if declared[1] else pl.col("microbatch").max() + 1).alias("num_microbatches"),
    )
    weights = {"F": 1, "B": 1_000_000, "I": 900_000, "W": 100_000}
    done = pl.col("phase").cast(pl.String).replace_strict(weights, return_dtype=pl.Int64).sum()
    whole = (
        actions.group_by([*_STEP, "stage", "microbatch"])
        .agg(done.alias("done"))
        .group_by(_STEP)
        .agg((pl.col("done") == 1_000_001).all().alias("each_once"), pl.len().alias("num_cells"))
        .join(sizes, on="pipeline")
        .filter("each_once", pl.col("num_cells") == pl.col("num_stages") * pl.col("num_microbatches"))
    )
    return actions.join(whole, on=_STEP, how="semi")


def contradiction(actions: pl.DataFrame, clock: ClockState) -> str | None:
    """The worst start of an action before what it needs was there, in words; None within what clocks may be off.

    Two neighbouring ranks depend on each other in both directions, so an offset between them always shows.
    """
    allowed = max(clock.residual_ns or 0, MAX_EARLY_NS)
    early = pl.col("needed_ns") - pl.col("start_ns")
    rows = producer_release(actions).with_columns(early.alias("early_ns")).filter(pl.col("early_ns") > allowed)
    if rows.is_empty():
        return None
    row = rows.sort("early_ns", descending=True).row(0, named=True)
    action = f"{row['stage']}{row['phase']}{row['microbatch']}"
    return (
        f"{action} on rank {row['rank']} starts {row['early_ns'] / 1e6:.3g} ms before what it needs was computed: the "
        "clocks of the ranks disagree, or labels are wrong"
    )


def _with_chunks(actions: pl.DataFrame) -> pl.DataFrame:
    """Give unlabelled chunks the stage and microbatch that the schedule with their order of phases gives them.

    `stage` comes in as the rank's place in its pipeline. Pipeline steps whose order is not a candidate's are left out.
    """
    named = [
        _named(group) for _, group in actions.sort(*_STEP, "stage", "position").group_by(_STEP, maintain_order=True)
    ]
    return pl.concat(named) if named else actions.clear()


def _named(actions: pl.DataFrame) -> pl.DataFrame:
    places = sorted(actions["stage"].unique())
    letters = [actions.filter(pl.col("stage") == place)["phase"].cast(pl.String).to_list() for place in places]
    orders = matching_orders(letters)
    if orders is None:
        return actions.clear()
    flat = [action for ops in orders for op in ops for action in actions_of(op)]
    return actions.with_columns(
        pl.Series("stage", [action.stage for action in flat], pl.Int32),
        pl.Series("microbatch", [action.microbatch for action in flat], pl.Int32),
    )


def matching_orders(letters: Sequence[Sequence[str]]) -> RankOrders | None:
    """The orders of the simplest schedule whose phases follow each other as `letters[place]` do; None if none does."""
    num_ranks, num_forwards = len(letters), list(letters[0]).count("F")
    for num_chunks in range(1, num_forwards + 1):
        if num_forwards % num_chunks:
            continue
        for name in full_backward_loops():
            orders = _order(name, num_ranks, num_forwards // num_chunks, num_chunks)
            if orders is not None and [_letters(ops) for ops in orders] == [list(row) for row in letters]:
                return orders
    return None


def _letters(ops: Sequence[Op]) -> list[str]:
    return [action.phase.value for op in ops for action in actions_of(op)]


def _order(name: ScheduleName, num_ranks: int, num_microbatches: int, num_chunks: int) -> RankOrders | None:
    """The order of a candidate; None if it does not exist. Stages go round the ranks."""
    try:
        if placement(name, num_ranks, num_chunks) != tuple(range(num_ranks)) * num_chunks:
            return None
        orders = order(name, num_ranks, num_microbatches, num_chunks)
    except DomainError:
        return None
    return (
        orders
        if all(a.phase in (Phase.FORWARD, Phase.BACKWARD) for ops in orders for o in ops for a in actions_of(o))
        else None
    )
