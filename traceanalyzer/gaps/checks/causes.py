"""Why pipeline steps are longer than their ideal: one check per cause, and one sentence for the first screen."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from msgspec.structs import replace

from traceanalyzer.gaps.checks.check import Check, Judged, Verdict, Window
from traceanalyzer.gaps.checks.culprits import holder
from traceanalyzer.gaps.checks.experts import LOAD_MARGIN, MAY_BE_CHANCE, load_fault
from traceanalyzer.gaps.checks.sequences import uneven_sequence_ms
from traceanalyzer.review import Culprit, RemedyWorth
from traceanalyzer.review.vocabulary import RemedyClass
from traceanalyzer.review.words import milliseconds, percent

MIN_SHARE = 0.01
"""A cause below this share of the pipeline phase is none worth a finding."""

_OF_LOAD = ("stage", "straggler", "chunk_comm", "jitter")
_LOADED = {
    "stage": "Stages differ by no more than uneven load",
    "straggler": "Ranks of a stage differ by no more than uneven load",
    "chunk_comm": "Communication inside chunks waits for no more than uneven load",
    "jitter": "Equal actions differ by no more than uneven load",
}
_TITLES = {
    "stage": ("Stages take equally long", "A stage is slower than the others"),
    "straggler": ("No rank falls behind its stage", "A rank is slower than its stage's other ranks"),
    "transfer": ("Messages between stages cost next to nothing", "Messages between stages delay the step"),
    "chunk_comm": ("Communication inside chunks is even", "Communication inside chunks delays the step"),
    "overlap_dp": (
        "Exchanges between replicas do not slow computation",
        "Exchanges between replicas slow the computation beside them",
    ),
    "host": ("The host keeps up", "The host starts actions late"),
    "jitter": ("Equal actions take equally long", "Equal actions vary in length"),
}
_ACTIONS = {
    "stage": "move layers from stage {stages} to others, or look at what its device does",
    "straggler": "look at the device of rank {rank}: clocks, temperature, other jobs on its host",
    "transfer": "look at the link that rank {rank} sends over, or overlap its messages",
    "chunk_comm": "look at the collectives inside the actions of rank {rank}",
    "overlap_dp": "compare rank {rank} with fewer channels or later buckets for what replicas exchange",
    "host": "look at what the host of rank {rank} does between actions",
    "jitter": "look for what disturbs rank {rank}: garbage collection, other processes, varying sequence lengths",
}

_PHRASES = {
    "stage": "slow computation on {who}",
    "straggler": "slow computation on {who}",
    "transfer": "messages that {who} sends",
    "chunk_comm": "communication inside the chunks of {who}",
    "overlap_dp": "computation slowed beside exchanges between replicas on {who}",
    "host": "late starts by the host of {who}",
    "jitter": "varying durations on {who}",
    "slack": "waiting that the schedule itself causes on {who}",
    "outside_sample": "waiting for {who}",
    "unexplained": "late starts without a known reason on {who}",
}


_STATEMENTS = {
    "stage": "{who} computes longer than {others}",
    "straggler": "{who} computes longer than its stage's other ranks",
    "transfer": "messages that {who} sends delay the pipeline",
    "chunk_comm": "communication inside the chunks of {who} delays the pipeline",
    "overlap_dp": "exchanges between replicas that slow no computation of {who}",
    "host": "the host of {who} starts actions late",
    "jitter": "equal actions of {who} vary in length",
}
"""Clauses; of a change: what would save time."""


def _judge(cause: str, judged: Judged) -> Verdict | None:
    """The rank that adds most, what it adds, and what its remedy alone would save."""
    bubble = judged.bubble
    if bubble is None or bubble.attribution_ms is None or not _is_seen(cause, judged):
        return None
    attribution = bubble.attribution_ms
    total: float = getattr(attribution, cause)
    share = total / attribution.measured
    worst = next((each for each in _merged(bubble.culprits) if each.cause == cause), None)
    phase = f"to a phase of {milliseconds(attribution.measured)}"
    evidence = f"adds {milliseconds(total)} {phase} ({percent(share)})" if total > 0 else f"adds nothing {phase}"
    if explained_by_load(cause, total, judged):
        return Verdict(
            passed=True,
            title=_LOADED[cause],
            evidence=f"{evidence}, no more than the uneven load costs, which is a finding of its own",
        )
    if share < MIN_SHARE or worst is None:
        return _by_replay_alone(cause, judged, total, evidence) or Verdict(passed=True, evidence=evidence)
    saved = _best(cause, worst, bubble.worth)
    if cause == "straggler" and saved is None and _may_be_tokens(worst.culprit, judged):
        return Verdict(
            passed=True, title="Ranks of a stage differ, and so do their numbers of tokens", evidence=evidence
        )
    waited_for = cause == "chunk_comm" and any(fault.rank == worst.culprit and fault.ms for fault in judged.faults)
    evidence += f", {milliseconds(worst.ms)} of it {'waiting for' if waited_for else 'by'} {(who := _holder(cause, worst, judged))}"
    if cause == "stage" and not bubble.stragglers_separable:
        evidence += ": the stage or its rank, not separable with fewer than 3 replicas"
    if saved is not None:
        evidence += f"; replayed, '{saved.remedy}' saves {milliseconds(saved.ms)}"
    if saved is not None and saved.ms <= judged.least_ms:
        return Verdict(
            passed=True,
            title=f"{_TITLES[cause][1]}, but its repair alone would save too little to matter",
            evidence=evidence,
        )
    return Verdict(
        passed=False,
        worth_ms=None if saved is None else saved.ms,
        evidence=evidence,
        action=_ACTIONS[cause].format(rank=worst.culprit, stages=", ".join(map(str, worst.stages)) or "?"),
        rank=worst.culprit,
        culprit=_PHRASES[cause].format(who=who),
        statement=_STATEMENTS[cause].format(who=who, others=_other_stages(judged)),
    )


def _is_seen(cause: str, judged: Judged) -> bool:
    """Whether the traces can show this cause."""
    if cause == "straggler":
        return judged.bubble is not None and bool(judged.bubble.stragglers_separable)
    return cause != "host" or judged.sees_launches


def explained_by_load(cause: str, ms: float, judged: Judged) -> bool:
    """Whether uneven load of experts or along the sequence, reported and priced, makes actions differ by `ms`."""
    load = load_fault(judged)
    known_ms = max(load[1] if load else 0.0, uneven_sequence_ms(judged))
    if not known_ms or judged.bubble is None or cause not in _OF_LOAD:
        return False
    separable = cause != "stage" or not judged.bubble.stragglers_separable
    return separable and ms <= LOAD_MARGIN * known_ms


def _may_be_tokens(rank: int | None, judged: Judged) -> bool:
    """Whether a rank with experts, whose work was not found to be slow, may take longer for its tokens alone: loads are uneven."""
    found = judged.all_to_all
    if found is None or (found.rank_load_max_over_mean or 1.0) <= MAY_BE_CHANCE:
        return False
    with_experts = {each for group in found.groups for each in group.ranks}
    return rank in with_experts and all(fault.rank != rank for fault in judged.faults)


def _by_replay_alone(cause: str, judged: Judged, total: float, evidence: str) -> Verdict | None:
    """A rank or stage that is not on the path of blame, and whose repair still saves enough to be reported."""
    bubble = judged.bubble
    remedies = [each for each in bubble.worth if each.cause == cause] if bubble and _REMEDIES[cause] == "fault" else []
    of_one = [each for each in remedies if each.rank is not None or each.stage is not None]
    best = max(of_one, key=lambda each: each.ms, default=None)
    if best is None or best.ms <= judged.least_ms or cause == "transfer":
        return None
    who = holder(best.rank, judged.stages) if best.rank is not None else f"stage {best.stage}"
    if cause == "stage" and total < 0:
        evidence = "blame, which measures against the median over all stages, finds nothing"
    return Verdict(
        passed=False,
        worth_ms=best.ms,
        evidence=f"{evidence}; replayed, '{best.remedy}' saves {milliseconds(best.ms)}",
        action=_ACTIONS[cause].format(rank=best.rank, stages=best.stage),
        rank=best.rank,
        culprit=_PHRASES[cause].format(who=who),
        statement=_STATEMENTS[cause].format(who=who, others=_other_stages(judged)),
    )


def _other_stages(judged: Judged) -> str:
    held = {stage for stages in judged.stages.values() for stage in stages}
    return "the other stage" if len(held) == 2 else "the other stages"


def _best(cause: str, worst: Culprit | None, worth: Iterable[RemedyWorth]) -> RemedyWorth | None:
    """The worth of repairing the worst culprit: of its stage or of the rank, else of the whole cause."""
    remedies = [each for each in worth if each.cause == cause]
    if worst is None:
        return None
    own = [each for each in remedies if each.rank == worst.culprit or each.stage in worst.stages]
    overall = [each for each in remedies if each.rank is None and each.stage is None]
    return max(own or overall, key=lambda each: each.ms, default=None)


def _merged(culprits: Iterable[Culprit]) -> list[Culprit]:
    """Culprits by size, those of one slow stage taken together: which of its ranks is on the longest path is chance."""
    merged: dict[tuple[str, object], Culprit] = {}
    for each in culprits:
        key = (each.cause, tuple(each.stages) if each.cause == "stage" else each.culprit)
        known = merged.get(key)
        merged[key] = replace(known, ms=known.ms + each.ms, culprit=None) if known else each
    return sorted(merged.values(), key=lambda each: -each.ms)


def _holder(cause: str, worst: Culprit, judged: Judged) -> str:
    """The rank; of a slow stage that several ranks hold the stage, whichever of them the longest path runs over."""
    holding = [rank for rank, held in judged.stages.items() if list(held) == worst.stages]
    return _who(replace(worst, culprit=None) if cause == "stage" and len(holding) > 1 else worst)


def _who(culprit: Culprit) -> str:
    if culprit.culprit is not None:
        return holder(culprit.culprit, {culprit.culprit: culprit.stages})
    stages = ", ".join(map(str, culprit.stages))
    return f"stage{'' if len(culprit.stages) == 1 else 's'} {stages}" if stages else "ranks that were not captured"


_WHY = {
    "stage": "The slowest stage sets the pace of all; the others wait for it in every microbatch.",
    "straggler": "A rank that falls behind its replicas holds up its pipeline and, in the gradient sync, all others.",
    "transfer": "A message that is not hidden behind computation delays the stage that waits for it.",
    "chunk_comm": "Collectives inside chunks lengthen the action, and with it everything that waits for it.",
    "overlap_dp": "Kernels of an exchange between replicas take device time from the computation beside them.",
    "host": "A late launch leaves the device idle although its inputs are there.",
    "jitter": "The pipeline waits for the slowest microbatch of every round.",
}
_REMEDIES: dict[str, RemedyClass] = {
    "stage": "fault", "straggler": "fault", "transfer": "ideal", "chunk_comm": "fault", "overlap_dp": "change", "host": "fault", "jitter": "ideal",
}  # fmt: skip
_WINDOWS: dict[str, Window] = {
    "stage": "longest_action", "straggler": "longest_action", "transfer": "sent_message",
    "chunk_comm": "collective_inside", "overlap_dp": "beyond_usual", "host": "late_start", "jitter": "beyond_usual",
}  # fmt: skip

CHECKS = tuple(
    Check(
        id=f"pipeline.{cause}",
        passed=titles[0],
        failed=titles[1],
        why=f"{_WHY[cause]} Reported from {percent(MIN_SHARE)} of the pipeline phase, if its remedy saves more than max(0.5% of the step, noise).",
        action=_ACTIONS[cause].format(rank="N", stages="N"),
        judge=partial(_judge, cause),
        remedy=_REMEDIES[cause],
        window=_WINDOWS[cause],
    )
    for cause, titles in _TITLES.items()
)
