"""What was checked and what follows from it: findings, slow ranks, and what remedies are worth."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from reports.page.grids import grid
from reports.page.model import Finding, Findings, Grid, Section
from reports.sections.material import Material
from traceanalyzer import review
from traceanalyzer.review import Bubble, StragglerFigures
from traceanalyzer.review.words import digits, milliseconds, percent

_NS_PER_MS = 1e6


def section(material: Material) -> Section:
    """Findings with the worthiest first, and beside them the ranks and remedies behind them."""
    found = material.review
    listed = findings(found.findings, material.origin_ns, Viewer(found.source.path, material.table("steps")))
    lead = "What causes the gaps, the most costly first. Each saving is for that remedy alone; savings do not add up."
    failed = any(not each.passed for each in listed.entries)
    return material.section(
        "findings",
        "Findings",
        [listed if listed.entries else None, stragglers(found.stragglers), worth(found.bubble)],
        absent="No check was made of this run.",
        lead=lead if failed else "",
    )


@dataclass(frozen=True, slots=True)
class Viewer:
    """Tells a trace viewer's window of a moment."""

    path: str
    """What was analysed."""
    steps: pl.DataFrame
    """`STEPS`."""

    def command(self, found: review.Finding) -> str:
        """The command that writes what a finding is about for Perfetto; empty if it has no moment in a step.

        Times count from the rank's own step, which is the same whatever else is read.
        """
        if found.passed or found.rank is None or found.start_ns is None or found.end_ns is None:
            return ""
        own = self.steps.filter(pl.col("rank") == found.rank).drop_nulls("step")
        around = own.filter((pl.col("start_ns") <= found.end_ns) & (pl.col("end_ns") > found.start_ns))
        numbers = around["step"].unique().sort().to_list()
        if not numbers:
            return ""
        zero = min(own.filter(pl.col("step").is_in(numbers))["start_ns"].to_list())
        first, last = (found.start_ns - zero) // 1000, -((zero - found.end_ns) // 1000)
        window = f"--from {first / 1000:.3f} --to {max(last, first + 1) / 1000:.3f}"
        chosen = f"--ranks {found.rank} --steps {','.join(map(str, numbers))}"
        return f"traceanalyzer perfetto {shlex.quote(self.path)} {chosen} {window} -o {found.id}.pftrace"


def findings(found: Sequence[review.Finding], origin_ns: int | None, viewer: Viewer | None = None) -> Findings:
    """Failed checks first; windows in ms since `origin_ns`, the timeline's zero."""
    entries = (_finding(each, origin_ns, viewer.command(each) if viewer else "") for each in found)
    return Findings(entries=tuple(sorted(entries, key=lambda f: f.passed)))


def _finding(found: review.Finding, origin_ns: int | None, command: str) -> Finding:
    most = "up to " if found.at_most_basis else ""
    worth = [f"{most}{milliseconds(found.worth_ms)} per step"] if found.worth_ms else []
    worth += [f"{digits(found.worth_mfu_points)} MFU points"] if found.worth_mfu_points else []
    start_ms, end_ms = _since(origin_ns, found.start_ns), _since(origin_ns, found.end_ns)
    placed = start_ms is not None and end_ms is not None and end_ms > start_ms
    return Finding(
        id=found.id,
        title=found.title,
        passed=found.passed,
        worth=", ".join(worth),
        evidence=found.evidence,
        action=found.action or "",
        place="" if found.rank is None else f"rank {found.rank}",
        rank=found.rank,
        start_ms=start_ms if placed else None,
        end_ms=end_ms if placed else None,
        command=command,
    )


def _since(origin_ns: int | None, at_ns: int | None) -> float | None:
    return None if origin_ns is None or at_ns is None else (at_ns - origin_ns) / _NS_PER_MS


def stragglers(ranks: Sequence[StragglerFigures]) -> Grid | None:
    """Ranks that compute slowly."""
    return grid(
        "stragglers",
        "Slow ranks",
        ranks,
        [
            ("rank", lambda r: r.rank, None),
            ("stage", lambda r: r.stage, None),
            ("cause", lambda r: r.cause, None),
            ("slowdown", lambda r: r.slowdown, "ratio"),
            ("cost per step", lambda r: r.cost_ms, "ms"),
        ],
        note="Slowdown: the ideal step with this rank's own durations ÷ the ideal step.",
        half=True,
        folded=True,
    )


def worth(bubble: Bubble | None) -> Grid | None:
    """What each remedy alone would save."""
    if bubble is None:
        return None
    error = (
        ""
        if bubble.replay_error is None
        else f"; the replay misses the measured steps by {percent(bubble.replay_error)}"
    )
    return grid(
        "worth",
        "What each remedy would save",
        bubble.worth,
        [
            ("remedy", lambda w: w.remedy, None),
            ("rank", lambda w: w.rank, None),
            ("stage", lambda w: w.stage, None),
            ("saves per step", lambda w: w.ms, "ms"),
        ],
        note=f"By replay of the measured order, each remedy alone{error}. Savings do not add up.",
        half=True,
        folded=True,
    )
