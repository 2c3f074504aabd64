"""The page of `compare`: the verdict, the way from the old step to the new, what changed, and the steps side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from reports.charts.step_times import step_times
from reports.comparison.timelines import Result, timelines
from reports.comparison.ways import change_waterfall, view_grid
from reports.page.grids import figures, grid
from reports.page.model import COMPARED, Grid, Page, Part, Section, Tile
from traceanalyzer.comparison.record import Comparison, MetricChange, Pair
from traceanalyzer.comparison.story import signed_share
from traceanalyzer.review.words import NOTHING, Unit, milliseconds, points, quantity, spaced

_FEW = 8
_STATUS = {"slower": "bad", "faster": "good", "noise": "neutral", "unknown": "withheld"}
_WORDS = {"slower": "slower", "faster": "faster", "noise": "within noise", "unknown": "not known"}


def comparison_page(found: Comparison, results: Mapping[str, Result] | None = None) -> Page:
    """Everything that was found out about these runs; `results` by path, if they are at hand, are drawn on one time axis."""
    one = found.pairs[0] if len(found.pairs) == 1 else None
    sections: list[Section] = [] if one else [_trend(found)]
    for pair in found.pairs:
        sections += _pair_sections(found, pair, alone=one is not None)
    if one and results:
        base, new = (results.get(found.runs[at].path) for at in (one.base, one.new))
        drawn = timelines(base, new) if base and new else None
        sections[1:1] = [drawn] if drawn else []
    return Page(
        title="Comparison of runs",
        subject=" → ".join(run.path for run in found.runs),
        warnings=tuple(_warnings(found)),
        verdict=tuple(found.sentences),
        tiles=_tiles(found, one) if one else (),
        sections=tuple(section for section in sections if section.parts),
        withheld_causes=tuple((item.metric, item.reason) for pair in found.pairs for item in pair.withheld),
        footer=f"Made by {found.tool.name} {found.tool.version}, {found.created}.",
    )


def _warnings(found: Comparison) -> list[str]:
    forced = {fact.name: fact for pair in found.pairs for fact in pair.facts if fact.forced}
    notes = [
        f"The runs differ in {spaced(name)} ({fact.before} against {fact.after}): they were compared because that was asked for."
        for name, fact in forced.items()
    ]
    few = [run.path for run in found.runs if 0 < len(run.steps_ms) < 5]
    distorted = [run.path for run in found.runs if run.distorted]
    if distorted:
        notes.append(
            f"The host distorted {', '.join(distorted)}: what differs may be the host's, and clean repeats may alarm."
        )
    return [*notes, *([f"Fewer than 5 steps: {', '.join(few)}. Their noise is assumed, not measured."] if few else [])]


def _tiles(found: Comparison, pair: Pair) -> tuple[Tile, ...]:
    base, new = found.runs[pair.base], found.runs[pair.new]
    if base.step_ns is None or new.step_ns is None or pair.change_ns is None:
        return ()
    step = Tile(
        id="step_change",
        title="Step time",
        value=signed_share(pair.change_ns, base.step_ns),
        theory=f"{milliseconds(base.step_ns / 1e6)} → {milliseconds(new.step_ns / 1e6)}",
        gap=f"noise ±{milliseconds((pair.limit_ns or 0) / 1e6)}",
        status=_STATUS[pair.verdict],
        definition="median typical step of the longest rank",
    )
    return (
        step,
        *(_metric_tile(each) for each in pair.metrics[1:] if each.before is not None and each.after is not None),
    )


def _metric_tile(metric: MetricChange) -> Tile:
    return Tile(
        id=metric.path,
        title=metric.title,
        value=quantity(metric.after, metric.unit),
        theory=f"was {quantity(metric.before, metric.unit)}",
    )


def _trend(found: Comparison) -> Section:
    verdicts = {0: "base", **{pair.new: _WORDS[pair.verdict] for pair in found.pairs}}
    rows = list(enumerate(found.runs))
    base = found.runs[0].step_ns
    changed = {pair.new: next((each for each in pair.changes if not each.is_noise), None) for pair in found.pairs}
    table = grid(
        "runs",
        "Runs in their order",
        rows,
        [
            ("run", lambda row: row[1].path, None),
            ("steps", lambda row: len(row[1].steps_ms), "count"),
            ("step", lambda row: row[1].step_ns, "ns"),
            (
                "against the base",
                lambda row: signed_share(row[1].step_ns - base, base) if row[1].step_ns and base and row[0] else "",
                "number",
            ),
            ("verdict", lambda row: verdicts[row[0]], None),
            ("largest change", lambda row: change.title if (change := changed.get(row[0])) else "", None),
        ],
        limit=100,
        few=100,
        note=f"Noise between runs: {found.floor_basis}.",
    )
    parts: tuple[Part | None, ...] = (table, step_times(found.runs, "steps-of-all"))
    return Section(id="trend", title="Trend", parts=_present(parts))


def _present(parts: Sequence[Part | None]) -> tuple[Part, ...]:
    return tuple(part for part in parts if part is not None)


def _short_names(found: Comparison) -> list[str]:
    """Of every run the last parts of its path, as many as tell all of them apart."""
    paths = [PurePath(run.path).parts for run in found.runs]
    names = [["/".join(parts[-number:]) for parts in paths] for number in range(1, max(map(len, paths)) + 1)]
    return next((each for each in names if len(set(each)) == len(paths)), [run.path for run in found.runs])


def _pair_sections(found: Comparison, pair: Pair, *, alone: bool) -> list[Section]:
    base, new = found.runs[pair.base], found.runs[pair.new]
    tail, name = ("", "") if alone else (f"-{pair.new}", f": {_short_names(found)[pair.new]}")
    said = () if alone else tuple(pair.sentences)
    by_view = {view.by: view for view in pair.waterfalls}
    causes = change_waterfall(pair, f"changes{tail}", base.step_ns, new.step_ns)
    views = [view_grid(view, f"{view.by}{tail}") for view in pair.waterfalls if view.by != "cause"]
    steps = step_times([base, new], f"steps{tail}") if alone else None
    return [
        Section(
            id=f"way{tail}",
            title=f"From the old step to the new{name}",
            lead=" ".join(said) or (by_view["cause"].meaning if "cause" in by_view else ""),
            parts=_present([causes]),
        ),
        Section(
            id=f"changed{tail}",
            title=f"What changed{name}",
            parts=_present([_metrics(pair, f"metrics{tail}"), _facts(pair, f"facts{tail}"), *views]),
        ),
        Section(id=f"step-times{tail}", title="Steps side by side", parts=_present([_noise(found, pair), steps])),
    ]


def _metrics(pair: Pair, grid_id: str) -> Grid | None:
    return grid(
        grid_id,
        "Headline numbers",
        pair.metrics,
        [
            ("", lambda m: m.title, None),
            ("before", lambda m: quantity(m.before, m.unit), "number"),
            ("after", lambda m: quantity(m.after, m.unit), "number"),
            ("change", _difference, "number"),
        ],
        few=_FEW,
        source=COMPARED,
    )


def _difference(metric: MetricChange) -> str:
    if metric.before is None or metric.after is None:
        return NOTHING
    change = metric.after - metric.before
    if metric.unit == "share":
        return points(change)
    units: dict[str, Unit] = {"ms": "ms", "ratio": "number", "count": "count"}
    return f"{'+' if change > 0 else ''}{quantity(change, units[metric.unit])}"


def _facts(pair: Pair, grid_id: str) -> Grid | None:
    return grid(
        grid_id,
        "Facts of the job that differ",
        pair.facts,
        [
            ("fact", lambda f: spaced(f.name), None),
            ("before", lambda f: f.before, None),
            ("after", lambda f: f.after, None),
            ("known by", lambda f: f.source, None),
            ("forced", lambda f: f.forced, None),
        ],
        limit=40,
        few=_FEW,
        source=COMPARED,
    )


def _noise(found: Comparison, pair: Pair) -> Part | None:
    runs = [found.runs[pair.base], found.runs[pair.new]]
    return figures(
        "Noise",
        [
            ("Between runs", found.floor_basis),
            *(
                (f"Steps of {of}", run.noise_basis or "")
                for of, run in zip(("the base", "the new run"), runs, strict=True)
            ),
            ("More than noise", f"above {milliseconds(pair.limit_ns / 1e6)}" if pair.limit_ns else ""),
        ],
        half=False,
    )
