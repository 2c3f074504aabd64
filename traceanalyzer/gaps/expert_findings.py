"""What was checked about expert parallelism."""

from __future__ import annotations

from traceanalyzer.gaps.review import AllToAll, Finding
from traceanalyzer.gaps.wording import milliseconds, percent, times

MIN_SAVED_SHARE = 0.02
"""A placement is proposed from this share of the step on, and links are told from here on."""

LEVELLING = 0.9
"""Of the padding that fills every rank up to the fullest, so much counts as all of it: ratios are means over layers."""


def expert_findings(all_to_all: AllToAll | None, step_ms: float | None) -> list[Finding]:
    """Balance against chance, the placement of experts, and the transfers themselves."""
    if all_to_all is None:
        return []
    return [*_balance(all_to_all, step_ms), *_placement(all_to_all, step_ms), *_links(all_to_all, step_ms)]


def worth_of(all_to_all: AllToAll, remedy: str) -> float | None:
    """Milliseconds per step that a remedy would save; None where it could not be replayed."""
    return next((item.ms for item in all_to_all.worth if item.remedy == remedy), None)


def _balance(all_to_all: AllToAll, step_ms: float | None) -> list[Finding]:
    theory, ratio = all_to_all.theory, all_to_all.rank_load_max_over_mean
    if ratio is None or theory is None or theory.chance_rank_high is None or theory.chance_rank is None:
        return []
    passed = ratio <= theory.chance_rank_high
    worth = worth_of(all_to_all, "balanced_experts")
    blamed = next((item for item in all_to_all.blame if item.cause == "experts"), None)
    evidence = (
        f"the fullest rank receives {times(ratio)} the mean; a router without preference gives "
        f"{times(theory.chance_rank)}, and more than {times(theory.chance_rank_high)} in fewer than 1 of 100 runs"
    )
    if not passed and blamed is not None:
        evidence += (
            f"; the others wait {milliseconds(blamed.ms)} per step, summed, for the experts of rank {blamed.culprit}"
        )
    saved = all_to_all.imbalance_cost_ms if worth is None else worth
    title = "Expert load is as even as chance gives" if passed else "Expert load is uneven beyond chance"
    levelled = not passed and _padding_levels(all_to_all, saved, step_ms)
    if levelled:
        title = "Tokens are uneven beyond chance, but padding evens the experts' work"
        evidence += (
            f"; {percent(all_to_all.padded_share or 0)} of the rows that experts compute hold no token, and expert time follows "
            "rows, so evening the tokens alone saves next to nothing"
        )
    return [
        Finding(
            id="experts.balanced",
            title=title,
            passed=passed,
            worth_ms=None if passed else saved,
            worth_mfu_points=None,
            evidence=evidence,
            action=None if passed else _LESS_PADDING if levelled else _balance_action(all_to_all),
            rank=all_to_all.slowest_rank,
        )
    ]


_LESS_PADDING = "even the tokens, then lower the capacity (or the alignment): what is saved is the padding"


def _padding_levels(all_to_all: AllToAll, saved_ms: float | None, step_ms: float | None) -> bool:
    """Whether uneven tokens cost nothing because rows are filled up, as far as the fullest rank at least."""
    ratio, padded = all_to_all.rank_load_max_over_mean, all_to_all.padded_share
    if ratio is None or padded is None or saved_ms is None or not step_ms:
        return False
    return padded >= LEVELLING * (1 - 1 / ratio) and saved_ms < MIN_SAVED_SHARE * step_ms


def _balance_action(all_to_all: AllToAll) -> str:
    patterns = {spot.pattern for spot in all_to_all.hot_spots if spot.unit == "rank"}
    if patterns == {"wandering"}:
        return (
            "another rank is hot in every step: balance the router (auxiliary loss, bias); no placement fits all steps"
        )
    if patterns == {"steady"}:
        return f"rank {all_to_all.slowest_rank} is hot in every step: move or replicate its experts (traceanalyzer plan experts)"
    return f"rebalance the experts of rank {all_to_all.slowest_rank}, or their placement"


def _placement(all_to_all: AllToAll, step_ms: float | None) -> list[Finding]:
    placement = all_to_all.placement
    if placement is None or placement.saved_ms is None or not step_ms:
        return []
    passed = placement.saved_ms < MIN_SAVED_SHARE * step_ms
    judged = "judged on steps it was not made from" if placement.held_out else "judged on the one step it was made from"
    return [
        Finding(
            id="experts.placement",
            title="No other placement of experts would help" if passed else "Another placement of experts would help",
            passed=passed,
            worth_ms=None if passed else placement.saved_ms,
            worth_mfu_points=None,
            evidence=(
                f"packing experts by load takes the fullest rank from {times(placement.rank_load_before)} to "
                f"{times(placement.rank_load_after)} the mean, {judged}; no replicas"
            ),
            action=None
            if passed
            else f"move {placement.num_moved} experts: traceanalyzer plan experts PATH --placement FILE",
        )
    ]


def _links(all_to_all: AllToAll, step_ms: float | None) -> list[Finding]:
    worth = worth_of(all_to_all, "repaired_link")
    if worth is None or not step_ms:
        return []
    passed = worth < MIN_SAVED_SHARE * step_ms or not all_to_all.slow_ports
    slow = ", ".join(f"rank {port.rank} ({port.side})" for port in all_to_all.slow_ports[:4])
    kinds = {"mixed": 0, "communication": 0} | {
        cause: sum(item.num for item in all_to_all.exchanges if item.cause == cause)
        for cause in {item.cause for item in all_to_all.exchanges}
    }
    slow_share = (kinds["mixed"] + kinds["communication"]) / max(sum(kinds.values()), 1)
    return [
        Finding(
            id="all_to_all.links",
            title="All-to-all transfers are as fast as the run's own" if passed else "Some links are slow",
            passed=passed,
            worth_ms=None if passed else worth,
            worth_mfu_points=None,
            evidence=(
                f"{percent(slow_share)} of the all-to-alls transfer much longer than bytes explain"
                + (f"; slow ports: {slow}" if slow else "; no rank's transfers stand out")
            ),
            action=None if passed else "check the links of these ranks (cables, topology, congestion)",
            rank=None if passed else all_to_all.slow_ports[0].rank,
        )
    ]
