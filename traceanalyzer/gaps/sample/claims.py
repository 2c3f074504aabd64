"""What may be said of which captured ranks: the one table that withholding and the tests over the text go by.

| captured | may be said | must not be said |
|---|---|---|
| one rank | its own ledger, pace, ranges of its waits, its tokens | bubble, imbalance by stage, loads of a group, who is slow |
| a whole pipeline | its bubble, imbalance by stage, blame inside it | other pipelines; loads of a group that is not whole |
| a whole expert group | its loads, waits and who is late | other groups, bubble and imbalance by stage |
| a pipeline and the replicas of a stage | both of these, a slow replica of that stage | other stages' replicas |

Ranks of no whole group may be blamed for each other's waiting, and that is all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from msgspec.structs import replace

from traceanalyzer.review import AllToAll, Bubble, Sample, Withheld
from traceanalyzer.review.vocabulary import WithheldCode


@dataclass(frozen=True, slots=True)
class Claim:
    """Fields of the review that need certain ranks."""

    fields: tuple[str, ...]
    """Paths of at most two parts; null, or empty lists, where the claim may not be made."""
    is_supported: Callable[[Sample], bool]
    """Of captured ranks that are not all of the job."""
    reason: str
    code: WithheldCode = "ranks_not_captured"


CLAIMS = {
    "bubble": Claim(
        fields=tuple(f"bubble.{name}" for name in ("measured_share", "measured_ratio", "span_share", "idle_share")),
        is_supported=lambda captured: captured.num_whole_pipelines > 0,
        reason="the bubble of a pipeline needs one rank per stage",
        code="pipeline_not_captured",
    ),
    "imbalance by stage": Claim(
        fields=("bubble.stages",),
        is_supported=lambda captured: captured.num_whole_pipelines > 0,
        reason="imbalance by stage needs one rank per stage",
        code="pipeline_not_captured",
    ),
    "who is slow": Claim(
        fields=("stragglers", "bubble.culprits", "bubble.blame", "bubble.worth"),
        is_supported=lambda captured: captured.coverage != "one_rank",
        reason="one rank shows how long it waits, not which rank is slow",
    ),
    "stragglers": Claim(
        fields=("bubble.stragglers_separable",),
        is_supported=lambda captured: captured.num_whole_replicas > 0,
        reason="only the replicas of a stage distinguish a slow rank from a slow stage",
    ),
    "loads of a group": Claim(
        fields=tuple(
            f"all_to_all.{name}"
            for name in ("rank_load_max_over_mean", "expert_load_max_over_mean", "slowest_rank", "imbalance_cost_ms")
        ),
        is_supported=lambda captured: captured.num_whole_expert_groups > 0,
        reason="loads and late members of an expert group need all its members",
    ),
}


def unsupported(captured: Sample) -> dict[str, Claim]:
    """The claims that these ranks do not allow; none where all ranks are here."""
    if captured.coverage == "all":
        return {}
    return {name: claim for name, claim in CLAIMS.items() if not claim.is_supported(captured)}


_Section = TypeVar("_Section", Bubble, AllToAll)


def supported(section: _Section | None, name: str, captured: Sample) -> _Section | None:
    """The section of that name without what must not be said."""
    if section is None:
        return None
    silent: dict[str, object] = {}
    for claim in unsupported(captured).values():
        for field in (path.partition(".")[2] for path in claim.fields if path.startswith(f"{name}.")):
            silent[field] = [] if isinstance(getattr(section, field), list) else None
    return replace(section, **silent)


def by_coverage(captured: Sample, withheld: Sequence[Withheld]) -> list[Withheld]:
    """Why what must not be said is not there, where no other reason already stands for the field or its section."""
    known = {item.metric for item in withheld}
    return [
        Withheld(metric=field, reason=claim.reason, code=claim.code)
        for claim in unsupported(captured).values()
        if known.isdisjoint(claim.fields)
        for field in claim.fields
        if field.partition(".")[0] not in known
    ]
