"""A plan as text for a terminal: how it was decided, the fastest configurations, memory, the front, what was rejected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import islice

from traceanalyzer.gaps.efficiency.configurations.calibration import Calibration
from traceanalyzer.theory.memory.rank import RankMemory, stage_memory
from traceanalyzer.theory.planning.found import Ranked, Rejection
from traceanalyzer.theory.planning.plan import Plan, bubble_share

_GIB = 2**30
_HEAD = ("configuration", "step", "MFU", "tokens/s/GPU", "bubble", "TP", "EP", "CP", "DP", "memory", "free")
_MOST_ON_THE_FRONT = 8


def plan_text(planned: Plan, most: int) -> str:
    """All of it."""
    blocks = [_inputs(planned), _decisions(planned)]
    if planned.best is not None:
        rows = [_HEAD, *(_row(planned, each) for each in planned.found.ranked[:most])]
        blocks += [_aligned(rows), _remarks(planned), _memory(planned, planned.best), _front(planned), _rules(planned)]
    blocks.append(_rejected(planned))
    return "\n\n".join("\n".join(block) for block in blocks)


def calibration_text(calibration: Calibration) -> str:
    """Every number that a run has, beside what a plan assumes, and how far off its predictions are."""
    head = ("calibrated", "assumed", "measured", "held-out error", "on")
    rows = [
        (each.name, f"{each.assumed:.3g}", f"{each.value:.3g}", _error(each.held_out_error), each.basis)
        for each in calibration.measured
    ]
    lines = _aligned([head, *rows])
    if calibration.configuration is not None:
        lines.append(f"step_factor is of the run's own configuration: {calibration.configuration}")
    lines += calibration.missing
    return "\n".join(line.rstrip() for line in lines)


def _error(share: float | None) -> str:
    return "none held out" if share is None else f"{share:.1%}"


def _inputs(planned: Plan) -> list[str]:
    job, found = planned.job, planned.found
    return [
        (
            f"{job.num_devices} device{'' if job.num_devices == 1 else 's'} of {job.cluster.name} ({job.cluster.device}, {job.capacity_bytes / _GIB:.3g} GiB), "
            f"{job.batch_size} x {job.sequence_length} tokens a step, {job.recipe.name}"
        ),
        f"{found.num_priced} configurations priced, {found.num_feasible} fit",
    ]


def _decisions(planned: Plan) -> list[str]:
    lines: list[str] = []
    for number, each in enumerate(planned.decisions, 1):
        lines.append(f"{number}. {each.step}: {each.branch}")
        lines += [f"   - {why}" for why in each.why]
    return lines


def _row(planned: Plan, ranked: Ranked) -> Sequence[str]:
    parts, step = ranked.parts_ns, ranked.step_ns
    shares = [f"{parts[name] / step:.1%}" for name in ("tp", "ep", "cp", "dp")]
    return (
        ranked.configuration.text(),
        f"{step / 1e9:.4g} s",
        f"{planned.mfu(ranked):.1%}",
        f"{planned.tokens_per_second(ranked) / planned.job.num_devices:.0f}",
        f"{bubble_share(ranked):.1%}",
        *shares,
        f"{ranked.memory_bytes / _GIB:.3g} GiB",
        f"{(planned.job.capacity_bytes - ranked.memory_bytes) / _GIB:.3g} GiB",
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]  # fmt: skip


def _remarks(planned: Plan) -> list[str]:
    lines = [
        "bubble: share of the pipeline phase, message latencies included; TP, EP, CP, DP: exposed exchanges, share of the step",
        "MFU: causal attention counted half, against the dense bf16 peak; microbatches are written as number x sequences",
    ]
    if planned.simulated_bubble_share is not None:
        share = planned.simulated_bubble_share
        lines.append(f"bubble of the first by simulation of its order, equal stages and free messages: {share:.1%}")
    return lines


def _memory(planned: Plan, best: Ranked) -> list[str]:
    chosen = best.configuration
    stages = stage_memory(chosen.training(planned.job), chosen.sharding, planned.job.allowance)
    names = [each.name for each in fields(RankMemory)]
    head = ("GiB on pipeline rank", *map(str, stages))
    rows = [head, *((name, *(_gib(getattr(memory, name)) for memory in stages.values())) for name in names)]
    rows.append(("total", *(_gib(memory.total) for memory in stages.values())))
    return _aligned(rows)


def _gib(size: float) -> str:
    return f"{size / _GIB:.2f}"


def _front(planned: Plan) -> list[str]:
    front = planned.found.pareto
    step = max(1, -(-len(front) // _MOST_ON_THE_FRONT))
    lines = [f"time against memory, {len(front)} configurations that no other beats in both:"]
    lines += [
        f"  {each.step_ns / 1e9:.4g} s  {each.memory_bytes / _GIB:.3g} GiB  {each.configuration.text()}"
        for each in islice(front, 0, None, step)
    ]
    return lines


def _rules(planned: Plan) -> list[str]:
    said = {True: "holds", False: "does not hold", None: "is not known"}
    lines = ["rules of thumb, on this job:"]
    for each in planned.rules:
        lines.append(f"  {each.text}: {said[each.holds]}")
        lines.append(f"    {each.evidence}")
    return lines


def _rejected(planned: Plan) -> list[str]:
    return ["rejected:", *_rejections(planned)] if planned.found.rejections else ["rejected: nothing"]


def _rejections(planned: Plan) -> Iterator[str]:
    for each in sorted(planned.found.rejections.values(), key=lambda one: -one.count):
        nearest = f"; nearest: {each.nearest}{_off(each)}" if each.nearest else ""
        yield f"  {each.count}: {each.reason}{nearest}"


def _off(rejection: Rejection) -> str:
    """How far the nearest is from what is possible."""
    if not rejection.unit or rejection.by == float("inf"):
        return ""
    if rejection.unit.startswith("GiB"):
        return f", {rejection.by:.3g} {rejection.unit}"
    unit = rejection.unit
    if rejection.by == 1:
        unit = unit.removesuffix("es" if unit.endswith("ches") else "s")
    return f", off by {rejection.by:.0f} {unit}"
