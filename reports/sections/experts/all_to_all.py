"""Experts and all-to-alls: how even the loads are, who is late and why, what it costs, and how many bytes travel."""

from __future__ import annotations

from reports.charts import token_flow
from reports.page.grids import figures, grid
from reports.page.model import Grid, Note, Part, Section, Terms
from reports.sections.experts import loads, volumes
from reports.sections.experts.chain import chain_grid
from reports.sections.experts.heat import bytes_matrix, exchange_waits, expert_heat
from reports.sections.material import Material
from traceanalyzer.review import AllToAll
from traceanalyzer.review.waited_for import waited_for
from traceanalyzer.review.words import counted, spaced, times

MAX_GROUPS = 200
_REMEDIES = {
    "balanced_experts": "balanced experts",
    "repaired_link": "transfers at the run's usual speed",
    "full_overlap": "transfers hidden behind computation",
}
_DOING = {
    "experts": "expert computation",
    "other_compute": "other computation",
    "transfer": "the transfer before",
    "before": "starting the step late",
    "host": "its host: neither computing nor in a collective",
}
_HELD_UP = {"compute": "a late member", "communication": "a slow transfer", "mixed": "both", "even": "neither"}


def section(material: Material) -> Section:
    """Everything about experts."""
    routing, collectives = material.table("routing"), material.table("collectives")
    measured = material.review.all_to_all
    exchanged = token_flow.exchanges(routing, collectives)
    layers = expert_heat(routing)
    parts: list[Part | None] = [
        layers,
        loads.load_chart(token_flow.rank_loads(exchanged), measured),
        None if layers else loads.load_chart(token_flow.expert_loads(routing), measured),
        bytes_matrix(material.table("traffic"), material.table("ranks")) or loads.matrix_chart(exchanged),
        exchange_waits(material.table("expert_blame"), material.review.step.least_reported_ms or 0.0),
        loads.split_chart(material),
    ]
    if measured is not None:
        advice = loads.placement_text(measured)
        parts += [facts(measured), *loads.load_grids(measured), *_causes(measured)]
        parts += [Note(text=advice) if advice else None, *volumes.volumes(measured), group_grid(measured)]
    parts += [chain_grid(material.table("expert_chain")), *volumes.sharding(material.review.expert_sharding)]
    return material.section(
        "all-to-all",
        "Experts and all-to-all",
        parts,
        "all_to_all",
        "expert_sharding",
        lead=_lead(measured),
    )


def _lead(measured: AllToAll | None) -> str:
    """How uneven the loads are, and who is waited for."""
    if measured is None or measured.rank_load_max_over_mean is None:
        return ""
    chance = loads.by_chance(measured, "rank")
    ratio = (
        f"The fullest rank receives {times(measured.rank_load_max_over_mean)} the mean{f', {chance}' if chance else ''}"
    )
    late = waited_for(measured, "the waiting at all-to-alls")
    return f"{ratio}{f'; {late}' if late else ''}."


def _waited_for(measured: AllToAll) -> str:
    """The slowest rank; empty if waits are not known, so that nothing shows that the others wait for it."""
    known = measured.slowest_rank is not None and measured.wait_share is not None
    return f"rank {measured.slowest_rank}" if known else ""


def facts(measured: AllToAll) -> Terms | None:
    """The all-to-all's figures, each beside what balance or chance would give."""
    combine = [group.combine_wait_ms for group in measured.groups]
    known = [ms for ms in combine if ms is not None]
    waited = sum(known) if known and len(known) == len(combine) else None
    return figures(
        "In numbers",
        [
            ("Rank load, max ÷ mean", loads.load_fact(measured, "rank")),
            ("Expert load, max ÷ mean", loads.load_fact(measured, "expert")),
            ("Most waited for", _waited_for(measured)),
            ("Expert time beyond the mean, slowest rank, per step", measured.imbalance_cost_ms, "ms"),
            ("Wait at combine, measured", waited, "ms"),
            ("Wait at combine, from loads", measured.theory.combine_wait_ms if measured.theory else None, "ms"),
            ("Waiting, share of rank time", measured.wait_share, "share"),
            ("Transfer, share of rank time", measured.transfer_share, "share"),
            ("Exposed, share of rank time", measured.exposed_share, "share"),
            ("Choosing experts, per step over ranks", measured.router_ms, "ms"),
            ("Permutation, per step over ranks", measured.permutation_ms, "ms"),
            ("Exchange of counts, per step over ranks", measured.count_exchange_ms, "ms"),
            *loads.overhead_texts(measured),
            ("Expert time on padding, per step over ranks", measured.padding_ms or None, "ms"),
            ("Dispatch, longest member's transfer", measured.dispatch_transfer_us, "us"),
            ("Dispatch at the peak of its links, without latency", measured.dispatch_at_peak_us, "us"),
        ],
    )


def _causes(measured: AllToAll) -> list[Part | None]:
    """Who is late and why, what remedies would save, and how each direction fares."""
    blame = grid(
        "late-ranks",
        "Who is late, and why",
        measured.blame,
        [
            ("rank", lambda b: b.culprit, None),
            ("late by", lambda b: _DOING.get(b.cause, spaced(b.cause)), None),
            ("others wait, per step", lambda b: b.ms, "ms"),
        ],
        note=_held_up(measured),
        few=4,
        half=True,
    )
    worth = grid(
        "expert-worth",
        "What each remedy would save",
        measured.worth,
        [
            ("remedy", lambda w: _REMEDIES.get(w.remedy, spaced(w.remedy)), None),
            ("saves per step", lambda w: w.ms, "ms"),
        ],
        note="By replay, each remedy alone. Savings do not add up.",
        half=True,
    )
    directions = grid(
        "directions",
        "By direction, per step, summed over ranks",
        measured.exchanges,
        [
            ("direction", lambda e: spaced(e.direction), None),
            ("held up by", lambda e: _HELD_UP.get(e.cause, e.cause), None),
            ("all-to-alls", lambda e: e.num, "count"),
            ("wait", lambda e: e.wait_ms, "ms"),
            ("transfer", lambda e: e.transfer_ms, "ms"),
        ],
        few=0,
        half=True,
    )
    return [blame, worth, directions]


def _held_up(measured: AllToAll) -> str:
    kinds: dict[str, int] = {}
    for row in measured.exchanges:
        kinds[row.cause] = kinds.get(row.cause, 0) + row.num
    said = ", ".join(f"{_HELD_UP.get(kind, kind)} {num:,}" for kind, num in sorted(kinds.items()))
    return f"{counted(sum(kinds.values()), 'all-to-all')} held up by: {said}." if kinds else ""


def group_grid(measured: AllToAll) -> Grid | None:
    """The expert groups."""
    return grid(
        "groups",
        "Expert groups: load as max ÷ mean, times per step summed over the group",
        measured.groups,
        [
            ("ranks", lambda g: g.ranks, None),
            ("all-to-alls", lambda g: g.num_all_to_all, "count"),
            ("rank load", lambda g: g.rank_load_max_over_mean, "ratio"),
            ("rank load from splits", lambda g: g.rank_load_max_over_mean_from_splits, "ratio"),
            ("expert load", lambda g: g.expert_load_max_over_mean, "ratio"),
            ("wait at combine", lambda g: g.combine_wait_ms, "ms"),
            ("wait", lambda g: g.wait_ms, "ms"),
            ("transfer", lambda g: g.transfer_ms, "ms"),
        ],
        limit=MAX_GROUPS,
        few=0,
        csv="collectives",
    )
