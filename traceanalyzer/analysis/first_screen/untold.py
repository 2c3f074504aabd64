"""What is withheld, told once per cause and with what would unlock it.

`quality.withheld` names every metric with its reason. Many share a cause; what a reader needs is the cause, once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from traceanalyzer.gaps.sample.claims import CLAIMS
from traceanalyzer.review import Untold, Withheld

_METRICS = {
    "bubble": "Bubble",
    "bubble.measured_share": "Bubble",
    "bubble.theory.simulated_share": "Theory of the bubble",
    "bubble.attribution_ms": "What causes the bubble",
    "bubble.worth": "What some repairs save",
    "bubble.stages": "The bubble by stage",
    "all_to_all": "Expert exchanges",
    "all_to_all.rank_load_max_over_mean": "Expert loads",
    "all_to_all.imbalance_cost_ms": "What uneven experts cost",
    "all_to_all.chance_max_over_mean": "What chance alone would give",
    "all_to_all.wait_share": "Waiting at all-to-alls",
    "all_to_all.transfer_share": "Transfer of all-to-alls",
    "all_to_all.blame": "Who is late at all-to-alls",
    "mfu.mfu": "MFU",
    "mfu.hfu": "HFU",
    "waterfall": "The way from peak to measured",
    "roofline": "Roofline",
    "memory": "Memory",
    "stragglers": "Which rank is late",
    "culprits.ms": "What some repairs save",
}
"""Metrics that a reader of the first screen misses, in words. The rest is told in its section of the report."""


@dataclass(frozen=True, slots=True)
class _Cause:
    """A reason that several metrics share."""

    reason: str
    """A pattern of reasons in `quality.withheld`."""
    what: str
    told: str
    """Why, in words; `{reason}` stands for the first reason found."""
    unlock: str | None = None
    absorbs: str = "(?!)"
    """Reasons that only matter once this cause is gone."""


_BY_STAGE = "|".join(re.escape(CLAIMS[name].reason) for name in ("bubble", "imbalance by stage"))
_NO_LOADS = r"routing side file|split sizes|^these all-to-alls are no dispatch"
_CAUSES = (
    _Cause(
        r"^kernels were launched and none was recorded|^device events in the format of |^no trace is here",
        "Bubble, experts and MFU",
        "{reason}",
        absorbs=".",
    ),
    _Cause(
        r"^no pipeline: ",
        "Bubble",
        "these traces show no pipeline: no labelled actions and no messages between stages",
        "if the job has one: label its actions, as `compute:2F0`, or give an `action_pattern` in `--job FILE`",
        absorbs=rf"^no complete pipeline step|{_BY_STAGE}",
    ),
    _Cause(
        r"^no pipeline was captured with all its ranks",
        "Bubble",
        "{reason}",
        "profile one rank of every stage",
        absorbs=rf"^no complete pipeline step|{_BY_STAGE}",
    ),
    _Cause(r"^not known without run\.json: ", "MFU", "it needs {needs}", "{options}"),
    _Cause(
        r"^these traces do not mark their steps",
        "MFU",
        "{reason}",
        "call `profiler.step()` in every step",
    ),
    _Cause(
        _NO_LOADS,
        "Expert loads",
        "what every expert receives is not recorded on all ranks of a group",
        "record shapes (split sizes) on all of them, or the routing side file",
        absorbs=r"^experts per token and number|^no expert computation|^ranks are no|^all-to-alls overlap|^the replay of the measured durations",
    ),
    _Cause(
        r"^experts per token and number of experts",
        "What chance alone would give",
        "the number of experts and how many a token visits are not known",
        "`--job FILE`",
    ),
    _Cause(
        "|".join(re.escape(claim.reason) for claim in CLAIMS.values()),
        "Which rank is late",
        "the captured ranks do not tell",
        "profile more of their groups",
        absorbs=r"^some all-to-alls cannot be split: a member was not captured",
    ),
    _Cause(r"^the clocks", "Waiting at all-to-alls, and who is waited for", "{reason}"),
    _Cause(
        r"replay of|^ranks are no|^all-to-alls overlap|this replay of single|^how long transfers take",
        "What some repairs save",
        "{reason}",
    ),
)
_NOT_APPLICABLE = re.compile(
    r"^no all-to-all in these traces|^no rank computes on its host|^the op table holds no sends|"
    r"^gloo records no transfer|^no transfer is known by itself|^no messages are recorded"
)
"""Of figures that nobody misses on the first screen."""


def untold(withheld: Sequence[Withheld]) -> list[Untold]:
    """One entry per cause, in the order of `_CAUSES`; reasons of no known cause by their subject."""
    left = [item for item in withheld if _is_missed(item)]
    told: list[Untold] = []
    for cause in _CAUSES:
        own = [item for item in left if re.search(cause.reason, item.reason)]
        if own:
            absorbed = [item for item in left if item not in own and re.search(cause.absorbs, item.reason)]
            left = [item for item in left if item not in own and item not in absorbed]
            told.append(_of_cause(cause, [*own, *absorbed], withheld))
    by_reason: dict[str, list[Withheld]] = {}
    for item in left:
        by_reason.setdefault(item.reason, []).append(item)
    return [*told, *(_of_reason(reason, items, withheld) for reason, items in by_reason.items())]


def _is_missed(item: Withheld) -> bool:
    return item.metric in _METRICS and not _NOT_APPLICABLE.search(item.reason)


def _of_cause(cause: _Cause, items: Sequence[Withheld], withheld: Sequence[Withheld]) -> Untold:
    reason = items[0].reason
    words = {"reason": reason, "needs": _needs(reason), "options": _options(reason)}
    unlock = cause.unlock.format(**words) if cause.unlock else None
    told = cause.told.format(**words)
    return Untold(
        what=cause.what, reason=told, unlock=unlock, metrics=_metrics({item.reason for item in items}, withheld)
    )


def _metrics(reasons: set[str], withheld: Sequence[Withheld]) -> list[str]:
    return [item.metric for item in withheld if item.reason in reasons]


def _needs(reason: str) -> str:
    """What is to be declared, for example `the model, tokens per step and the sequence length`."""
    names = re.sub(r"\s*\([^)]*\)", "", reason.partition(": ")[2].partition(";")[0]).split(", ")
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _options(reason: str) -> str:
    """The options that declare it: the job's file alone says everything."""
    options = [f"`{option}`" for option in re.findall(r"--[a-z-]+", reason)]
    return "`--job FILE`" if "`--job`" in options else ", ".join(options)


def _of_reason(reason: str, items: Sequence[Withheld], withheld: Sequence[Withheld]) -> Untold:
    names = list(dict.fromkeys(_METRICS[item.metric] for item in items))
    return Untold(what=", ".join(names), reason=reason, metrics=_metrics({reason}, withheld))
