"""The timeline as a part of the page: figures, packed data, controls and captions."""

from __future__ import annotations

import base64
import functools
import gzip
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import polars as pl

from reports.charts.palette import (
    HOST_WORK,
    KERNEL_NAMES,
    KERNELS,
    ODD_CHUNKS,
    PHASE_NAMES,
    PHASES,
    WAIT_NAMES,
    WAITS,
    ink_on,
)
from reports.charts.time_axis import NS_PER_MS, view
from reports.page.model import Chart, TimelineContent
from reports.page.text import safe_text
from reports.timeline import busy
from reports.timeline.figures import Overview, figures, map_height
from reports.timeline.layout import Laid, Step
from reports.timeline.packing import Packed, pack
from traceanalyzer.review.words import counted, milliseconds


@dataclass(frozen=True, slots=True)
class Halves:
    """What stands in the upper and in the lower half, in words."""

    upper: str
    lower: str
    upper_name: str
    lower_name: str
    lower_short: str
    """For a narrow window."""


IDEAL = Halves(
    "measured",
    "ideal",
    "measured (solid line: its end)",
    "ideal: simulated, uniform stages, nothing late (dashed line: its end)",
    "ideal (dashed line: its end)",
)
BASE = Halves(
    "new",
    "base",
    "new run (solid line: its end)",
    "base run: its typical step, laid at the start of a step (dashed line: its end)",
    "base (dashed line: its end)",
)
MAP_ROWS, MAP_BINS, LANE_BINS = 64, 480, 1200
_LEAST_LANE, _MOST_LANE, _MOST_HEIGHT = 7, 40, 540


def content(laid: Laid, late: Collection[int], *, ordered: bool = True, halves: Halves = IDEAL) -> TimelineContent:
    """The timeline of a run; ranks in `late` are marked. `ordered`: bars are numbered by microbatch, else they only count."""
    kinds = _kinds(laid)

    @functools.cache
    def draw() -> tuple[Any, Any, Any]:
        step = laid.steps[laid.shown]
        first = view(0.0, max(step.end_ns - step.start_ns, step.ideal_ns or 0) / NS_PER_MS)
        return figures(_overview(laid), first, _height(laid), _x_label(laid, step))

    labels = {
        "timeline-strip": f"Share of the captured ranks that are {laid.busy_with} over time.",
        "timeline-map": f"How much of each bin of time each captured rank is {laid.busy_with}.",
        "timeline": f"Timeline of step {laid.steps[laid.shown].step}: one lane per rank, {halves.upper} above {halves.lower}.",
    }
    packed = _packed(laid, kinds)
    return TimelineContent(
        charts=tuple(
            Chart(id=name, draw=lambda place=place: draw()[place], label=label)
            for place, (name, label) in enumerate(labels.items())
        ),
        legend=_legend(kinds, laid),
        steps=tuple(_step_name(laid, i) for i in range(len(laid.steps))),
        shown=laid.shown,
        groups=tuple(group.name for group in laid.lanes.groups),
        caption=_caption(laid, laid.steps[laid.shown], halves),
        notes=_notes(laid, ordered=ordered),
        data=packed.data,
        bins=_bins(laid),
        facts=_facts(laid, packed, kinds, late, halves),
    )


def _packed(laid: Laid, kinds: list[dict[str, str]]) -> Packed:
    frames = (laid.actions, _moved(laid), laid.waits, laid.device.spans)
    return pack(list(enumerate(frames)), laid.window[0], [kind["key"] for kind in kinds])


def _facts(
    laid: Laid, packed: Packed, kinds: list[dict[str, str]], late: Collection[int], halves: Halves
) -> dict[str, Any]:
    """What the script needs to know of the packed spans; times in ms since zero of the axis as the page opens."""
    place = {rank: i for i, rank in enumerate(laid.lanes.ranks)}
    return {
        "unit_ns": packed.unit_ns,
        "num": packed.num,
        "zero_ms": _since(laid, laid.window[0]),
        "steps": [_step_facts(laid, i, halves) for i in range(len(laid.steps))],
        "shown": laid.shown,
        "window": [_since(laid, each) for each in laid.window],
        "ranks": [{"rank": r, "stage": laid.stages.get(r), "late": r in late} for r in laid.lanes.ranks],
        "groups": [[place[rank] for rank in group.ranks] for group in laid.lanes.groups],
        "kinds": kinds,
        "names": [safe_text(name) for name in packed.names],
        "tracks": packed.tracks,
        "detail": [[_since(laid, each) for each in window] for window in laid.device.windows],
        "whole": laid.device.whole,
        "num_bins": LANE_BINS,
        "ideal_stages": _ideal_stages(laid),
        "halves": [halves.upper_name, halves.lower_name, halves.upper, halves.lower_short, halves.lower],
        "has_actions": laid.has_phase,
        "lane_pixels": [_LEAST_LANE, _MOST_LANE, _MOST_HEIGHT],
    }


def _ideal_stages(laid: Laid) -> list[tuple[int, int | None]]:
    """The first stage of every rank in the lower half."""
    stage = pl.col("name").str.extract(r"^(\d+)[FBIW]").cast(pl.Int64).min()
    return list(laid.ideal.group_by("rank").agg(stage).sort("rank").iter_rows())


def _since(laid: Laid, at_ns: int) -> float:
    return (at_ns - laid.origin_ns) / NS_PER_MS


def _moved(laid: Laid) -> pl.DataFrame:
    """Ideal actions start where the drawn window does: the script lays them at the start of every step."""
    return laid.ideal.with_columns(pl.col("start_ns") + laid.window[0], pl.col("end_ns") + laid.window[0])


def _kinds(laid: Laid) -> list[dict[str, str]]:
    """Every kind of span that is drawn, in the order of the legend."""
    used = {
        kind for frame in (laid.actions, laid.ideal, laid.waits, laid.device.spans) for kind in frame["kind"].unique()
    }
    colors = {**PHASES, **{f"{phase}'": color for phase, color in ODD_CHUNKS.items()}, **WAITS, **HOST_WORK, **KERNELS}
    names = {
        **PHASE_NAMES,
        **{f"{p}'": f"{name}, other chunk" for p, name in PHASE_NAMES.items()},
        **WAIT_NAMES,
        **{name: name for name in HOST_WORK},
        **KERNEL_NAMES,
    }
    return [
        {"key": key, "label": names[key], "color": color, "ink": ink_on(color)}
        for key, color in colors.items()
        if key in used
    ]


def _legend(kinds: list[dict[str, str]], laid: Laid) -> tuple[tuple[str, str], ...]:
    shown = [(kind["label"], kind["color"]) for kind in kinds if not kind["key"].endswith("'")]
    idles = laid.has_phase or laid.has_kernels
    rest = "idle" if idles else "other work of the host" if laid.has_computation else "not communicating"
    return (*shown, (rest, "var(--idle)"))


def _noun(laid: Laid) -> str:
    return (
        "the pipeline phase of step" if laid.has_pipeline else "the computation of step" if laid.has_phase else "step"
    )


def _x_label(laid: Laid, step: Step) -> str:
    return f"ms since {_noun(laid)} {step.step} began"


def _step_name(laid: Laid, place: int) -> str:
    return f"step {laid.steps[place].step}" + (" (median)" if place == laid.shown and len(laid.steps) > 1 else "")


def _step_facts(laid: Laid, place: int, halves: Halves) -> dict[str, Any]:
    step = laid.steps[place]
    start = step.start_ns - laid.origin_ns
    return {
        "name": _step_name(laid, place),
        "step": step.step,
        "start": start / NS_PER_MS,
        "end": (step.end_ns - laid.origin_ns) / NS_PER_MS,
        "ideal": None if step.ideal_ns is None else (start + step.ideal_ns) / NS_PER_MS,
        "caption": _caption(laid, step, halves),
        "label": _x_label(laid, step),
    }


def _caption(laid: Laid, step: Step, halves: Halves) -> str:
    measured = (step.end_ns - step.start_ns) / NS_PER_MS
    name = _noun(laid).removeprefix("the ").capitalize()
    if step.ideal_ns is None:
        return f"{name} {step.step}: {milliseconds(measured)}."
    ideal = step.ideal_ns / NS_PER_MS
    apart = f"{milliseconds(abs(measured - ideal))} {'longer' if measured > ideal else 'shorter'}"
    return f"{name} {step.step}: {milliseconds(measured)} {halves.upper}, {milliseconds(ideal)} {halves.lower}: {apart if measured != ideal else 'the same'}."


def _notes(laid: Laid, *, ordered: bool) -> str:
    """What a reader must know of what is drawn, and what is not."""
    said = list[str]()
    if laid.has_phase:
        numbers = "are microbatches" if ordered else "count a rank's chunks; their microbatches are not known"
        said.append(f"Numbers in bars {numbers}.")
    if laid.actions["kind"].str.ends_with("'").any():
        said.append("The second tone marks every other chunk of a rank.")
    if laid.has_kernels and laid.has_phase:
        said.append("Zoom in, and each lane shows its actions above its kernels, one row per stream.")
    if not laid.device.whole:
        said.append(_not_whole(laid))
    said.append(laid.lanes.left_out)
    return " ".join(each for each in said if each)


def _not_whole(laid: Laid) -> str:
    step = laid.steps[laid.shown]
    part = "as much of" if laid.device.cut_step else "all of"
    return (
        f"Of {counted(laid.device.num_all, 'span')} of kernels this page holds {len(laid.device.spans):,}: "
        f"the windows that findings point to, and {part} step {step.step}{' as fits' if laid.device.cut_step else ''}. "
        "Elsewhere bars show how much of each bin of time a rank computes."
    )


def _height(laid: Laid) -> int:
    rows = len(laid.lanes.groups[0].ranks) + (laid.ideal["rank"].n_unique() + 1.6 if len(laid.ideal) else 0)
    return 64 + int(min(_MOST_HEIGHT, max(60, rows * min(_MOST_LANE, max(_LEAST_LANE, 520 / rows)))))


def _overview(laid: Laid) -> Overview:
    shares = busy.busy_map(laid.busy, list(laid.order), laid.window, MAP_ROWS, MAP_BINS)
    start, end = ((each - laid.origin_ns) / NS_PER_MS for each in laid.window)
    ranks = len(laid.order)
    rows = len(shares)
    return Overview(
        shares, laid.busy_with, start, end, _map_labels(laid, rows) if ranks > 1 else {0.0: f"rank {laid.order[0]}"}
    )


def _map_labels(laid: Laid, rows: int) -> dict[float, str]:
    """A few ranks by name, as far apart as text is high."""
    fit = max(1, map_height(rows) // 15)
    every = max(1, -(-rows // fit))
    per_row = len(laid.order) / rows
    return {float(row): f"rank {laid.order[int(row * per_row)]}" for row in range(0, rows, every)}


def _bins(laid: Laid) -> str:
    """The busy share of every lane as one byte per bin, packed; empty if every kernel is here."""
    if laid.device.whole:
        return ""
    lanes = laid.busy.filter(pl.col("rank").is_in(list(laid.lanes.ranks)))
    shares = busy.busy_map(lanes, list(laid.lanes.ranks), laid.window, len(laid.lanes.ranks), LANE_BINS)
    data = (shares * 255).round().astype("uint8").tobytes()
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode("ascii")
