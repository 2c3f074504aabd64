"""What is withheld, reported once per cause and with what would unlock it.

`quality.withheld` names every metric with its reason. Many share a cause; what a reader needs is the cause, once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from traceanalyzer.review import Withheld, WithheldCause
from traceanalyzer.review.vocabulary import WithheldCode

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
"""Metrics that a reader of the first screen misses, in words. The rest is reported in its section of the report."""


@dataclass(frozen=True, slots=True)
class _Cause:
    """A kind of reason that several metrics share."""

    code: WithheldCode
    what: str
    """`{metrics}` stands for what is missed, in words."""
    stated: str
    """Why, in words; `{reason}` stands for the first reason found."""
    unlock: str | None = None
    absorbs: frozenset[WithheldCode] = frozenset()
    """Reasons that only matter once this cause is gone."""


_CAUSES = (
    _Cause("nothing_measured", "Bubble, experts and MFU", "{reason}"),
    _Cause(
        "no_pipeline",
        "Bubble",
        "these traces show no pipeline: no labelled actions and no messages between stages",
        "if the job has one: label its actions, as `compute:2F0`, or give an `action_pattern` in `--job FILE`",
        absorbs=frozenset({"no_pipeline_step", "pipeline_not_captured"}),
    ),
    _Cause(
        "no_whole_pipeline",
        "Bubble",
        "{reason}",
        "profile one rank of every stage",
        absorbs=frozenset({"no_pipeline_step", "pipeline_not_captured"}),
    ),
    _Cause("undeclared", "MFU", "it needs {needs}", "{options}"),
    _Cause("unmarked_steps", "MFU", "{reason}", "call `profiler.step()` in every step"),
    _Cause(
        "no_loads",
        "Expert loads",
        "what every expert receives is not recorded on all ranks of a group",
        "record shapes (split sizes) on all of them, or the routing side file",
        absorbs=frozenset({"experts_undeclared", "no_expert_times"}),
    ),
    _Cause(
        "experts_undeclared",
        "What chance alone would give",
        "the number of experts and how many a token visits are not known",
        "`--job FILE`",
    ),
    _Cause(
        "ranks_not_captured",
        "Which rank is late",
        "the captured ranks do not show it",
        "profile more of their groups",
        absorbs=frozenset({"not_split", "pipeline_not_captured"}),
    ),
    _Cause("clocks", "{metrics}", "{reason}"),
    _Cause("replay", "What some repairs save", "{reason}"),
)


def withheld_causes(withheld: Sequence[Withheld]) -> list[WithheldCause]:
    """One entry per cause, in the order of `_CAUSES`; reasons of no known cause by their subject."""
    left = [item for item in withheld if item.metric in _METRICS and item.code != "no_exchanges"]
    stated: list[WithheldCause] = []
    for cause in _CAUSES:
        own = [item for item in left if item.code == cause.code]
        if own:
            absorbed = [item for item in left if item.code in cause.absorbs and item not in own]
            left = [item for item in left if item not in own and item not in absorbed]
            stated.append(_of_cause(cause, [*own, *absorbed], withheld))
    by_reason: dict[str, list[Withheld]] = {}
    for item in left:
        by_reason.setdefault(item.reason, []).append(item)
    return [*stated, *(_of_reason(reason, items, withheld) for reason, items in by_reason.items())]


def _of_cause(cause: _Cause, items: Sequence[Withheld], withheld: Sequence[Withheld]) -> WithheldCause:
    reason = items[0].reason
    words = {"reason": reason, "needs": _needs(reason), "options": _options(reason)}
    unlock = cause.unlock.format(**words) if cause.unlock else None
    stated = cause.stated.format(**words)
    return WithheldCause(
        what=cause.what.format(metrics=_missed(items)),
        reason=stated,
        unlock=unlock,
        metrics=_metrics({item.reason for item in items}, withheld),
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


def _of_reason(reason: str, items: Sequence[Withheld], withheld: Sequence[Withheld]) -> WithheldCause:
    return WithheldCause(what=_missed(items), reason=reason, metrics=_metrics({reason}, withheld))


def _missed(items: Sequence[Withheld]) -> str:
    return ", ".join(dict.fromkeys(_METRICS[item.metric] for item in items))
