"""The all-to-all imbalance of a run against balanced routing and against chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import polars as pl

from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.gaps.experts.detail import (
    ExpertTables,
    blame_figures,
    exchange_figures,
    expert_tables,
    exposed_time,
    fullest_source,
    hot_spots,
    idle_experts,
    link_figures,
    load_figures,
    no_experts,
    own_loads,
    port_figures,
    worth_figures,
)
from traceanalyzer.gaps.experts.overheads import overheads
from traceanalyzer.gaps.experts.pipelined_replay import Steps
from traceanalyzer.gaps.experts.placement import advice, propose
from traceanalyzer.gaps.experts.volumes import dispatch_at_peak, dispatch_transfer_us, volumes
from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.job import Job
from traceanalyzer.measurements.communication.links import links
from traceanalyzer.measurements.experts.all_to_all import (
    byte_loads_of_ranks,
    complete_layers,
    expected_combine_wait,
    expert_loads,
    expert_times,
    forward_time_per_token,
    imbalance_cost,
    max_over_mean,
    rank_loads,
    slowest_rank,
    waits_by_direction,
)
from traceanalyzer.measurements.experts.traffic import aligned_sequences
from traceanalyzer.review import AllToAll, AllToAllGroup, AllToAllTheory, PlacementAdvice, Withheld
from traceanalyzer.review.vocabulary import LoadsSource, WithheldCode
from traceanalyzer.schema import GATHERED
from traceanalyzer.tables import Tables
from traceanalyzer.tables.experts.directions import COMPUTE_KINDS, expert_kernels, with_directions
from traceanalyzer.tables.experts.routing import UNPAIRED, routing_from_splits
from traceanalyzer.theory.experts.chance import expected_max_over_mean, load_cv


@dataclass(frozen=True, slots=True)
class ExpertGap(SubjectPart):
    """The all-to-all section of the review, and its tables."""

    figures: AllToAll | None
    withheld: tuple[Withheld, ...]
    detail: ExpertTables

    @property
    def tables(self) -> Mapping[str, pl.DataFrame]:
        """Loads, exchanges and their blame; `collectives` are the result's only beside the steps set apart."""
        detail = self.detail
        return {
            "routing": detail.routing,
            "traffic": detail.traffic,
            "load_statistics": detail.load_statistics,
            "expert_chain": detail.expert_chain,
            "exchanges": detail.exchanges,
            "expert_blame": detail.expert_blame,
        }


def expert_gap(
    tables: Tables,
    splits: pl.DataFrame,
    job: Job | None,
    routing_records: pl.DataFrame | None = None,
    recorded: pl.DataFrame | None = None,
    hides_split: str | None = None,
    steps: Steps = (),
) -> ExpertGap:
    """Measure loads, waits and cost of the all-to-alls (`COLLECTIVE_SPLITS`) and set them against theory.

    `routing_records` (`ROUTING_RECORDS`) tell how many tokens were dropped; `recorded` (`EXECUTION_EXCHANGES`) what single
    ranks sent and received where the traces do not; `hides_split` why waits cannot be known; `steps` the graphs of pipelined steps.
    """
    own_sequences = splits["sequence"]
    splits = with_directions(aligned_sequences(splits), tables.kernels, tables.actions)
    exchanges = splits.filter(pl.col("kind") == "all_to_all")
    shown = splits.with_columns(own_sequences)
    withheld: list[Withheld] = []
    if exchanges.is_empty() and tables.routing.is_empty():
        sliced = splits["direction"].is_in(GATHERED).any()
        reason = "no all-to-all in these traces, and no routing side file"
        if sliced:
            reason = "experts are sliced over ranks: their tokens are gathered, none travels to a single rank"
        withheld.append(Withheld(metric="all_to_all", reason=reason, code="no_exchanges"))
        return ExpertGap(None, tuple(withheld), no_experts(shown, tables.routing))
    tables = _of_devices(tables, splits)
    detail = replace(expert_tables(tables, splits, routing_records), collectives=shown)
    routing = complete_layers(tables.routing)
    times = expert_times(tables.expert_computation, routing)
    loads, by_bytes = rank_loads(routing), False
    if loads.is_empty():
        loads = byte_loads_of_ranks(splits)
        by_bytes = not loads.is_empty()
    waits = waits_by_direction(exchanges)
    figures = AllToAll(
        groups=_groups(tables, exchanges, waits),
        **_shares(tables, exchanges, waits, hides_split, withheld),
        rank_load_max_over_mean=_known(max_over_mean(loads), "all_to_all.rank_load_max_over_mean", routing, withheld),
        expert_load_max_over_mean=_experts(routing, withheld),
        slowest_rank=slowest_rank(times, exchanges),
        **_cost(times, loads, routing, withheld),
        bus_bandwidth_gbps=_bandwidth(tables, exchanges, withheld),
        loads_source="bytes"
        if by_bytes
        else cast("LoadsSource | None", ", ".join(sorted(routing["source"].unique())) or None),
        theory=(theory := _theory(routing, _computed(loads, detail.expert_chain), times, job, withheld)),
        chance_max_over_mean=theory.chance_rank,
        **_explanation(tables, splits, detail, job, steps, withheld),
        hot_spots=hot_spots(routing, uneven=_uneven(max_over_mean(loads), theory)),
        idle_experts=idle_experts(routing),
        fullest_source=fullest_source(routing),
        **overheads(detail.expert_chain, exchanges, tables.routing),
        own_loads=[] if recorded is None else own_loads(recorded),
    )
    return ExpertGap(figures, tuple(withheld), detail)


def _of_devices(tables: Tables, splits: pl.DataFrame) -> Tables:
    """What ranges of reference runs tell, from kernels and split sizes where there are no such ranges."""
    found = tables
    if tables.routing.is_empty():
        found = replace(found, routing=routing_from_splits(splits, unpaired=True))
    if tables.expert_computation.is_empty() and not tables.kernels.is_empty():
        computing = tables.kernels.filter(pl.col("kind").cast(pl.String).is_in(COMPUTE_KINDS))
        found = replace(
            found,
            expert_computation=expert_kernels(splits, tables.kernels),
            operators=computing.select("rank", "start_ns", "end_ns"),
        )
    return found


def _explanation(
    tables: Tables, splits: pl.DataFrame, detail: ExpertTables, job: Job | None, steps: Steps, withheld: list[Withheld]
) -> dict[str, Any]:
    """Loads, hot spots, causes, blame, worth, volumes and placement."""
    routing = complete_layers(tables.routing)
    worth, replayed = worth_figures(tables, splits, detail.expected, steps)
    if replayed.reason is not None:
        withheld.append(Withheld(metric="all_to_all.replayed_step_ms", reason=replayed.reason, code="replay"))
    ports = links(tables.ranks)
    hosts = dict(ports.select("rank", "host").iter_rows())
    measured, theory = volumes(detail.traffic, tables.routing, hosts, job)
    network = job.hardware.network_bytes_per_second if job and job.hardware else None
    at_peak, unknown = dispatch_at_peak(detail.traffic, ports, network)
    withheld += unknown
    return {
        "loads": load_figures(detail.load_statistics),
        "exchanges": exchange_figures(detail.exchanges),
        "blame": blame_figures(detail.expert_blame),
        "worth": worth,
        "replayed_step_ms": replayed.replayed_ms,
        "slow_ports": port_figures(detail.expected),
        "slow_links": link_figures(detail.expected),
        "link_share": _median(splits.filter(pl.col("kind") == "all_to_all")["link_share"]),
        "volumes": measured,
        "dispatch_at_peak_us": at_peak,
        "dispatch_transfer_us": dispatch_transfer_us(detail.exchanges),
        "volume_theory": theory,
        "placement": _placement(routing, replayed.balanced_experts_ms, withheld),
    }


def _uneven(ratio: float | None, theory: AllToAllTheory) -> bool:
    """Whether the load ratio is beyond what chance gives; without knowledge of chance, whether it is beyond 1."""
    return ratio is not None and ratio > (theory.chance_rank_high or 1.0)


def _placement(routing: pl.DataFrame, balanced_ms: float | None, withheld: list[Withheld]) -> PlacementAdvice | None:
    try:
        found = advice(propose(routing), 0, balanced_ms)
    except TraceAnalyzerError as error:
        withheld.append(Withheld(metric="all_to_all.placement", reason=error.message))
        return None
    if found is None:
        reason = "loads of single experts are not known: this needs the routing side file"
        withheld.append(Withheld(metric="all_to_all.placement", reason=reason, code="no_loads"))
    return found


def _groups(tables: Tables, exchanges: pl.DataFrame, waits: pl.DataFrame) -> list[AllToAllGroup]:
    names = sorted({*tables.routing["group"].unique(), *exchanges["group"].drop_nulls().unique()})
    return [_group(name, tables, exchanges, waits) for name in names]


def _group(name: str, tables: Tables, exchanges: pl.DataFrame, waits: pl.DataFrame) -> AllToAllGroup:
    routing = complete_layers(tables.routing.filter(pl.col("group") == name))
    by_splits = complete_layers(routing_from_splits(exchanges.filter(pl.col("group") == name), unpaired=True))
    own = waits.filter(pl.col("group") == name)
    by_step = own.group_by("step").agg(pl.col("wait_ns").sum(), pl.col("transfer_ns").sum())
    known = own["wait_ns"].null_count() == 0
    return AllToAllGroup(
        ranks=[int(rank) for rank in name.split(",")],
        num_all_to_all=exchanges.filter(pl.col("group") == name).height,
        rank_load_max_over_mean=max_over_mean(rank_loads(routing)),
        expert_load_max_over_mean=max_over_mean(expert_loads(routing)),
        rank_load_max_over_mean_from_splits=max_over_mean(rank_loads(by_splits)),
        combine_wait_ms=_median_ms(own.filter(pl.col("direction") == "combine")["wait_ns"]) if known else None,
        wait_ms=_median_ms(by_step["wait_ns"]) if known else None,
        transfer_ms=_median_ms(by_step["transfer_ns"]) if known else None,
    )


def _shares(
    tables: Tables, exchanges: pl.DataFrame, waits: pl.DataFrame, hides_split: str | None, withheld: list[Withheld]
) -> dict[str, float | None]:
    """Wait, transfer and exposed time of all-to-alls as shares of rank-step time, and how much computation covers."""
    windows = tables.steps
    total = int((windows["end_ns"] - windows["start_ns"]).sum())
    seen = exposed_time(tables, exchanges)
    exchanged, exposed = int(seen["exchange_ns"].sum()), int(seen["exposed_ns"].sum())
    shares: dict[str, float | None] = {
        "wait_share": None,
        "transfer_share": None,
        "exposed_share": exposed / total if total and exchanged else None,
        "overlapped_share": 1 - exposed / exchanged if exchanged else None,
    }
    if waits.is_empty() or waits["wait_ns"].null_count() or not total:
        reason = hides_split or "some all-to-alls cannot be split: a member was not captured, or clocks are unknown"
        metrics = ("all_to_all.wait_share", "all_to_all.transfer_share")
        code = "not_split" if hides_split is None else "clocks"
        withheld.extend(Withheld(metric=metric, reason=reason, code=code) for metric in metrics)
        return shares
    wait, transfer = int(waits["wait_ns"].sum()), int(waits["transfer_ns"].sum())
    return shares | {"wait_share": wait / total, "transfer_share": transfer / total}


def _bandwidth(tables: Tables, exchanges: pl.DataFrame, withheld: list[Withheld]) -> float | None:
    """Median bus bandwidth in GB/s of the all-to-alls that carry tokens, where devices recorded them."""
    rates = exchanges.filter(pl.col("direction") != "count_exchange")["bus_bytes_per_second"].drop_nulls()
    if tables.kernels.is_empty() or rates.is_empty():
        reason = "gloo records no transfer by itself" if tables.kernels.is_empty() else "no transfer is known by itself"
        withheld.append(Withheld(metric="all_to_all.bus_bandwidth_gbps", reason=reason))
        return None
    return float(str(rates.median())) / 1e9


def _known(value: float | None, metric: str, routing: pl.DataFrame, withheld: list[Withheld]) -> float | None:
    if value is None:
        reason = "no routing side file and no split sizes" if routing.is_empty() else "no tokens were routed"
        withheld.append(Withheld(metric=metric, reason=f"{reason} of every member of the group", code="no_loads"))
    return value


def _experts(routing: pl.DataFrame, withheld: list[Withheld]) -> float | None:
    value = max_over_mean(expert_loads(routing))
    if value is None:
        reason = "split sizes show the receiving rank and not the expert: this needs the routing side file"
        withheld.append(Withheld(metric="all_to_all.expert_load_max_over_mean", reason=reason, code="no_loads"))
    return value


def _cost(times: pl.DataFrame, loads: pl.DataFrame, routing: pl.DataFrame, withheld: list[Withheld]) -> dict[str, Any]:
    cost = imbalance_cost(times, loads)["cost_ns"]
    if cost.is_empty():
        code: WithheldCode = "no_expert_times"
        reason = "no expert computation is known (ranges moe:experts|layer=…, or kernels between dispatch and combine of a whole group)"
        if (routing["source"] == UNPAIRED).any():
            code = "no_loads"
            reason = "these all-to-alls are not a dispatch with a combine: what their unevenness costs is not known"
        withheld.append(Withheld(metric="all_to_all.imbalance_cost_ms", reason=reason, code=code))
        return {"imbalance_cost_ms": None, "imbalance_cost_spread_ms": None}
    spread = (cost.quantile(0.75, "linear") or 0.0) - (cost.quantile(0.25, "linear") or 0.0)
    return {"imbalance_cost_ms": _median_ms(cost), "imbalance_cost_spread_ms": spread / 1e6}


def _computed(loads: pl.DataFrame, chain: pl.DataFrame) -> pl.DataFrame:
    """Loads of ranks in rows that their experts compute, padding included; tokens where nothing tells of padding."""
    rows = chain.select("step", "layer", "group", "rank", "computed_rows")
    joined = loads.join(rows, on=["step", "layer", "group", "rank"], how="left", nulls_equal=True)
    return joined.with_columns(pl.coalesce("computed_rows", "tokens").alias("tokens")).drop("computed_rows")


def _theory(
    routing: pl.DataFrame, loads: pl.DataFrame, times: pl.DataFrame, job: Job | None, withheld: list[Withheld]
) -> AllToAllTheory:
    per_token = forward_time_per_token(times, loads)
    expected = expected_combine_wait(loads, per_token)["wait_ns"] if per_token is not None else None
    return AllToAllTheory(
        balanced_max_over_mean=1.0,
        **_chance(routing, job, withheld),
        combine_wait_ms=_median_ms(expected) if expected is not None else None,
        time_per_token_us=per_token / 1e3 if per_token is not None else None,
    )


def _chance(routing: pl.DataFrame, job: Job | None, withheld: list[Withheld]) -> dict[str, float | None]:
    """Load ratios and spreads of ranks and of experts that an unbiased router gives at this token count."""
    metric = "all_to_all.chance_max_over_mean"
    ends = ("", "_low", "_high")
    chance: dict[str, float | None] = {f"chance_{unit}{end}": None for unit in ("rank", "expert") for end in ends}
    chance["chance_coverage"] = None
    if job is None or not job.model.num_experts or routing.is_empty():
        reason = "experts per token and number of experts are not known without run.json"
        withheld.append(Withheld(metric=metric, reason=reason, code="experts_undeclared"))
        return chance
    layers = routing.group_by("step", "layer", "group").agg(pl.col("tokens").sum())
    copies = layers["tokens"].mean()
    top_k, num_experts = job.model.experts_per_token, job.model.num_experts
    num_tokens = round(copies / top_k) if isinstance(copies, float) else 0
    groups = {"rank": routing["group"][0].count(",") + 1, "expert": num_experts}
    try:
        for unit, number in groups.items():
            band = expected_max_over_mean(num_tokens, top_k, num_experts, number, num_draws=layers.height)
            spread = load_cv(num_tokens, top_k, num_experts, number)
            chance |= {
                f"chance_{unit}": band.expected,
                f"chance_{unit}_low": band.low,
                f"chance_{unit}_high": band.high,
            }
            chance |= {f"chance_cv_{unit}": spread, "chance_coverage": band.coverage}
    except TraceAnalyzerError as error:
        withheld.append(Withheld(metric=metric, reason=error.message))
    return chance


def _median(values: pl.Series) -> float | None:
    median = values.median()
    return float(median) if isinstance(median, (int, float)) else None


def _median_ms(values: pl.Series) -> float | None:
    median = values.median()
    return float(median) / 1e6 if isinstance(median, (int, float)) else None
