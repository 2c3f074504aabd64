"""Do ranks hold what their order and model say?"""

from __future__ import annotations

from traceanalyzer.gaps.checks.check import Check, Judged, Verdict
from traceanalyzer.review.words import byte_count

MAX_EXCESS = 1.15
"""A rank may hold this many times what theory says."""


def _activations(judged: Judged) -> Verdict | None:
    known = [row for row in judged.memory if row.peak_bytes and row.predicted_bytes]
    if not known:
        return None
    ratio, worst = max(
        (((row.peak_bytes or 0) / (row.predicted_bytes or 1), row) for row in known), key=lambda pair: pair[0]
    )
    return Verdict(
        passed=ratio <= MAX_EXCESS,
        evidence=f"rank {worst.rank} keeps {byte_count(worst.peak_bytes or 0)} at most, {ratio:.2f} times what "
        f"{worst.predicted_in_flight} microbatches in flight take",
        rank=None if ratio <= MAX_EXCESS else worst.rank,
    )


CHECKS = (
    Check(
        id="memory.activations",
        passed="Ranks keep for backward what theory says",
        failed="A rank keeps more for backward than theory says",
        why=f"What outlives its backward takes memory from larger microbatches; up to {MAX_EXCESS} times theory passes.",
        action="look for what outlives its backward: graphs kept for weight gradients, outputs, losses",
        judge=_activations,
    ),
)
