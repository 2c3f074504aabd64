"""A gate's file to begin with: what this result measures, each with a limit that its noise can hold."""

from __future__ import annotations

from collections.abc import Iterator

from traceanalyzer.gates.paths import parse_path, values_at
from traceanalyzer.measurements.capture.noise import FEWEST_STEPS
from traceanalyzer.review import Review
from traceanalyzer.review.words import digits

_LIMITS = (
    ("step.duration_ms.median", 'max_increase = "2%"', "the median typical step, in ms"),
    ("bubble.measured_share", "max_increase = 0.01", "pipeline bubble: 0.01 is one percentage point"),
    ("all_to_all.rank_load_max_over_mean", "max_increase = 0.1", "tokens of the fullest rank over the mean"),
    ("all_to_all.wait_share", "max_increase = 0.01", "waiting in all-to-alls"),
    ("communication.exposed_share", "max_increase = 0.01", "communication outside computation"),
    ("mfu.mfu", 'max_decrease = "2%"', "model FLOPs utilisation"),
)
_SAFE = {"\\": "\\\\", '"': '\\"'}


def initial_gate(review: Review, baseline: str) -> str:
    """The text of a gate's file for results like `review`, with `baseline` as the name of the file it is kept in."""
    steps, ranks = review.step.duration_ms.num_steps, review.quality.num_ranks_found
    head = [
        "# Limits on review.json: traceanalyzer analyze TRACES --gate THIS_FILE fails (status 1) if one is broken.",
        "# Paths: review.json's fields; [key=value], [0] and [*] choose from lists. Limits against the baseline are widened",
        "# by noise: the larger of `floor` and the 95% intervals of both median steps.",
        "",
        f'baseline = "{"".join(_SAFE.get(c, c) for c in baseline)}"   # a review.json beside this file',
        f"min_steps = {max(1, min(steps, FEWEST_STEPS))}",
        f"min_ranks = {ranks}",
        'on_withheld = "fail"   # "skip" lets a value pass that could not be measured',
        'floor = "1%"           # how much runs of one job differ',
    ]
    few = [
        f"# This result has {steps} typical steps: with {FEWEST_STEPS} or more, noise is measured and not assumed."
    ] if steps < FEWEST_STEPS else []  # fmt: skip
    return "\n".join([*head, *few, *_limits(review), *_checks(review)]) + "\n"


def _limits(review: Review) -> Iterator[str]:
    for path, test, meaning in _LIMITS:
        found = values_at(review, parse_path(path))
        value = found[0].value if found else None
        if isinstance(value, int | float):
            yield from ("", "[[limit]]", f"# {meaning}; here {digits(value, 4)}", f'path = "{path}"', test)


def _checks(review: Review) -> Iterator[str]:
    """Faults that this result does not have must not appear."""
    passed = [each.id for each in review.findings if each.passed and each.id.startswith(("ranks.", "pipeline.host"))]
    if passed:
        yield from (
            "",
            "# Ranks that fall behind their peers: none here.",
            "[[limit]]",
            'path = "culprits.length"',
            "max = 0",
        )
