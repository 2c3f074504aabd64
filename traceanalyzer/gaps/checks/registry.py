"""All checks, and what they find."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from traceanalyzer.gaps.checks import (
    causes,
    culprits,
    declared,
    experts,
    memory,
    pipeline,
    placement,
    sequences,
    timeline,
)
from traceanalyzer.gaps.checks.check import Check, Judged
from traceanalyzer.review import Finding

CHECKS: tuple[Check, ...] = (
    *timeline.CHECKS,
    *pipeline.CHECKS,
    *causes.CHECKS,
    *culprits.CHECKS,
    *sequences.CHECKS,
    *placement.CHECKS,
    *experts.CHECKS,
    *memory.CHECKS,
    *declared.CHECKS,
)


def findings(judged: Judged) -> list[Finding]:
    """Every check that applies to this run; failed ones first, by worth."""
    found = [_finding(check, judged) for check in CHECKS]
    return by_worth(each for each in found if each is not None)


def _finding(check: Check, judged: Judged) -> Finding | None:
    verdict = check.judge(judged)
    if verdict is None:
        return None
    return Finding(
        id=check.id,
        title=verdict.title or (check.passed if verdict.passed else check.failed),
        passed=verdict.passed,
        remedy=None if verdict.passed else check.remedy,
        culprit=None if verdict.passed else verdict.culprit,
        statement=None if verdict.passed else verdict.statement,
        worth_ms=verdict.worth_ms,
        at_most_ms=verdict.at_most_ms,
        at_most_basis=verdict.at_most_basis,
        worth_mfu_points=None,
        evidence=verdict.evidence,
        action=None if verdict.passed else verdict.action or check.action,
        rank=verdict.rank,
        start_ns=verdict.window[0] if verdict.window else None,
        end_ns=verdict.window[1] if verdict.window else None,
    )


def page() -> str:
    """The documentation's page of all findings, as Markdown."""
    lines = [
        "# Findings",
        "",
        "Every check that `analyze` makes. A check that does not apply to a run is not listed there. This page is made from the",
        "checks themselves: `python -c 'from traceanalyzer.gaps.checks.registry import page; print(page(), end=\"\")' >",
        "docs/findings.md`.",
    ]
    for check in CHECKS:
        remedy = f" The class of its remedy is *{check.remedy}*." if check.remedy else ""
        lines += [
            "",
            f"## `{check.id}`",
            "",
            f"- Passed: {check.passed}.",
            f"- Failed: {check.failed}.",
            f"- Why: {check.why}{remedy}",
        ]
        lines += [f"- What to do: {check.action}."]
    return "\n".join(lines) + "\n"


def by_worth(found: Iterable[Finding]) -> list[Finding]:
    """Failed checks first, by worth; among those without a worth, by what they are at most."""
    return sorted(found, key=lambda item: (item.passed, -(item.worth_ms or 0.0), -(item.at_most_ms or 0.0)))


def with_shares(findings: Iterable[Finding], step_ms: float | None) -> list[Finding]:
    """Fill `share_of_step`: the worth, or what it is at most, over the median step."""
    if not step_ms:
        return list(findings)
    sizes = [(each, each.worth_ms if each.worth_ms is not None else each.at_most_ms) for each in findings]
    return [each if size is None else replace(each, share_of_step=size / step_ms) for each, size in sizes]


def with_mfu_points(findings: list[Finding], mfu: float | None, step_ms: float | None) -> list[Finding]:
    """Fill `worth_mfu_points`: MFU is work over time, so a step shorter by `worth_ms` reaches mfu · step ÷ (step - worth)."""
    if mfu is None or not step_ms:
        return findings
    return [
        replace(each, worth_mfu_points=100 * mfu * (step_ms / (step_ms - each.worth_ms) - 1))
        if each.worth_ms is not None and each.worth_mfu_points is None and 0 < each.worth_ms < step_ms
        else each
        for each in findings
    ]
