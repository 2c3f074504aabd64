"""Whether the dimensions that talk most stay within a host."""

from __future__ import annotations

from traceanalyzer.gaps.checks.check import Check, Judged, Verdict
from traceanalyzer.review.words import byte_count, counted, ranks_text


def _judge(judged: Judged) -> Verdict | None:
    """Tensor-parallel groups; None without any, and where a host is not known."""
    found = next((each for each in judged.dimension_bytes if each.dimension == "tp"), None)
    if found is None or found.num_crossing is None:
        return None
    whole = counted(found.num_groups, "tensor-parallel group")
    if not found.num_crossing:
        return Verdict(passed=True, evidence=f"{whole}: the members of each are on one host")
    return Verdict(
        passed=False,
        evidence=(
            f"{found.num_crossing} of {whole} with members on several hosts, for example {ranks_text(found.example)}; a rank "
            f"sends {byte_count(found.between_bytes)} per step to another host and {byte_count(found.within_bytes)} within its own"
        ),
        rank=found.example[0],
        culprit=f"the tensor-parallel group of {ranks_text(found.example)}",
        statement=f"tensor parallelism of {ranks_text(found.example)} within one host",
    )


CHECKS = (
    Check(
        id="placement.tensor_parallel",
        passed="Tensor-parallel ranks share a host",
        failed="Tensor parallelism crosses hosts",
        why="Tensor-parallel ranks exchange activations in every layer and wait for each; links between hosts are many times slower than those within. A rack whose links join several hosts (NVL72) is an exception.",
        action="number the ranks so that tensor-parallel groups lie within a host, or lower the tensor-parallel degree",
        judge=_judge,
        remedy="change",
    ),
)
