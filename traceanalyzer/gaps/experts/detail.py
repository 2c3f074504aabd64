"""Tables and figures that explain an all-to-all imbalance: loads, hot spots, causes, blame, worth and volumes."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.gaps.experts.pipelined_replay import Steps, pipelined_worth
from traceanalyzer.gaps.experts.replay import Worth, expert_worth
from traceanalyzer.measurements.communication.repaired_links import EXPECTED, with_repaired
from traceanalyzer.measurements.communication.slow_exchange import (
    exchanges,
    expected_transfers,
    slow_patterns,
    slow_ports,
)
from traceanalyzer.measurements.experts.all_to_all import (
    complete_layers,
    expert_loads,
    expert_times,
    rank_loads,
    sent_loads,
)
from traceanalyzer.measurements.experts.blame import expert_blame
from traceanalyzer.measurements.experts.chain import expert_chain
from traceanalyzer.measurements.experts.exposure import exposure
from traceanalyzer.measurements.experts.loads import load_statistics, persistence
from traceanalyzer.measurements.experts.overheads import expert_overheads
from traceanalyzer.measurements.experts.traffic import between_hosts, traffic
from traceanalyzer.review import (
    ExchangeFigures,
    ExpertBlame,
    ExpertWorth,
    HotSpot,
    LoadFigures,
    OwnLoads,
    SlowLink,
    SlowPort,
)
from traceanalyzer.review.vocabulary import ExpertRemedy, LoadUnit
from traceanalyzer.schema import EXCHANGES, EXPERT_BLAME, EXPERT_CHAIN, LOAD_STATISTICS, TRAFFIC, empty
from traceanalyzer.tables import Tables
from traceanalyzer.tables.experts.directions import COMPUTE_KINDS
from traceanalyzer.traces.run_folder import ROUTING_RECORDS

MAX_OVERLAPPED = 0.05
"""Share of all-to-all time under computation up to which a rank counts as a chain of the two."""


@dataclass(frozen=True, slots=True)
class ExpertTables:
    """What the report draws and `table` prints (`traceanalyzer.schema`)."""

    collectives: pl.DataFrame
    """`COLLECTIVE_SPLITS` with the directions and layers that were found."""
    routing: pl.DataFrame
    traffic: pl.DataFrame
    load_statistics: pl.DataFrame
    expert_chain: pl.DataFrame
    exchanges: pl.DataFrame
    expert_blame: pl.DataFrame
    expected: pl.DataFrame
    """`slow_exchange.expected_transfers` with `repaired_ns`."""


def expert_tables(tables: Tables, splits: pl.DataFrame, records: pl.DataFrame | None) -> ExpertTables:
    """Every table from a run's tables, its `COLLECTIVE_SPLITS` with sequences aligned, and its `ROUTING_RECORDS`."""
    matrix = traffic(splits)
    routing = complete_layers(tables.routing)
    times = expert_times(tables.expert_computation, routing)
    slowest = between_hosts(matrix, tables.ranks)
    expected = with_repaired(expected_transfers(splits, slowest), slowest)
    experts = tables.expert_computation.filter(pl.col("part").is_in(["experts", "experts_backward"]))
    noted = empty(ROUTING_RECORDS) if records is None else records
    beside = expert_overheads(noted, routing, tables.expert_computation, splits)
    statistics = [
        load_statistics(rank_loads(routing), "rank", "received"),
        load_statistics(expert_loads(routing), "expert", "received"),
        load_statistics(sent_loads(routing), "rank", "sent"),
    ]
    return ExpertTables(
        collectives=splits,
        routing=tables.routing,
        traffic=matrix,
        load_statistics=pl.concat(statistics),
        expert_chain=expert_chain(tables.routing, splits, matrix, times, beside),
        exchanges=exchanges(splits, expected),
        expert_blame=expert_blame(splits, tables.steps, experts, tables.operators),
        expected=expected,
    )


def no_experts(splits: pl.DataFrame, routing: pl.DataFrame) -> ExpertTables:
    """What `expert_tables` gives of a run without all-to-alls and without routing."""
    return ExpertTables(
        collectives=splits,
        routing=routing,
        traffic=empty(TRAFFIC),
        load_statistics=empty(LOAD_STATISTICS),
        expert_chain=empty(EXPERT_CHAIN),
        exchanges=empty(EXCHANGES),
        expert_blame=empty(EXPERT_BLAME),
        expected=empty(EXPECTED),
    )


def exposed_time(tables: Tables, exchanges: pl.DataFrame) -> pl.DataFrame:
    """`exposure` of all-to-alls and of the barriers around them; on CPU ranks nothing computes meanwhile."""
    kind = pl.col("kind").cast(pl.String)
    columns = ("rank", "start_ns", "end_ns")
    exchanging = pl.concat([exchanges.select(columns), tables.kernels.filter(kind == "barrier").select(columns)])
    return exposure(tables.steps, exchanging, tables.kernels.filter(kind.is_in(COMPUTE_KINDS)).select(columns))


def load_figures(statistics: pl.DataFrame) -> list[LoadFigures]:
    """Figures by unit and side, from `LOAD_STATISTICS`."""
    names = ("max_over_mean", "max_vio", "cv", "gini", "entropy_share", "num_idle")
    rows = statistics.group_by("unit", "side", maintain_order=True).agg(pl.col(name).mean() for name in names)
    return [LoadFigures(**row) for row in rows.iter_rows(named=True)]


def own_loads(recorded: pl.DataFrame) -> list[OwnLoads]:
    """Each recorded rank's own row and column, from `EXECUTION_EXCHANGES`; nothing is said of the others."""

    def ratio(side: str) -> pl.Expr:
        return pl.col(f"{side}_splits").list.max() / pl.col(f"{side}_splits").list.mean()

    least, most = pl.col("send_splits").list.min(), pl.col("send_splits").list.max()
    rows = recorded.group_by("rank").agg(
        pl.len().alias("num_all_to_all"),
        pl.col("send_splits").list.len().max().alias("num_ranks"),
        pl.col("send_bytes").sum().alias("sent_bytes"),
        pl.col("receive_bytes").sum().alias("received_bytes"),
        ratio("send").max().alias("sent_max_over_mean"),
        ratio("receive").max().alias("received_max_over_mean"),
        pl.when((least > 0).all()).then((most / least).max()).alias("sent_max_over_min"),
    )
    return [
        OwnLoads(scope="rank", num_ranks_known=rows.height, **row) for row in rows.sort("rank").iter_rows(named=True)
    ]


def hot_spots(routing: pl.DataFrame, *, uneven: bool) -> list[HotSpot]:
    """The hottest rank and expert of every layer, and whether they stay the same, from complete `ROUTING`.

    Unless loads are `uneven` beyond chance no pattern is reported: someone is always fullest.
    """
    units: tuple[tuple[LoadUnit, pl.DataFrame], ...] = (
        ("rank", rank_loads(routing)),
        ("expert", expert_loads(routing)),
    )
    return [
        HotSpot(
            layer=row["layer"],
            group=[int(rank) for rank in row["group"].split(",")],
            unit=unit,
            hottest=row["hottest"],
            persistent_share=row["persistent_share"],
            pattern=row["pattern"] if uneven else None,
            bursts=row["bursts"] if uneven else [],
        )
        for unit, loads in units
        for row in persistence(loads, unit).iter_rows(named=True)
    ]


def idle_experts(routing: pl.DataFrame) -> list[int]:
    """Experts without a token in every layer and step, from complete `ROUTING`."""
    loads = expert_loads(routing).group_by("expert").agg(pl.col("tokens").sum())
    return sorted(int(expert) for expert in loads.filter(pl.col("tokens") == 0)["expert"])


def fullest_source(routing: pl.DataFrame) -> int | None:
    """The rank that sent most token copies, the lowest of equals, from complete `ROUTING`; None without loads."""
    loads = sent_loads(routing).group_by("rank").agg(pl.col("tokens").sum())
    found = loads.sort("tokens", "rank", descending=[True, False])["rank"]
    return None if found.is_empty() else int(found[0])


def exchange_figures(table: pl.DataFrame) -> list[ExchangeFigures]:
    """All-to-alls by direction and cause, from `EXCHANGES`."""
    num_steps = max(table["step"].n_unique(), 1)
    rows = (
        table.group_by(pl.col("direction").cast(pl.String), "cause")
        .agg(
            pl.len().alias("num"),
            (pl.col("wait_ns").sum() / num_steps / 1e6).alias("wait_ms"),
            (pl.col("transfer_ns").sum() / num_steps / 1e6).alias("transfer_ms"),
        )
        .sort("wait_ms", "direction", "cause", descending=[True, False, False])
    )
    return [ExchangeFigures(**row) for row in rows.iter_rows(named=True)]


def blame_figures(table: pl.DataFrame) -> list[ExpertBlame]:
    """Wait by culprit and cause, largest first, from `EXPERT_BLAME`."""
    num_steps = max(table["step"].n_unique(), 1)
    rows = (
        table.group_by("culprit", "cause")
        .agg((pl.col("duration_ns").sum() / num_steps / 1e6).alias("ms"))
        .sort("ms", "culprit", "cause", descending=[True, False, False])
    )
    return [ExpertBlame(**row) for row in rows.iter_rows(named=True)]


def port_figures(expected: pl.DataFrame) -> list[SlowPort]:
    """Ranks with slow transfers."""
    return [
        SlowPort(
            group=[int(rank) for rank in row["group"].split(",")],
            rank=row["rank"],
            side=row["side"],
            excess_us=row["excess_ns"] / 1e3,
        )
        for row in slow_ports(expected).iter_rows(named=True)
    ]


def link_figures(expected: pl.DataFrame) -> list[SlowLink]:
    """Rows, columns or points of slow transfers."""
    return [
        SlowLink(group=[int(rank) for rank in group.split(",")], pattern=pattern, sender=sender, receiver=receiver)
        for group, pattern, sender, receiver in slow_patterns(slow_ports(expected)).iter_rows()
    ]


def worth_figures(
    tables: Tables, splits: pl.DataFrame, expected: pl.DataFrame, steps: Steps
) -> tuple[list[ExpertWorth], Worth]:
    """Worth of every remedy that could be replayed, largest first, and the replay itself."""
    seen = exposed_time(tables, splits.filter(pl.col("kind") == "all_to_all"))
    if int(seen["overlapped_ns"].sum()) > MAX_OVERLAPPED * max(int(seen["exchange_ns"].sum()), 1):
        return [], Worth(
            None, None, None, None, "all-to-alls overlap computation: the work of a rank is not a chain of the two"
        )
    if tables.receives.is_empty() and tables.p2p.is_empty():
        found = expert_worth(tables.steps, splits, expected, tables.expert_computation)
    else:
        found = pipelined_worth(tables.steps, splits, expected, tables.expert_computation, steps)
    named: dict[ExpertRemedy, float | None] = {
        "balanced_experts": found.balanced_experts_ms,
        "repaired_link": found.repaired_link_ms,
        "full_overlap": found.full_overlap_ms,
    }
    worths = [ExpertWorth(remedy=remedy, ms=ms) for remedy, ms in named.items() if ms is not None]
    return sorted(worths, key=lambda worth: -worth.ms), found
