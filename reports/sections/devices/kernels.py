"""Kernel time by class, name and phase, and communication by group."""

from __future__ import annotations

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import KERNELS, PHASE_NAMES, REFERENCE
from reports.page.grids import grid
from reports.page.model import Chart, Grid, Part, Section, Terms
from reports.sections.devices.communication import (
    bandwidth_chart,
    bandwidth_sizes,
    overlap_chart,
    sized,
    transfer_chart,
)
from reports.sections.efficiency import BARS
from reports.sections.material import Material
from traceanalyzer.review import Communication, Kernels
from traceanalyzer.review.words import milliseconds, percent

FEW = 8
"""Rows in a terminal."""


def section(material: Material) -> Section | None:
    """What the devices ran; None without devices and without communication."""
    kernels, communication = material.review.kernels, material.review.communication
    if kernels is None and communication is None:
        return None
    sizes = sized(material.table("bandwidths"))
    parts: list[Part | None] = [
        class_chart(kernels) if kernels else None,
        overlap_chart(communication) if communication else None,
        transfer_chart(sizes),
        bandwidth_chart(sizes) or bandwidth_sizes(sizes),
        *([_phases(kernels), _names(kernels)] if kernels else []),
        *([_overlap(communication), _groups(communication)] if communication else []),
    ]
    return material.section(
        "kernels",
        "Kernels and communication",
        parts,
        absent="These traces hold no kernels.",
        lead=_lead(kernels, communication),
    )


def _lead(kernels: Kernels | None, communication: Communication | None) -> str:
    """The class with most time, and how much of the exchange is hidden."""
    said: list[str] = []
    if kernels and kernels.classes:
        most = max(kernels.classes, key=lambda each: each.sum_ms)
        said.append(f"{_CLASSES.get(most.kind, most.kind).capitalize()} take {percent(most.share)} of all kernel time")
    if communication and communication.overlapped_share is not None:
        said.append(f"{percent(communication.overlapped_share)} of communication is hidden behind computation")
    return f"{'; '.join(said)}." if said else ""


_CLASSES = {
    "gemm": "matrix multiplications",
    "attention": "attention kernels",
    "other": "other kernels",
    "fused": "fused kernels",
    "communication": "communication kernels",
    "barrier": "barriers",
    "copy": "copies",
}


def class_chart(kernels: Kernels) -> Chart | None:
    """Kernel time by class; None without kernels."""
    rows = [each for each in sorted(kernels.classes, key=lambda each: -each.sum_ms) if each.sum_ms > 0]
    if not rows:
        return None
    scale, unit = charts.time_scale(rows[0].sum_ms)
    values = pl.DataFrame(
        [
            (_CLASSES.get(each.kind, each.kind), 0.0, scale * each.sum_ms, KERNELS.get(each.kind, REFERENCE),
             f"{milliseconds(each.sum_ms)} · {percent(each.share)}")
            for each in rows
        ],
        schema=BARS,
        orient="row",
    )  # fmt: skip
    return Chart(
        id="kernel-class-chart",
        draw=lambda: charts.floating_bars(
            values, x_label=f"{unit} per rank and step", x_end=1.32 * scale * rows[0].sum_ms
        ),
        title="Kernel time by class",
        label="Bars of kernel time per rank and step by class of kernel.",
        caption="Sums of durations: kernels that run at once each count.",
        third=True,
        half=True,
        numbers=_classes(kernels),
    )


def _classes(kernels: Kernels) -> Grid | None:
    return grid(
        "kernel-classes",
        "By class",
        kernels.classes,
        [
            ("class", lambda k: _CLASSES.get(k.kind, k.kind), None),
            ("kernels", lambda k: k.num_kernels, "count"),
            ("sum", lambda k: k.sum_ms, "ms"),
            ("union", lambda k: k.union_ms, "ms"),
            ("share", lambda k: k.share, "share"),
            ("launch-bound", lambda k: k.launch_bound_share, "share"),
        ],
        note="Launch-bound kernels take less time than their thread needs until its next launch.",
        limit=16,
        few=FEW,
    )


def _phases(kernels: Kernels) -> Grid | None:
    return grid(
        "kernel-phases",
        "By phase, summed over streams",
        kernels.phases,
        [
            ("phase", lambda k: PHASE_NAMES.get(k.phase, k.phase) if k.phase else "in no action", None),
            ("kernels", lambda k: k.num_kernels, "count"),
            ("sum", lambda k: k.sum_ms, "ms"),
            ("basis", lambda k: k.basis, None),
        ],
        limit=8,
        few=FEW,
    )


def _names(kernels: Kernels) -> Grid | None:
    return grid(
        "kernel-names",
        "By name",
        kernels.top,
        [
            ("name", lambda k: k.name[:64], None),
            ("kernels", lambda k: k.num_kernels, "count"),
            ("sum", lambda k: k.sum_ms, "ms"),
            ("share", lambda k: k.share, "share"),
            ("mean", lambda k: k.mean_us / 1e3, "ms"),
            ("shortest", lambda k: k.min_us / 1e3, "ms"),
            ("longest", lambda k: k.max_us / 1e3, "ms"),
        ],
        limit=24,
        few=FEW,
    )


def _overlap(communication: Communication) -> Terms | None:
    share, beside = communication.overlapped_share, communication.overlapped_share_with_barriers
    if share is None and beside is None:
        return None
    entries = [] if share is None else [("Under computation", percent(share))]
    if beside is not None and beside != share:
        entries.append(("Under computation, barriers of expert kernels counted as exchange", percent(beside)))
    if communication.exposed_share is not None:
        entries.append(("Exposed, share of the step", percent(communication.exposed_share)))
    return Terms(title="Communication", entries=tuple(entries))


def _groups(communication: Communication) -> Grid | None:
    return grid(
        "communication-groups",
        "By group, most exposed first",
        communication.groups,
        [
            ("dimension", lambda g: g.dimension or "unknown", None),
            ("ranks", lambda g: g.num_ranks, "count"),
            ("captured", lambda g: g.num_ranks_captured, "count"),
            ("time", lambda g: g.duration_ms, "ms"),
            ("transfer", lambda g: g.transfer_ms, "ms"),
            ("wait", lambda g: g.wait_ms, "ms"),
            ("exposed", lambda g: g.exposed_ms, "ms"),
            ("hidden", lambda g: g.overlapped_share, "share"),
            ("GB/s (bus)", lambda g: g.bus_bandwidth_gbps, "number"),
        ],
        limit=24,
        few=FEW,
    )
