"""Did the host let the ranks run when they wanted to?"""

from __future__ import annotations

from traceanalyzer.gaps.checks.check import Check, Judged, Verdict
from traceanalyzer.review.words import percent


def _faithful(judged: Judged) -> Verdict | None:
    validity = judged.validity
    if validity.verdict == "unknown":
        return None
    figures = [
        f"{name} {percent(value)}"
        for name, value in (
            ("CPU pressure", validity.cpu_pressure_share),
            ("spread of equal actions", validity.action_spread),
        )
        if value is not None
    ]
    return Verdict(passed=validity.verdict == "faithful", evidence="; ".join(validity.reasons) or ", ".join(figures))


CHECKS = (
    Check(
        id="timeline.faithful",
        passed="The host ran every rank without delay",
        failed="The host distorted the timeline",
        why="On CPU runs the host is the device. If tasks wait for cores, or equal actions vary, the timeline measures the host.",
        action="repeat the run on idle cores, with at most one rank per core, or paced",
        judge=_faithful,
    ),
)
