"""The page of `plan job`: sizes and devices, how it was decided, the fastest, the front, what was rejected."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reports.page.grids import grid
from reports.page.model import Chart, Grid, Page, Part, Section, Terms
from reports.planning.front import front_chart
from reports.planning.heat import size_map
from traceanalyzer.review.words import byte_count, milliseconds, percent
from traceanalyzer.theory.planning.found import Ranked, Rejection
from traceanalyzer.theory.planning.plan import Plan, bubble_share
from traceanalyzer.theory.planning.sizes import SizeCell

_SAID = {True: "holds", False: "does not hold", None: "is not known"}


def plan_page(planned: Plan, cells: Sequence[SizeCell]) -> Page:
    """Everything that was planned."""
    job = planned.job
    subject = (
        f"{job.num_devices} devices of {job.cluster.name} · {job.batch_size} x {job.sequence_length} tokens a step · "
        f"{job.recipe.name}"
    )
    sections = (
        Section(id="sizes", title="Model size and devices", lead=_SIZES, parts=_sizes(cells)),
        Section(id="decided", title="How it was decided", parts=(_decided(planned), _rules(planned))),
        Section(id="fastest", title="Fastest configurations", parts=_present(_ranked(planned))),
        Section(id="front", title="Time against memory", lead=_FRONT, parts=_front(planned)),
        Section(id="rejected", title="Rejected", parts=_present(_rejected(planned))),
    )
    return Page(
        title="Plan of a job",
        subject=subject,
        verdict=_verdict(planned),
        sections=tuple(section for section in sections if section.parts),
        footer="Priced by theory; nothing here was run.",
    )


_SIZES = (
    "MFU of the fastest configuration that fits, for fewer or more of the same layers, with the batch of the job. "
    "Cells without a number have none that fits."
)
_FRONT = "Of each listed configuration no other is both as fast and smaller: what less memory costs in time."


def _verdict(planned: Plan) -> tuple[str, ...]:
    best = planned.best
    if best is None:
        return ("Nothing fits: see what was rejected.",)
    step, share = milliseconds(best.step_ns / 1e6), percent(planned.mfu(best))
    return (f"{best.configuration.text()} is the fastest: {step} a step, {share} MFU.",)


def _sizes(cells: Sequence[SizeCell]) -> tuple[Part, ...]:
    if not cells:
        return ()
    numbers = grid(
        "size-numbers",
        "Sizes and devices",
        cells,
        [
            ("parameters", lambda c: f"{c.num_parameters / 1e9:.3g} billion", None),
            ("layers", lambda c: c.num_layers, "count"),
            ("devices", lambda c: c.num_devices, "count"),
            ("MFU", lambda c: c.mfu, "share"),
            ("step", lambda c: c.step_ns, "ns"),
            ("configuration", lambda c: c.configuration, None),
        ],
        limit=len(cells),
    )
    label = "Heat map of MFU: model size upwards, devices to the right"
    chart = Chart(id="size-map", draw=lambda: size_map(cells), label=label, title="MFU", numbers=numbers)
    return (chart,)


def _decided(planned: Plan) -> Terms:
    return Terms(entries=tuple((each.step, "; ".join((each.branch, *each.why))) for each in planned.decisions))


def _rules(planned: Plan) -> Terms:
    entries = tuple((each.text, f"{_SAID[each.holds]}: {each.evidence}") for each in planned.rules)
    return Terms(title="Rules of thumb, on this job", entries=entries)


def _ranked(planned: Plan) -> Grid | None:
    return _configurations("ranked", "Fastest first", planned, planned.found.ranked)


def _front(planned: Plan) -> tuple[Part, ...]:
    chart = front_chart(planned)
    table = _configurations("pareto", "Fastest first", planned, planned.found.pareto)
    return tuple(part for part in (chart, table) if part is not None)


def _configurations(name: str, title: str, planned: Plan, rows: Sequence[Ranked]) -> Grid | None:
    return grid(
        name,
        title,
        rows,
        [
            ("configuration", lambda r: r.configuration.text(), None),
            ("step", lambda r: r.step_ns, "ns"),
            ("MFU", planned.mfu, "share"),
            ("bubble", bubble_share, "share"),
            *((name.upper(), _share_of(name), "share") for name in ("tp", "ep", "cp", "dp")),
            ("memory", lambda r: r.memory_bytes, "bytes"),
            ("free", lambda r: planned.job.capacity_bytes - r.memory_bytes, "bytes"),
        ],
        note="m x b: microbatches of b sequences each. Bubble: share of the pipeline phase. TP, EP, CP, DP: exposed exchanges, "
        "share of the step.",
        limit=20,
        source="plan.json",
    )


def _share_of(part: str) -> Callable[[Ranked], float]:
    return lambda ranked: ranked.parts_ns[part] / ranked.step_ns


def _rejected(planned: Plan) -> Grid | None:
    return grid(
        "rejections",
        "By reason",
        sorted(planned.found.rejections.values(), key=lambda each: -each.count),
        [
            ("reason", lambda r: r.reason, None),
            ("configurations", lambda r: r.count, "count"),
            ("nearest", lambda r: r.nearest, None),
            ("off by", _off, None),
        ],
        limit=20,
        source="plan.json",
    )


def _off(rejection: Rejection) -> str:
    """How far the nearest is from what is possible."""
    if not rejection.unit or rejection.by == float("inf"):
        return ""
    if rejection.unit.startswith("GiB"):
        return f"{byte_count(rejection.by * 2**30)}{rejection.unit.removeprefix('GiB')}"
    return f"{rejection.by:.3g} {rejection.unit.removesuffix('s') if rejection.by == 1 else rejection.unit}"


def _present(part: Grid | None) -> tuple[Grid, ...]:
    return () if part is None else (part,)
