"""What was checked about expert parallelism."""

from __future__ import annotations

from traceanalyzer.gaps.checks.check import Check, Judged, Verdict
from traceanalyzer.review import AllToAll
from traceanalyzer.review.words import counted, milliseconds, percent, ranks_text, times

MIN_SAVED_SHARE = 0.02
"""A placement is proposed from this share of the step on, and links are reported from here on."""

MAY_BE_CHANCE = 1.1
"""Where the number of experts is not known, a fullest rank up to this ratio is not a fault: a router without preference gives
1.1 at some 400 tokens per rank, and tokens of one text are routed alike."""

MOST_NAMED = 6
"""Steps or experts that a sentence names."""

LEVELLING = 0.9
"""Of the padding that fills every rank up to the fullest, so much counts as all of it: ratios are means over layers."""

LOAD_MARGIN = 1.25
"""What a pipeline loses by uneven expert load may exceed its price by so much, and is still reported as load alone."""


def worth_of(all_to_all: AllToAll, remedy: str) -> float | None:
    """Milliseconds per step that a remedy would save; None if it could not be replayed."""
    return next((item.ms for item in all_to_all.worth if item.remedy == remedy), None)


def _balance(judged: Judged) -> Verdict | None:
    all_to_all, step_ms = judged.all_to_all, judged.step_ms
    if all_to_all is None:
        return None
    theory, ratio = all_to_all.theory, all_to_all.rank_load_max_over_mean
    if ratio is None:
        return None
    if theory is None or theory.chance_rank_high is None or theory.chance_rank is None:
        return _balance_without_chance(judged, all_to_all, ratio)
    passed = ratio <= theory.chance_rank_high
    worth = worth_of(all_to_all, "balanced_experts")
    blamed = next((item for item in all_to_all.blame if item.cause == "experts"), None)
    evidence = (
        f"the fullest rank receives {times(ratio)} the mean; a router without preference gives "
        f"{times(theory.chance_rank)}, and more than {times(theory.chance_rank_high)} in fewer than 1 of 100 runs"
        + _where(all_to_all)
    )
    if not passed and blamed is not None:
        evidence += (
            f"; the others wait {milliseconds(blamed.ms)} per step, summed, for the experts of rank {blamed.culprit}"
        )
    saved = all_to_all.imbalance_cost_ms if worth is None else worth
    title = None
    levelled = not passed and _padding_levels(all_to_all, saved, step_ms)
    if levelled:
        title = "Tokens are uneven beyond chance, but padding evens the experts' work"
        evidence += (
            f"; {percent(all_to_all.padded_share or 0)} of the rows that experts compute hold no token, and expert time follows "
            "rows, so evening the tokens alone saves next to nothing"
        )
    return Verdict(
        title=title,
        passed=passed,
        worth_ms=None if passed else saved,
        evidence=evidence,
        action=None if passed else _LESS_PADDING if levelled else _balance_action(all_to_all),
        rank=_fullest(all_to_all),
        statement=_uneven(all_to_all, ratio, f", beyond the {times(theory.chance_rank_high)} that chance gives"),
    )


def load_fault(judged: Judged) -> tuple[int, float] | None:
    """The rank whose experts hold up the others, and what balance would save per step; None where load is no priced fault."""
    verdict = _balance(judged)
    if verdict is None or verdict.passed or verdict.rank is None or not verdict.worth_ms:
        return None
    return verdict.rank, verdict.worth_ms


def _fullest(all_to_all: AllToAll) -> int | None:
    """The rank whose experts are too full: the one that others wait for because of them, else the one hottest in most layers.

    The slowest rank may be another one, slow for a reason of its own.
    """
    blamed = next((item for item in all_to_all.blame if item.cause == "experts"), None)
    if blamed is not None:
        return blamed.culprit
    hottest = [spot.hottest for spot in all_to_all.hot_spots if spot.unit == "rank"]
    return max(hottest, key=hottest.count) if hottest else all_to_all.slowest_rank


def _uneven(all_to_all: AllToAll, ratio: float, beyond: str = "") -> str:
    """The fullest rank as a clause, and whose experts are waited for."""
    blamed = next((item for item in all_to_all.blame if item.cause == "experts"), None)
    full = f"the fullest expert rank receives {times(ratio)} the mean{beyond}"
    return f"{full}, and the others wait for the experts of rank {blamed.culprit}" if blamed is not None else full


def _balance_without_chance(judged: Judged, all_to_all: AllToAll, ratio: float) -> Verdict | None:
    """What balance is worth where the loads of single experts, and so chance, are not known."""
    saved = worth_of(all_to_all, "balanced_experts")
    if saved is None:
        return None
    small = saved <= judged.least_ms
    passed = small or ratio <= MAY_BE_CHANCE
    evidence = f"the fullest rank receives {times(ratio)} the mean; what chance alone gives is not known"
    if passed and not small:
        evidence += (
            f", and up to {times(MAY_BE_CHANCE)} it may be that; even loads would save {milliseconds(saved)} per step"
        )
    return Verdict(
        passed=passed,
        title="Expert load may be as even as chance allows" if passed else "Expert load is uneven",
        worth_ms=None if passed else saved,
        evidence=evidence,
        action=None if passed else _balance_action(all_to_all),
        rank=_fullest(all_to_all),
        statement=_uneven(all_to_all, ratio),
    )


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
    if patterns == {"bursts"}:
        return (
            f"{_bursts(all_to_all)} alone: look at what those steps have that others lack (their data, a router that was just "
            "changed); a placement made for them does not fit the others"
        )
    rank = _fullest(all_to_all)
    if patterns == {"steady"} and rank in {spot.hottest for spot in all_to_all.hot_spots if spot.unit == "rank"}:
        return f"rank {rank} is hot in every step: move or replicate its experts (traceanalyzer plan experts)"
    return f"rebalance the experts of rank {rank}, or their placement"


def _bursts(all_to_all: AllToAll) -> str:
    """The steps that hold the imbalance, in words; empty if it is in most of them."""
    steps = sorted({step for spot in all_to_all.hot_spots if spot.unit == "rank" for step in spot.bursts})
    if not steps:
        return ""
    return f"{'step' if len(steps) == 1 else 'steps'} {', '.join(map(str, steps[:MOST_NAMED]))}" + (
        f" and {len(steps) - MOST_NAMED} more" if len(steps) > MOST_NAMED else ""
    )


def _where(all_to_all: AllToAll) -> str:
    """When loads are uneven, and who gets nothing, as clauses that follow the evidence."""
    found = ""
    if bursts := _bursts(all_to_all):
        found += f"; nearly all of it in {bursts}"
    idle = all_to_all.idle_experts
    if idle:
        named = ", ".join(map(str, idle[:MOST_NAMED])) + (
            f" and {len(idle) - MOST_NAMED} more" if idle[MOST_NAMED:] else ""
        )
        found += f"; no token visits {'expert' if len(idle) == 1 else 'experts'} {named}"
    return found


def _sources(judged: Judged) -> Verdict | None:
    all_to_all = judged.all_to_all
    sent = (
        next((each for each in all_to_all.loads if (each.unit, each.side) == ("rank", "sent")), None)
        if all_to_all
        else None
    )
    if all_to_all is None or sent is None or all_to_all.fullest_source is None:
        return None
    passed = sent.max_over_mean <= MAY_BE_CHANCE
    source = all_to_all.fullest_source
    return Verdict(
        passed=passed,
        evidence=f"before any routing the rank with most token copies brings {times(sent.max_over_mean)} the mean"
        + ("" if passed else f" of its group; over all steps it is rank {source}"),
        action=None if passed else f"cut the batch evenly: rank {source} holds more tokens than its peers",
        rank=None if passed else source,
        culprit=None if passed else f"rank {source}",
        statement=None
        if passed
        else f"rank {source} brings {times(sent.max_over_mean)} the mean of tokens to the experts",
    )


def _placement(judged: Judged) -> Verdict | None:
    placement, step_ms = judged.all_to_all.placement if judged.all_to_all else None, judged.step_ms
    if placement is None or placement.saved_ms is None or not step_ms:
        return None
    passed = placement.saved_ms < MIN_SAVED_SHARE * step_ms
    how = (
        "tested on steps that it was not made from"
        if placement.held_out
        else "tested on the one step that it was made from"
    )
    return Verdict(
        passed=passed,
        worth_ms=None if passed else placement.saved_ms,
        statement=f"a placement that moves {counted(placement.num_moved, 'expert')}",
        evidence=(
            f"packing experts by load takes the fullest rank from {times(placement.rank_load_before)} to "
            f"{times(placement.rank_load_after)} the mean, {how}; no replicas"
        ),
        action=None
        if passed
        else f"move {placement.num_moved} experts: traceanalyzer plan experts PATH --placement FILE",
    )


def _links(judged: Judged) -> Verdict | None:
    all_to_all, step_ms = judged.all_to_all, judged.step_ms
    if all_to_all is None:
        return None
    worth = worth_of(all_to_all, "repaired_link")
    if worth is None or not step_ms:
        return None
    passed = worth < MIN_SAVED_SHARE * step_ms or not all_to_all.slow_ports
    slow = ", ".join(f"rank {port.rank} ({port.side})" for port in all_to_all.slow_ports[:4])
    kinds = {"mixed": 0, "communication": 0} | {
        cause: sum(item.num for item in all_to_all.exchanges if item.cause == cause)
        for cause in {item.cause for item in all_to_all.exchanges}
    }
    slow_share = (kinds["mixed"] + kinds["communication"]) / max(sum(kinds.values()), 1)
    return Verdict(
        passed=passed,
        worth_ms=None if passed else worth,
        evidence=(
            f"{percent(slow_share)} of the all-to-alls transfer much longer than bytes explain"
            + (f"; slow ports: {slow}" if slow else "; no rank's transfers stand out")
        ),
        action=None if passed else "check the links of these ranks (cables, topology, congestion)",
        culprit=None if passed else f"the links of {_ports(all_to_all)}",
        statement=None if passed else f"the links of {_ports(all_to_all)} are slow in all-to-alls",
        rank=None if passed else all_to_all.slow_ports[0].rank,
    )


def _ports(all_to_all: AllToAll) -> str:
    return ranks_text(sorted({port.rank for port in all_to_all.slow_ports}), 4)


CHECKS = (
    Check(
        id="experts.balanced",
        passed="Expert load is as even as chance allows",
        failed="Expert load is uneven beyond chance",
        why=f"Every rank waits for the fullest one. A router without preference is uneven too; the check fails only beyond what 99 of 100 such runs show, or, if the number of experts is not known, beyond {times(MAY_BE_CHANCE)} the mean. Time that a rank takes longer at the same load is not caused by load.",
        action="rebalance the experts, or their placement",
        judge=_balance,
        window="held_up",
        remedy="fault",
    ),
    Check(
        id="experts.sources",
        passed="Ranks bring equally many tokens to the experts",
        failed="A rank brings more tokens to the experts than its peers",
        why=f"A rank with more tokens computes longer before the exchange and sends more in it; its peers wait, whatever the router does. Reported beyond {times(MAY_BE_CHANCE)} the mean.",
        action="cut the batch evenly over ranks",
        judge=_sources,
        window="held_up",
        remedy="fault",
    ),
    Check(
        id="experts.placement",
        passed="No other placement of experts would help",
        failed="Another placement of experts would help",
        why=f"Packing experts by their measured load evens the ranks; reported from {percent(MIN_SAVED_SHARE)} of the step.",
        action="move experts: traceanalyzer plan experts PATH --placement FILE",
        judge=_placement,
        remedy="change",
    ),
    Check(
        id="all_to_all.links",
        passed="All-to-all transfers are as fast as the run's own",
        failed="Some links are slow",
        why=f"A slow port makes its rank late for everything after; reported from {percent(MIN_SAVED_SHARE)} of the step.",
        action="check the links of these ranks (cables, topology, congestion)",
        judge=_links,
        remedy="fault",
    ),
)
