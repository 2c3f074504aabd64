"""Is the job that was declared the one that ran?"""

from __future__ import annotations

from traceanalyzer.gaps.checks.check import Check, Judged, Verdict
from traceanalyzer.gaps.efficiency.operators import MAX_DIFFERENCE
from traceanalyzer.review.words import flops_count, percent


def _flops(judged: Judged) -> Verdict | None:
    if judged.flops is None:
        return None
    recorded, declared = judged.flops
    difference = recorded / declared - 1
    more = "an optimizer that multiplies matrices (Muon), undeclared recompute or a larger model"
    less = "fewer tokens than declared, a forward pass alone, attention that skips what is masked, or a smaller model"
    return Verdict(
        passed=abs(difference) <= MAX_DIFFERENCE,
        evidence=(
            f"{flops_count(recorded)} per step recorded, {flops_count(declared)} declared (every key counted, recompute "
            f"included): {percent(difference, 2)} apart"
        ),
        action=f"MFU is of the declared job: look for {more if difference > 0 else less}",
    )


def _recompute(judged: Judged) -> Verdict | None:
    """`partial` agrees with whatever recomputes."""
    if judged.recompute is None or judged.recompute[1].value is None:
        return None
    declared, found = judged.recompute
    return Verdict(
        passed=declared == found.value or (found.value == "partial" and declared != "none"),
        evidence=f"declared {declared}, recorded {found.value}: {found.basis}",
    )


CHECKS = (
    Check(
        id="flops.as_declared",
        passed="The recorded shapes are the declared job's",
        failed="The recorded shapes are not the declared job's",
        why=f"MFU rests on the declared FLOPs; recorded shapes may differ by {percent(MAX_DIFFERENCE)}.",
        action="MFU is of the declared job: correct the declaration, or look for what computes otherwise",
        judge=_flops,
    ),
    Check(
        id="recompute.as_declared",
        passed="Backward recomputes as declared",
        failed="Backward does not recompute as declared",
        why="HFU and memory count what backward computes again.",
        action="HFU and memory are of the declared job: correct --recompute, or look for why it differs",
        judge=_recompute,
    ),
)
