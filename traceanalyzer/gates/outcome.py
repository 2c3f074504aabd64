"""A review against a gate: for every limit whether it held, was broken, or could not be judged.

Limits against a baseline are widened by noise unless they say otherwise: by the larger of the floor between runs and the
95% intervals of both median steps together (root of the sum of squares), as shares of the baseline's value. What is withheld
never passes silently: it breaks the gate, or is named as skipped where the gate says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from traceanalyzer.errors import UsageError
from traceanalyzer.gates.file import Gate, Limit, OnWithheld, share_of
from traceanalyzer.gates.paths import Found, Step, parse_path, values_at
from traceanalyzer.measurements.capture.noise import ASSUMED_SHARE
from traceanalyzer.measurements.capture.validity import disturbance
from traceanalyzer.review import Review
from traceanalyzer.review.words import counted, digits, percent

Status = Literal["held", "broken", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one limit."""

    name: str
    path: str
    status: Status
    text: str
    """What was found, against what, in one line."""
    is_withheld: bool = False
    """There was no value to judge."""
    value: float | bool | str | None = None
    baseline: float | None = None
    at_least: float | None = None
    """The least value that holds, noise included."""
    at_most: float | None = None


def refuse_without_baseline(gate: Gate, *, is_there: bool, where: str = "") -> None:
    """Raise `UsageError` if a limit is relative and no baseline is there; `where` goes before the message."""
    relative = next((limit for limit in gate.limit if limit.is_relative), None)
    if relative is not None and not is_there:
        raise UsageError(
            f"{where}limit {relative.title}: is against a baseline, and there is none",
            'name a review.json in the gate\'s file (baseline = "baseline.json"), or use compare',
        )


def judged(gate: Gate, review: Review, baseline: Review | None, floor: float | None = None) -> list[Outcome]:
    """Every limit of a gate, in its order; first what the capture must hold.

    Args:
        gate: the limits.
        review: what is judged.
        baseline: what relative limits are against.
        floor: share of the step by which runs may differ; None: as the gate says.

    Raises `UsageError` if a relative limit has no baseline.
    """
    refuse_without_baseline(gate, is_there=baseline is not None)
    noise = noise_share(review, baseline, gate.floor_share if floor is None or gate.floor is not None else floor)
    return [
        *_captured(gate, review),
        *(each for limit in gate.limit for each in _limit(gate, limit, review, baseline, noise)),
    ]


def noise_share(review: Review, baseline: Review | None, floor: float) -> float:
    """By what share of it a value of the step may differ by chance."""
    own = [_own_noise(each) for each in (review, baseline) if each is not None]
    return max(floor if baseline is not None else 0.0, math.hypot(*own))


def _own_noise(review: Review) -> float:
    median, noise = review.step.duration_ms.median, review.step.noise_ms
    return noise / median if noise is not None and median else ASSUMED_SHARE


def _captured(gate: Gate, review: Review) -> Iterator[Outcome]:
    """What the capture must hold."""
    steps, ranks = review.step.duration_ms.num_steps, review.quality.num_ranks_found
    for name, least, found, noun in (
        ("min_steps", gate.min_steps, steps, "typical step"),
        ("min_ranks", gate.min_ranks, ranks, "rank"),
    ):
        if least is not None:
            status: Status = "held" if found >= least else "broken"
            text = f"{counted(found, noun)}, at least {least:,} asked for"
            yield Outcome(name=name, path=name, status=status, text=text, value=found, at_least=least)


def _limit(gate: Gate, limit: Limit, review: Review, baseline: Review | None, noise: float) -> Iterator[Outcome]:
    steps = parse_path(limit.path)
    found, choice = values_at(review, steps), limit.on_withheld or gate.on_withheld
    if not found:
        yield _nothing(limit, steps, review, choice)
    for each in found:
        if each.value is None or (review.step.open_end and steps[0].name == "step"):
            yield _unjudged(limit, each, _reason(review, limit.path), choice)
        else:
            outcome = _value(limit, each, _before(baseline, steps, each), noise, choice)
            yield _as_known(outcome, limit, [review, *([] if baseline is None else [baseline])], choice)


def _as_known(outcome: Outcome, limit: Limit, reviews: Sequence[Review], choice: OnWithheld) -> Outcome:
    """The outcome; a change against the baseline that a busy host explains is not known to break a limit."""
    reason = next((text for text in map(disturbance, reviews) if text), None)
    if reason is None or outcome.status != "broken" or outcome.is_withheld or not _by_baseline_alone(limit, outcome):
        return outcome
    status: Status = "skipped" if choice == "skip" else "broken"
    return replace(
        outcome,
        status=status,
        is_withheld=True,
        text=f"withheld: the host disturbed the run ({reason}); found {outcome.text}",
    )


def _by_baseline_alone(limit: Limit, outcome: Outcome) -> bool:
    """Whether a broken limit would hold without what it says of the baseline."""
    if not limit.is_relative or limit.equals is not None or not _is_number(outcome.value):
        return False
    number = float(str(outcome.value))
    return not any(number > bound if is_over else number < bound for is_over, bound, _ in _bounds(limit, None, 0.0))


def _nothing(limit: Limit, steps: tuple[Step, ...], review: Review, choice: OnWithheld) -> Outcome:
    """A choice that found no element. Of a list all of whose elements must hold, none is as good as all."""
    reason = _withheld(review, limit.path)
    if any(step.everything for step in steps) and reason is None:
        return Outcome(name=limit.title, path=limit.path, status="held", text="nothing there")
    return _unjudged(limit, Found("", None), reason or "nothing there fits", choice)


def _unjudged(limit: Limit, found: Found, reason: str, choice: OnWithheld) -> Outcome:
    status: Status = "skipped" if choice == "skip" else "broken"
    return Outcome(
        name=limit.title + found.place, path=limit.path, status=status, text=f"withheld: {reason}", is_withheld=True
    )


def _reason(review: Review, path: str) -> str:
    if review.step.open_end and path.startswith("step"):
        return "the end of the step is open, so its length is not known"
    return _withheld(review, path) or "the review has no value there"


def _withheld(review: Review, path: str) -> str | None:
    plain = path.split("[", maxsplit=1)[0]
    for item in review.quality.withheld:
        if f"{plain}.".startswith(f"{item.metric}.") or f"{item.metric}.".startswith(f"{plain}."):
            return item.reason
    return None


def _before(baseline: Review | None, steps: tuple[Step, ...], found: Found) -> object:
    """The baseline's value at the same place."""
    there = [] if baseline is None else values_at(baseline, steps)
    return next((each.value for each in there if each.place == found.place), None)


def _value(limit: Limit, found: Found, before: object, noise: float, choice: OnWithheld) -> Outcome:
    value, outcome = found.value, Outcome(name=limit.title + found.place, path=limit.path, status="held", text="")
    outcome = replace(outcome, value=value if isinstance(value, float | int | str) else str(value), text=_text(value))
    if limit.equals is not None and value != limit.equals:
        return replace(outcome, status="broken", text=f"{_text(value)}, {_text(limit.equals)} asked for")
    if not _has_numbers(limit):
        return outcome
    if not _is_number(value):
        return replace(outcome, status="broken", text=f"{_text(value)} is not a number")
    number = float(str(value))
    if limit.is_relative and not _is_number(before):
        return _unjudged(limit, found, "the baseline has no number there", choice)
    base = float(str(before)) if limit.is_relative else None
    bounds = list(_bounds(limit, base, noise))
    broken = [text for is_over, bound, text in bounds if (number > bound if is_over else number < bound)]
    return replace(
        outcome,
        status="broken" if broken else "held",
        text=f"{digits(number, 4)}, {(broken or [bounds[-1][2]])[0]}",
        baseline=base,
        at_least=max((bound for is_over, bound, _ in bounds if not is_over), default=None),
        at_most=min((bound for is_over, bound, _ in bounds if is_over), default=None),
    )


def _has_numbers(limit: Limit) -> bool:
    return limit.is_relative or limit.max is not None or limit.min is not None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bounds(limit: Limit, before: float | None, noise: float) -> Iterator[tuple[bool, float, str]]:
    """Whether a bound is an upper one, the bound with its noise, and it in words."""
    for is_over, bound in ((True, limit.max), (False, limit.min)):
        if bound is not None:
            room = noise * abs(bound) if limit.noise else 0.0
            word = "at most" if is_over else "at least"
            yield is_over, bound + room if is_over else bound - room, f"{word} {digits(bound, 4)}{_room(room, noise)}"
    if before is None:
        return
    for is_over, allowed in ((True, limit.max_increase), (False, limit.max_decrease)):
        if allowed is None:
            continue
        change = (share_of(allowed) or 0.0) * abs(before) if isinstance(allowed, str) else float(allowed)
        room = noise * abs(before) if limit.noise is not False else 0.0
        bound = before + change + room if is_over else before - change - room
        word = f"at most {digits(bound, 4)}" if is_over else f"at least {digits(bound, 4)}"
        sign = "+" if is_over else "−"
        yield is_over, bound, f"{word} (baseline {digits(before, 4)} {sign} {allowed}{_room(room, noise)})"


def _room(room: float, noise: float) -> str:
    return f", noise {percent(noise)} of it" if room else ""


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return digits(value, 4) if isinstance(value, float) else str(value)
