"""The bubble against its schedule, starts against their inputs, and the schedule against others."""

from __future__ import annotations

from traceanalyzer.gaps.checks.check import Check, Judged, Verdict
from traceanalyzer.gaps.checks.experts import load_fault
from traceanalyzer.gaps.checks.sequences import uneven_sequence_ms
from traceanalyzer.gaps.pipeline.bubble import BUBBLE_TOLERANCE
from traceanalyzer.gaps.pipeline.verdict import UNEVEN_SEQUENCE, lengthened_ms, most_of_it
from traceanalyzer.review.theory import theory_share
from traceanalyzer.review.words import counted, digits, milliseconds, percent, times

MAX_OVERHEAD_SHARE = 0.02
_CLEARLY = 1.05
"""As far again as the longest stage is from the mean: from there on it is the short one that is odd."""


def _schedules_own(judged: Judged) -> Verdict | None:
    bubble = judged.bubble
    theory = theory_share(bubble) if bubble else None
    if bubble is None or bubble.measured_share is None or bubble.phase_ms is None or theory is None:
        return None
    share, name = theory
    excess = bubble.measured_share - share
    evidence = f"dependency {percent(bubble.measured_share)} of the pipeline phase, {name} {percent(share)}"
    if excess <= BUBBLE_TOLERANCE * share:
        return Verdict(passed=True, evidence=evidence)
    known = [(fault.ms or fault.high, -fault.rank) for fault in judged.faults]
    if load := load_fault(judged):
        known.append((load[1], -load[0]))
    size, number = max(known, default=(0.0, 0))
    most = most_of_it(bubble, -number, size) if known else most_of_it(bubble)
    evidence += f": {milliseconds(excess * bubble.phase_ms)} per step beyond it"
    if 2 * uneven_sequence_ms(judged) > lengthened_ms(bubble):
        return Verdict(passed=False, evidence=f"{evidence}, {UNEVEN_SEQUENCE}", action="cut the sequence evenly first")
    if most is None:
        return Verdict(passed=False, evidence=f"{evidence}, of several causes", action=_ACTIONS["several"])
    evidence += f", mostly because {most.clause}"
    if most.cause != "stage":
        action = f"look at rank {most.rank} first" if most.cause is None else _ACTIONS[most.cause]
        return Verdict(passed=False, evidence=evidence, action=action, rank=most.rank)
    mean = sum(stage.chunk_ms for stage in bubble.stages) / len(bubble.stages)
    longest, least = (choose(bubble.stages, key=lambda stage: stage.chunk_ms) for choose in (max, min))
    is_short = mean - least.chunk_ms > _CLEARLY * (longest.chunk_ms - mean)  # of two stages both are as far from it
    odd, size = (least, "least") if is_short else (longest, "longest")
    rank = odd.ranks[0]
    return Verdict(
        passed=False,
        evidence=(
            f"{evidence}: the chunks of rank {rank} take {milliseconds(odd.chunk_ms)} per step, those of the mean rank "
            f"{milliseconds(mean)}"
        ),
        action=f"even out the stages: those of rank {rank} take {size}",
        rank=rank,
    )


_ACTIONS = {
    "several": "look at the parts of the bubble one by one, the largest first",
    "straggler": "look at the rank that falls behind its stage first",
    "transfer": "overlap the messages between stages, or use a schedule with fewer of them on its longest path",
    "chunk_comm": "look at the collectives inside actions",
    "overlap_dp": "give the exchanges between replicas fewer channels, or later buckets",
    "host": "look at what the hosts do between actions",
    "jitter": "look for what makes equal actions vary: sequence lengths, garbage collection, other processes",
    "outside_sample": "profile the ranks that are waited for",
    "unexplained": "find what delays the start of actions: record the launches, or look at the host between actions",
}
"""By what most of the excess comes from."""


def _on_time(judged: Judged) -> Verdict | None:
    bubble = judged.bubble
    if bubble is None or bubble.overhead_share is None or bubble.phase_ms is None:
        return None
    worst = max(bubble.stages, key=lambda stage: stage.overhead_ms)
    if not worst.overhead_ms:
        return Verdict(passed=True, evidence="no action starts later than its inputs arrive")
    return Verdict(
        passed=bubble.overhead_share <= MAX_OVERHEAD_SHARE,
        evidence=(
            f"{percent(bubble.overhead_share)} of the pipeline phase passes between the arrival of an action's "
            f"inputs and its start; most on rank {worst.ranks[0]}, {milliseconds(worst.overhead_ms)} per step"
        ),
        rank=worst.ranks[0],
    )


def _best_schedule(judged: Judged) -> Verdict | None:
    following = judged.next_schedules
    if following is None or not following.options or not judged.step_ms:
        return None
    current = next((option for option in following.options if option.is_current), None)
    best = max(following.options, key=lambda option: (option.saves_ms, -option.memory_ratio))
    passed = best.saves_ms <= judged.least_ms or best is current
    copies = ", two copies of the parameters" if best.num_parameter_copies > 1 else ""
    size = "" if best.microbatch == "same" else ", microbatches half as large"
    name = f"{best.schedule} with {counted(best.num_microbatches, 'microbatch')}"
    now = "" if current is None or passed else f", where {current.schedule} takes {milliseconds(current.phase_ms)}"
    return Verdict(
        passed=passed,
        worth_ms=None if passed else best.saves_ms,
        culprit=name,
        statement=f"{name} ({times(best.memory_ratio)} the activations{size}{copies})",
        evidence=(
            f"simulated at this run's times with equal stages and free transfer, {name} has a bubble of "
            f"{percent(best.bubble_share)} and takes {milliseconds(best.phase_ms)}{now}; it holds {digits(best.memory_ratio)} times the "
            f"activations{size}{copies}"
        ),
        action=f"try {name}",
    )


CHECKS = (
    Check(
        id="bubble.is_the_schedules",
        passed="The bubble is what the schedule costs",
        failed="The bubble is larger than what the schedule costs",
        why="Theory with equal stages says what the schedule costs. What is beyond it (2% of theory, relative) is the run's.",
        action="take away what most of the excess comes from: a slow rank, unequal stages, messages, late starts",
        judge=_schedules_own,
        window="longest_action",
    ),
    Check(
        id="pipeline.starts_on_time",
        passed="Actions start when they can",
        failed="Actions start later than they could",
        why="Between the arrival of an action's inputs and its start nothing is computed; up to 2% of the phase passes.",
        action="look at what the host does between actions: sends, receives, logging",
        judge=_on_time,
        window="late_start",
    ),
    Check(
        id="schedule.best",
        passed="No other schedule would save much",
        failed="Another schedule would shorten the step",
        why="Every known schedule is simulated at this run's times and global batch, with its memory. Savings above max(0.5% of the step, noise) are reported.",
        action="try the schedule, if its memory fits",
        judge=_best_schedule,
        remedy="change",
    ),
)
