"""What the captured ranks did with their time: the largest loss with its phase, and the kernels that take most."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from traceanalyzer.review import (
    Accounting,
    Communication,
    KernelClass,
    KernelName,
    Kernels,
    Quality,
    RankFigures,
    Sample,
    StepFigures,
)
from traceanalyzer.review.sections.step import spread
from traceanalyzer.review.vocabulary import Owner, StepPhase
from traceanalyzer.review.words import loss_text, milliseconds, n_of_n, percent

MIN_SHARE = 0.01
"""Of the step: a smaller loss is not reported."""
MIN_COMPUTED = 0.1
"""Of the step: where less is computed, kernels are not what matters."""
MIN_LAUNCH_BOUND = 0.05
_SAME = 0.01
"""The mean window is called the step where it is as long as the median one within this."""
_MAX_NAME = 60
_PHASES: dict[StepPhase, str] = {
    "F": "the forward pass",
    "B": "the backward pass",
    "I": "the input gradients",
    "W": "the weight gradients",
    "optimizer": "the optimizer",
    "grad_sync": "the gradient exchange",
    "before_chunks": "the time before the first chunk",
    "between_chunks": "the time between chunks",
}
_CLASSES = {"gemm": "Matrix multiplications", "attention": "Attention kernels"}
_CONVOLUTION = re.compile(r"conv|[wd]grad|fprop|winograd|cudnn", re.IGNORECASE)
"""Kernels that multiply matrices to convolve have the kind `gemm`, too."""
_NO_COMPUTATION = ("communication", "copy", "wait")


@dataclass(frozen=True, slots=True)
class Spent:
    """The parts of the review that tell where time went."""

    step: StepFigures
    accounting: Accounting
    quality: Quality
    captured: Sample
    ranks: Sequence[int]
    kernels: Kernels | None = None
    communication: Communication | None = None


def spent_sentences(of: Spent) -> list[str]:
    """The ledger of a lone rank and its kernels; of several ranks their exchanges and kernels first, then the mean rank's."""
    if of.step.duration_ms.median is None:
        return ["These traces hold no step that could be measured."]
    if not of.accounting.owners or not of.accounting.mean_step_ms:
        return [f"{_who(of)}: the captured steps have no length."]
    if len(of.ranks) == 1:
        return [_ledger(of), *_kernels(of)]
    return [*_exchanges(of), *_kernels(of), _ledger(of)]


def nobody_sentences(of: Spent) -> list[str]:
    """Of several ranks among which nobody could be said to be late: why; of a lone rank nothing."""
    if len(of.ranks) == 1 or of.step.duration_ms.median is None:
        return []
    groups = of.communication.groups if of.communication is not None else []
    if not any(group.num_ranks_captured > 1 for group in groups):
        return [f"These {len(of.ranks)} ranks share no recorded communication, so which of them is late is unknown."]
    if any(1 < group.num_ranks_captured < (group.num_ranks or 0) for group in groups):
        return ["Not all members of the groups of these ranks were captured, so who holds up whom is unknown."]
    if of.step.duration_ms.num_steps == 1:
        return ["One captured step cannot distinguish a late rank from a late start of its profiler."]
    if any(group.wait_ms is None and group.num_ranks_captured > 1 for group in groups):
        return ["Waiting and transfer of their exchanges are not separable, so which of them is late is unknown."]
    return ["These ranks cannot be compared place by place, so which of them is late is unknown."]


def _who(of: Spent) -> str:
    """Which ranks of how many, for example `Rank 12 (stage 3 of 8; 1 of 1,024 ranks)`."""
    found, expected = len(of.ranks), of.quality.num_ranks_expected
    if found == expected:
        return "The mean rank" if found > 1 else "The only rank"
    if found == 1:
        stage = next((_stage(each) for each in of.captured.ranks if each.rank == of.ranks[0]), "")
        return f"Rank {of.ranks[0]} ({stage}{n_of_n(1, expected)})"
    return f"The mean of {n_of_n(found, expected) if expected else f'{found:,} captured ranks (of an unknown number)'}"


def _stage(rank: RankFigures) -> str:
    if not rank.stages or rank.num_stages is None:
        return ""
    stages = ", ".join(map(str, rank.stages))
    return f"{'stage' if len(rank.stages) == 1 else 'stages'} {stages} of {rank.num_stages}; "


def _ledger(of: Spent) -> str:
    """What is computed, and the largest loss."""
    owners = {row.owner: row for row in of.accounting.owners}
    computed = owners["compute"].share if "compute" in owners else 0.0
    sentence = f"{_who(of)} computes for {percent(computed)} of {_window(of)}"
    losses = [row for row in of.accounting.owners if row.owner != "compute" and row.share >= MIN_SHARE]
    if not losses:
        return f"{sentence}."
    largest = max(losses, key=lambda row: row.share)
    lost = f"{loss_text(largest.owner, has_devices=of.kernels is not None)}, {milliseconds(largest.ms)} ({percent(largest.share)})"
    return f"{sentence}; its largest loss is {lost}{_where(largest.owner, of.accounting)}."


def _window(of: Spent) -> str:
    """The mean window, which the shares are of, and how far steps differ."""
    mean, median = of.accounting.mean_step_ms or 0.0, of.step.duration_ms.median or 0.0
    differing = f" ({text})" if (text := spread(of.step.duration_ms)) else ""
    if _is_usual(of):
        return f"a step of {milliseconds(median)}{differing}"
    return f"its step, {milliseconds(mean)} on average{differing}"


def _length(of: Spent) -> str:
    """The mean window, of which the share is, where it differs from the step that other sentences name."""
    return "" if _is_usual(of) else f" of {milliseconds(of.accounting.mean_step_ms or 0.0)} on average"


def _is_usual(of: Spent) -> bool:
    """Whether the mean window is as long as the median step."""
    mean, median = of.accounting.mean_step_ms or 0.0, of.step.duration_ms.median or 0.0
    return abs(mean - median) <= _SAME * median


def _where(owner: Owner, accounting: Accounting) -> str:
    """The phase with most of it, where that has a name."""
    phases = [row for row in accounting.phases if row.owner == owner]
    largest = max(phases, key=lambda row: row.ms, default=None)
    if largest is None or largest.phase not in _PHASES:
        return ""
    return f", {milliseconds(largest.ms)} of it in {_PHASES[largest.phase]}"


def _exchanges(of: Spent) -> list[str]:
    """What ranks lose to each other, if it is worth a sentence."""
    owners = {row.owner: row for row in of.accounting.owners if row.share >= MIN_SHARE}
    exchanging = [row for row in owners.values() if row.owner in _EXCHANGING]
    if not exchanging:
        return []
    largest = max(exchanging, key=lambda row: row.share)
    lost = (
        f"{_EXCHANGING[largest.owner]} {milliseconds(largest.ms)} of each step{_length(of)} ({percent(largest.share)})"
    )
    one_step = largest.owner == "wait" and of.step.duration_ms.num_steps == 1
    return [f"{lost}{'; part of it may be a staggered start of the profiler' if one_step else ''}."]


_EXCHANGING: dict[Owner, str] = {
    "wait": "Ranks wait for each other for",
    "transfer": "Transfer that computation does not hide takes",
    "communication": "Communication that computation does not hide takes",
}


def _kernels(of: Spent) -> list[str]:
    """The class of computing kernels that takes most time; where it has none in words, the computing kernel that does."""
    kernels, computed = of.kernels, sum(row.share for row in of.accounting.owners if row.owner == "compute")
    if computed < MIN_COMPUTED:
        return []
    computing = [row for row in kernels.classes if row.kind not in _NO_COMPUTATION] if kernels else []
    most = max(computing, key=lambda row: row.sum_ms, default=None)
    if kernels is None or most is None or not most.sum_ms:
        return []
    if most.kind in _CLASSES:
        what, bound = _CLASSES[most.kind], _launch_bound(most.launch_bound_share, "of them")
        if any(row.kind == most.kind == "gemm" and _CONVOLUTION.search(row.name) for row in kernels.top):
            what += " and convolutions"
        return [f"{what} take {_of_kernel_time(most)}{bound}."]
    named = next((row for row in kernels.top if row.kind not in _NO_COMPUTATION), None)
    if named is None:
        return []
    whole = named.name.removeprefix("void ")
    name = whole if len(whole) <= _MAX_NAME else f"{whole[:_MAX_NAME]}…"
    return [
        f"The kernel `{name}` takes {_of_kernel_time(named)}{_launch_bound(named.launch_bound_share, 'of its launches')}."
    ]


def _of_kernel_time(row: KernelClass | KernelName) -> str:
    return f"{milliseconds(row.sum_ms)} per step, {percent(row.share)} of all kernel time"


def _launch_bound(share: float | None, whose: str) -> str:
    return "" if share is None or share < MIN_LAUNCH_BOUND else f"; {percent(share)} {whose} are launch-bound"
