"""A comparison in three sentences: what made it slower or faster, what comes next, and what is noise."""

from __future__ import annotations

from collections.abc import Sequence

from traceanalyzer.comparison.noise import Limit
from traceanalyzer.comparison.record import Change, Verdict
from traceanalyzer.comparison.side import lower_median
from traceanalyzer.review.words import milliseconds, percent

LEAST_DIFFERENCE = 0.0025
"""Of the step: means that change by so much more or less than medians are worth a sentence."""


def verdict_of(change_ns: int | None, limit: Limit | None, disturbed: Sequence[str] = ()) -> Verdict:
    """Whether the step changed by more than noise; of runs that their host disturbed, a larger change proves nothing."""
    if change_ns is None or limit is None:
        return "unknown"
    if abs(change_ns) <= limit.ns:
        return "noise"
    if disturbed:
        return "unknown"
    return "slower" if change_ns > 0 else "faster"


def pair_sentences(
    base_ns: int | None,
    new_ns: int | None,
    limit: Limit | None,
    changes: Sequence[Change],
    changed: str = "",
    mean: str = "",
    disturbed: Sequence[str] = (),
) -> list[str]:
    """The three sentences; `changed` names what differs of the jobs, `mean` is of `mean_words`. Both may be empty.

    `disturbed` names runs that their host disturbed, each with what shows it.
    """
    if base_ns is None or new_ns is None or limit is None:
        return ["The steps cannot be compared: one of the runs has no step time."]
    named = [each for each in changes if each.kind != "unexplained"]
    real = [each for each in named if not each.is_noise]
    steps = f"{milliseconds(base_ns / 1e6)} → {milliseconds(new_ns / 1e6)}, {signed_share(new_ns - base_ns, base_ns)}"
    steps = f"median {steps}; {mean}" if mean else steps
    verdict = verdict_of(new_ns - base_ns, limit, disturbed)
    if verdict == "noise":
        return [*_unchanged(steps, named, real, base_ns), _noise(changes, limit, verdict)]
    if disturbed:
        return [*_not_claimed(steps, named, base_ns, disturbed), _noise(changes, limit, verdict)]
    word = f"{milliseconds(abs(new_ns - base_ns) / 1e6)} {verdict}"
    with_it = [each for each in real if (each.change_ns > 0) == (new_ns > base_ns)]
    if not with_it:
        jobs = f" The jobs differ: {changed}." if changed else ""
        return [
            f"The step is {word} ({steps}), and no single change that can be named explains it.{jobs}",
            *_largest(named, base_ns),
            _noise(changes, limit, verdict),
        ]
    first, rest = with_it[0], [each for each in real if each is not with_it[0]]
    return [
        f"The step is {word} ({steps}), mostly because {_clause(first, base_ns)}."
        if rest or abs(first.change_ns) < 0.8 * abs(new_ns - base_ns)
        else f"The step is {word} ({steps}) because {_clause(first, base_ns)}.",
        f"Next: {_clause(rest[0], base_ns)}."
        if rest
        else "Nothing else that can be named changed the step by more than noise.",
        _noise(changes, limit, verdict),
    ]


def _unchanged(steps: str, named: Sequence[Change], real: Sequence[Change], base_ns: int) -> list[str]:
    if len(real) > 1 and min(each.change_ns for each in real) < 0 < max(each.change_ns for each in real):
        sentence = "; ".join(_clause(each, base_ns) for each in real[:2])
        return [f"The step did not change by more than noise ({steps}), but changes cancel: {sentence}."]
    if real:
        return [f"The step did not change by more than noise ({steps}), although {_clause(real[0], base_ns)}."]
    return [f"The step did not change by more than noise ({steps}).", *_largest(named, base_ns)]


def _not_claimed(steps: str, named: Sequence[Change], base_ns: int, disturbed: Sequence[str]) -> list[str]:
    largest = f"The largest difference that can be named: {_clause(named[0], base_ns)}." if named else ""
    return [
        f"Whether the job's step changed is not known ({steps}): the host disturbed {'; and '.join(disturbed)}.",
        *([largest] if largest else []),
        "Repeat the runs on hosts that do nothing else.",
    ]


def _largest(named: Sequence[Change], base_ns: int) -> list[str]:
    return [f"The largest difference that can be named is within noise: {_clause(named[0], base_ns)}."] if named else []


def _clause(change: Change, base_ns: int) -> str:
    does = "adds" if change.change_ns > 0 else "takes off"
    return f"{change.title}, which {does} {milliseconds(abs(change.change_ns) / 1e6)} ({signed_share(change.change_ns, base_ns)})"


def _noise(changes: Sequence[Change], limit: Limit, verdict: Verdict) -> str:
    small = [each for each in changes if each.is_noise]
    total = sum(each.change_ns for each in small)
    size = f"{'+' if total > 0 else ''}{milliseconds(total / 1e6)}"
    sentence = f"Noise is ±{milliseconds(limit.ns / 1e6)} ({_plainly(limit.basis)})"
    large = [each for each in changes if each.kind == "unexplained" and not each.is_noise]
    if large:
        left = large[0].change_ns
        sign = "+" if left > 0 else ""
        return f"{sentence}; {sign}{milliseconds(left / 1e6)} is more than that and not explained."
    if not small:
        return f"{sentence}."
    return (
        f"{sentence}; all other differences together, {size}, {'are' if abs(total) <= limit.ns else 'are one by one'} within it."
        if verdict != "noise"
        else f"{sentence}."
    )


def mean_words(base_ns: Sequence[int], new_ns: Sequence[int]) -> str:
    """What the mean of the typical steps says, where it is not what the median says (steps that alternate); else empty."""
    if len(base_ns) < 2 or len(new_ns) < 2:
        return ""
    means, medians = (
        [sum(each) / len(each) for each in (base_ns, new_ns)],
        [lower_median(list(each)) for each in (base_ns, new_ns)],
    )
    if medians[0] is None or medians[1] is None:
        return ""
    by_mean, by_median = means[1] / means[0] - 1, medians[1] / medians[0] - 1
    if abs(by_mean - by_median) < LEAST_DIFFERENCE:
        return ""
    sign = "+" if by_mean > 0 else ""
    return f"mean {milliseconds(means[0] / 1e6)} → {milliseconds(means[1] / 1e6)}, {sign}{percent(by_mean)}"


def signed_share(change_ns: int, base_ns: int) -> str:
    """A part of the step with its sign, for example `+5.44%`."""
    return f"{'+' if change_ns > 0 else ''}{percent(change_ns / base_ns)}"


def trend_sentences(names: Sequence[str], steps: Sequence[int | None], verdicts: Sequence[Verdict]) -> list[str]:
    """Of several runs against one base: the slowest and fastest, and the first that differs.

    `names` and `steps` begin with the base; `verdicts` are of the others.
    """
    known = [(step, name) for step, name in zip(steps, names, strict=True) if step is not None]
    if len(known) < 2:
        return ["The steps cannot be compared: fewer than two runs have a step time."]
    fastest, slowest = min(known), max(known)
    sentence = [
        (
            f"Of {len(names)} runs {slowest[1]} has the longest step ({milliseconds(slowest[0] / 1e6)}) and {fastest[1]} the "
            f"shortest ({milliseconds(fastest[0] / 1e6)})."
        )
    ]
    first = next((at for at, verdict in enumerate(verdicts) if verdict in ("slower", "faster")), None)
    if first is None:
        return [*sentence, "None differs from the base by more than noise."]
    return [
        *sentence,
        f"The first that differs from the base by more than noise is {names[first + 1]}: {verdicts[first]}.",
    ]


def _plainly(basis: str) -> str:
    """The basis without parentheses of its own, for a place that has them."""
    return basis.replace(" (", ", ").replace(")", "")
