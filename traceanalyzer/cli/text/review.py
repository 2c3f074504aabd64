"""A review as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from traceanalyzer.cli.step_text import step_lines
from traceanalyzer.cli.text.efficiency import roofline_lines
from traceanalyzer.cli.text.experts import expert_lines, sharding_lines
from traceanalyzer.cli.text.job import job_lines
from traceanalyzer.cli.text.memory import memory_lines
from traceanalyzer.cli.text.owners import owner_lines
from traceanalyzer.cli.text.pipeline import cause_lines, next_lines, straggler_lines, what_if_lines
from traceanalyzer.cli.text.recorded import recorded_lines
from traceanalyzer.cli.text.sample import sample_lines

_WIDTH = 100


def review_text(review: Mapping[str, Any]) -> str:
    """The first screen: whether the capture is representative, warnings, verdict, headline numbers beside theory, owners, stages, what is withheld."""
    blocks = [
        [] if review["quality"]["representative"] is False else [review["quality"]["capture_sentence"]],
        [f"! {line}" for line in review["warnings"]],
        review["headline"]["sentences"],
        list(_tiles(review["headline"]["tiles"])),
        list(step_lines(review["step"], review["mfu"])),
        list(sample_lines(review["sample"])),
        list(_bubble(review["bubble"])),
        list(cause_lines(review["bubble"])),
        list(straggler_lines(review["stragglers"])),
        list(next_lines(review["next_schedules"])),
        list(memory_lines(review["memory"])),
        list(what_if_lines(review["what_if"])),
        [*expert_lines(review["all_to_all"]), *sharding_lines(review["expert_sharding"])],
        list(recorded_lines(review["recorded"])),
        list(_waterfall(review["waterfall"])),
        list(roofline_lines(review["roofline"])),
        list(owner_lines(review["accounting"], review["figures"])),
        list(_findings(review["findings"])),
        list(job_lines(review["job"])),
        list(_withheld(review["quality"])),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


_OF_THEORY = ("bubble", "all_to_all")
"""Tiles whose second line is what theory gives; others say what the number is of."""


def _tiles(tiles: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for tile in tiles:
        if tile["status"] == "withheld":
            yield f"{tile['title']:<22} withheld: {tile['note']}"
            continue
        beside = (
            f"theory {tile['theory_text']}" if tile["theory_text"] and tile["id"] in _OF_THEORY else tile["theory_text"]
        )
        note = tile["note"] if tile["id"] == "mfu" else None
        extra = ", ".join(text for text in (beside, tile["gap_text"], note) if text)
        yield f"{tile['title']:<22} {tile['value_text']:>9}  {extra}"


def _bubble(bubble: Mapping[str, Any] | None) -> Iterator[str]:
    if bubble is None or bubble["measured_share"] is None:
        return
    theory: Mapping[str, Any] = bubble["theory"] or {}
    yield "Bubble in all its forms       measured  simulated  closed form"
    rows = (
        ("share of pipeline phase", "measured_share", "simulated_share", "closed_form_share"),
        ("ratio to compute", "measured_ratio", "simulated_ratio", "closed_form_ratio"),
        ("share of ranks' own windows", "span_share", "simulated_span_share", None),
        ("share of step (no theory)", "share_of_step", None, None),
        ("transfer, share of phase", "transfer_share", None, None),
        ("overhead, share of phase", "overhead_share", None, None),
    )
    for title, measured, simulated, closed in rows:
        if bubble[measured] is None:
            continue
        cells = [_share(bubble[measured]), _share(theory.get(simulated or "")), _share(theory.get(closed or ""))]
        yield f"  {title:<28}{cells[0]:>8}   {cells[1]:>8}     {cells[2]:>8}".rstrip()
    yield ""
    yield "  rank  stages      chunks  warm-up   steady    drain  transfer  overhead   (ms per step, median)"
    for stage in bubble["stages"]:
        parts = [stage[f"{part}_ms"] for part in ("chunk", "warmup", "steady", "drain")]
        late = [stage[f"{part}_ms"] for part in ("transfer", "overhead")]
        stages = ",".join(str(number) for number in stage["stage"])
        yield (
            f"  {stage['ranks'][0]:>4}  {stages:<8}"
            + "".join(f"{part:>9.1f}" for part in parts)
            + "".join(f"{'-' if part is None else f'{part:.1f}':>10}" for part in late)
        )


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}%"


def _waterfall(steps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not steps:
        return
    yield "From peak to measured MFU (one step; the losses and the MFU sum to 100)"
    for row in steps:
        yield f"  {row['name']:<34}{row['mfu_points']:>8.2f} points  {row['ms']:>10.2f} ms"


def _findings(findings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for finding in findings:
        worth = f" (worth {finding['worth_ms']:.1f} ms per step)" if finding["worth_ms"] else ""
        yield f"[{'ok' if finding['passed'] else '!!'}] {finding['title']}{worth}: {finding['evidence']}"


def _withheld(quality: Mapping[str, Any]) -> Iterator[str]:
    ranks = quality["num_ranks_found"]
    expected = quality["num_ranks_expected"] or "an unknown number of"
    yield (
        f"Capture {quality['verdict']}: {ranks} of {expected} ranks, {quality['num_steps_used']} steps, "
        f"{quality['events_kept']} of {quality['events_seen']} events; clock: {quality['clock_basis']}"
    )
    for effect in quality["clock_effects"]:
        known = effect["uncertainty_ms"] is not None
        by = f"{effect['uncertainty_ms']:.3g} ms" if known else "one host's clock, error not measured"
        yield f"  clocks: {effect['metric']} {effect['value_ms']:.4g} ms over all ranks and steps, ± {by}"
    for item in quality["withheld"]:
        yield f"  withheld {item['metric']}: {item['reason']}"
