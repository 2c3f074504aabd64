"""Every number of the review with its bounds, its scope and the ranks it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import cast, get_args

import polars as pl
from msgspec import Meta, Struct
from msgspec.structs import fields

from traceanalyzer.review import (
    Accounting,
    AllToAll,
    Bubble,
    Figure,
    Quality,
    RankMemory,
    Review,
    Sample,
)
from traceanalyzer.review.part import BASIS
from traceanalyzer.review.vocabulary import Coverage, FigureScope

NO_FIGURES = ("num_", "slowest_rank", "tokens_per_step", "from_stage", "to_stage")
"""Counts and names: they are not measurements of anything beyond themselves."""
_PLACES = {(RankMemory, "rank"), (RankMemory, "stage")}
"""Where a row belongs."""

_OWN_BASES = {
    "step.unprofiled_ms": "the training loop's clock, steps without profiler",
    "step.wall_clock_ms": "the training loop's clock, the profiled step",
    "bubble.theory": "the schedule with equal stages, free transfer, no jitter and no host delay",
    "bubble.attribution_ms": "blame over the dependency graph of the complete steps",
    "all_to_all.theory": "balance, chance and volume by formula",
    "memory.stages": "chunk spans, the schedule simulated, and what the run metered, of one rank",
    "memory.activation_bytes": "a formula of the declared model, of one stage",
}
"""Of figures that do not rest on what their section does."""
_EXACT = ("bubble.theory", "all_to_all.theory", "mfu.flops_per", "mfu.hardware_flops", "mfu.peak", "validity", "memory")
_TIMED_BY_CLOCKS = ("bubble", "all_to_all")
_EFFECTS = {"bubble.measured_share": "bubble.measured_share", "all_to_all.wait_share": "wait of all_to_all"}
"""Figures whose uncertainty by clocks is known, and under which name."""
_LOADS = ("all_to_all.rank_load", "all_to_all.expert_load", "all_to_all.chance")

_Range = tuple[float | None, float | None, float | None]
"""Low, value and high."""


@cache
def sections() -> dict[str, str]:
    """Sections of the result that measure, each with the basis of its figures."""
    marks = ((field.name, mark) for field in fields(Review) for mark in get_args(field.type) if isinstance(mark, Meta))
    return {name: mark.extra[BASIS] for name, mark in marks if mark.extra}


def figures(of: Review, captured: Sample, waits: pl.DataFrame, windows: pl.DataFrame) -> dict[str, Figure]:
    """A `Figure` for every single number of the sections that measure, by its path in the result.

    Rows of lists (`bubble.stages`, `all_to_all.groups`) name their own ranks; only those of `memory` are added here, by their
    position (`memory.stages.0.peak_bytes`), and the owners' shares as `accounting.owners.<owner>`. `waits` is
    `WAIT_BOUNDS`, `windows` is `STEPS`.
    """
    result = of.quality
    captured_ranks = _captured(captured, result)
    job: tuple[FigureScope, int] = ("job", result.num_ranks_found)
    pipelines = _of_pipelines(of.bubble, result)
    places: dict[str, tuple[FigureScope, int]] = {
        "bubble": pipelines,
        "next_schedules": pipelines,
        "all_to_all": _of_groups(of.all_to_all, captured, result),
        "mfu": job,
        "what_if": job,
        "expert_sharding": _of_groups(of.all_to_all, captured, result),
        "memory.stages": ("rank", 1),
        "memory.activation_bytes": ("stage", 1),
    }
    found: dict[str, Figure] = {}
    for section in sections():
        for path, value in _numbers(getattr(of, section), section):
            scope, num_ranks = next(
                (place for at, place in places.items() if path.startswith(at + ".")), captured_ranks
            )
            low, high = _bounds(path, value, result, open_end=of.step.open_end)
            found[path] = _figure(path, value, (low, high), scope, num_ranks, result)
    for owner, (low, value, high) in _owner_bounds(of.accounting, result, waits, windows).items():
        path = f"accounting.owners.{owner}"
        found[path] = _figure(path, value, (low, high), *captured_ranks, result)
    return found


def _figure(
    path: str,
    value: float | None,
    bounds: tuple[float | None, float | None],
    scope: FigureScope,
    num_ranks: int,
    result: Quality,
) -> Figure:
    bases = sections() | _OWN_BASES
    known = [prefix for prefix in bases if path == prefix or path.startswith(prefix + ".")]
    return Figure(
        value=value,
        low=bounds[0],
        high=bounds[1],
        scope=scope,
        basis=bases[max(known, key=len)],
        num_ranks=num_ranks,
        num_ranks_expected=result.num_ranks_expected,
    )


def _numbers(part: object, path: str) -> Iterator[tuple[str, float]]:
    """Every number of a section and of the sections in it, by path; of lists those of `memory` alone."""
    if isinstance(part, Struct):
        for name in part.__struct_fields__:
            if not name.startswith(NO_FIGURES) and (type(part), name) not in _PLACES:
                yield from _numbers(getattr(part, name), f"{path}.{name}")
    elif isinstance(part, list) and path.startswith("memory."):
        for at, row in enumerate(cast("list[object]", part)):
            yield from _numbers(row, f"{path}.{at}")
    elif isinstance(part, (int, float)) and not isinstance(part, bool):
        yield path, part


def _captured(captured: Sample, result: Quality) -> tuple[FigureScope, int]:
    """Scope of what is measured on all captured ranks, and their number."""
    only_one: dict[Coverage, bool] = {
        "pipelines": captured.num_whole_pipelines == 1,
        "expert_groups": captured.num_whole_expert_groups == 1,
    }
    scopes: dict[Coverage, FigureScope] = {"all": "job", "one_rank": "rank"}
    if only_one.get(captured.coverage) and captured.is_one_group:
        scopes |= {"pipelines": "pipeline", "expert_groups": "group"}
    if captured.coverage == "replicas" and captured.is_one_group:
        scopes["replicas"] = "stage"
    return scopes.get(captured.coverage, "ranks"), result.num_ranks_found


def _of_pipelines(bubble: Bubble | None, result: Quality) -> tuple[FigureScope, int]:
    ranks = {rank for stage in bubble.stages for rank in stage.ranks} if bubble else set[int]()
    return "job" if len(ranks) == result.num_ranks_expected else "pipeline", len(ranks)


def _of_groups(all_to_all: AllToAll | None, captured: Sample, result: Quality) -> tuple[FigureScope, int]:
    """All-to-alls are measured on whole groups, or on captured members alone."""
    scope, found = _captured(captured, result)
    if all_to_all is None or not captured.num_whole_expert_groups:
        return scope, found
    return "job" if captured.coverage == "all" else "group", found


def _bounds(path: str, value: float, result: Quality, *, open_end: bool) -> tuple[float | None, float | None]:
    """Exact, open on the side where a step without a following one is, or not known where clocks are uncertain."""
    if path.startswith((*_EXACT, *_LOADS)):
        return value, value
    if path.startswith(_TIMED_BY_CLOCKS):
        return _by_clocks(path, value, result)
    if open_end and path.startswith("step.duration_ms"):
        return value, None
    if open_end and path.startswith("mfu."):
        return None, value
    return value, value


def _by_clocks(path: str, value: float, result: Quality) -> tuple[float | None, float | None]:
    """What clocks may move a figure by, where that is known; the figure itself where clocks are one."""
    for effect in result.clock_effects:
        if _EFFECTS.get(path) == effect.metric and effect.uncertainty_ms is not None and effect.value_ms:
            moved = value * effect.uncertainty_ms / effect.value_ms
            return max(0.0, value - moved), value + moved
    return (None, None) if result.clock_residual_ns else (value, value)


def _owner_bounds(
    accounting: Accounting, result: Quality, waits: pl.DataFrame, windows: pl.DataFrame
) -> dict[str, _Range]:
    """Low, value and high of every owner's share.

    Communication that could not be split is waiting for at least what its operations waited at least, less what of
    that may lie under computation, and for at most what they waited at most.
    """
    shares = {row.owner: row.share for row in accounting.owners}
    total = int((windows["end_ns"] - windows["start_ns"]).sum()) or 1
    transfer = int((waits["duration_ns"] - waits["wait_low_ns"]).sum()) / total
    waited = int(waits["wait_high_ns"].sum()) / total
    found: dict[str, _Range] = {name: (v, v, v) for name, v in shares.items()}
    unsplit = shares.get("communication", 0.0)
    if unsplit:
        least, most = max(0.0, unsplit - transfer), min(unsplit, waited)
        base_wait, base_transfer = shares.get("wait", 0.0), shares.get("transfer", 0.0)
        found["wait"] = (base_wait + least, None, base_wait + most)
        found["transfer"] = (base_transfer + unsplit - most, None, base_transfer + unsplit - least)
    elif result.num_ranks_found == 1 and "wait" in shares:  # a CPU rank alone: its receives are all counted as waits
        found["wait"] = (max(0.0, shares["wait"] - transfer), shares["wait"], shares["wait"])
    elif result.clock_residual_ns:
        found |= {name: (None, shares[name], None) for name in ("wait", "transfer") if name in shares}
    return found
