"""What balanced experts, repaired links or full overlap would save, by replaying the ranks with other durations.

A rank is a chain: computation, collective, computation, … A collective ends on a rank when the last member it exchanges
bytes with has arrived and its own transfer is done. The replay knows durations, each rank's order and these edges,
never a measured start; all captured steps run through in one go, and the step time is the longest rank's time per step,
median over steps. *Worth* = step time of the replay with all durations as measured − with the remedy. Where the former
misses the measured step by more than 2%, worth is withheld: then the chain is not what the ranks did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np
import polars as pl

from traceanalyzer.gaps.replay import replay, replay_graph
from traceanalyzer.measurements.experts.load_time import time_per_row

KEY = ["step", "group", "kind", "sequence"]
"""Of a collective, once sequences are aligned (`traffic.aligned_sequences`)."""
MAX_REPLAY_ERROR = 0.02
EXPERT_PARTS = ["experts", "experts_backward"]
MAX_LINKS = 2_000_000
"""Collectives times ranks that a replay walks through."""


@dataclass(slots=True)
class Link:
    """One rank's part in one collective, and what it does before."""

    rank: int
    step: int
    key: tuple[int, str, str, int] | None
    """Of the collective; None for the rest of a step after its last one."""
    local_ns: float
    """From the end of the previous collectives to this one's arrival; below 0 if two reductions overlap."""
    transfer_ns: float = 0.0
    is_all_to_all: bool = False
    peers: frozenset[int] = frozenset()
    expected_ns: float | None = None
    """What the transfer should take by the run's own line."""
    balanced_ns: float | None = None
    """Likewise, if all members sent and received alike."""
    repaired_ns: float | None = None
    """What the transfer would take without slow ports."""
    experts_ns: dict[tuple[int, str], float] = field(default_factory=dict[tuple[int, str], float])
    """Expert computation inside `local_ns`, by layer and part."""
    rows: float | None = None
    """Rows (or bytes) that this collective sends: what experts before it computed on."""


Key = tuple[int, str, str, int]
"""Of a collective: see `KEY`."""
Chains = dict[int, list[Link]]
"""By rank."""
Computed = list[tuple[int, str, int, int]]
"""Expert computations: layer, part, start and end."""


@dataclass(frozen=True, slots=True)
class Worth:
    """Saved milliseconds per step, each remedy alone; None with the reason where the replay cannot be trusted."""

    replayed_ms: float | None
    balanced_experts_ms: float | None
    repaired_link_ms: float | None
    full_overlap_ms: float | None
    reason: str | None = None


def expert_worth(
    windows: pl.DataFrame, splits: pl.DataFrame, expected: pl.DataFrame, computation: pl.DataFrame
) -> Worth:
    """Worth of the three remedies from `STEPS`, `COLLECTIVE_SPLITS`, `repaired_links.with_repaired` and expert ranges."""
    splits = splits.join(windows.select("rank", "step"), on=["rank", "step"], how="semi")
    fault = _fault(windows, splits)
    if fault is not None:
        return Worth(None, None, None, None, fault)
    chains = _chains(windows, splits, expected, computation)
    longest = (windows["end_ns"] - windows["start_ns"]).rename("ns")
    measured = windows.select("step").with_columns(longest).group_by("step").agg(pl.col("ns").max())["ns"].median()
    base = replay_chains(chains)
    if base is None or not isinstance(measured, float | int) or abs(base / measured - 1) > MAX_REPLAY_ERROR:
        miss = "cannot be ordered" if base is None else f"gives {base / 1e6:.0f} ms per step"
        return Worth(None, None, None, None, f"the replay of the measured durations {miss}: ranks are not such chains")

    def saved(change: Callable[[Link], Link]) -> float | None:
        other = replay_chains({rank: [change(link) for link in links] for rank, links in chains.items()})
        return None if other is None else (base - other) / 1e6

    return Worth(
        replayed_ms=base / 1e6,
        balanced_experts_ms=saved(evened(chains))
        if any(link.experts_ns for c in chains.values() for link in c)
        else None,
        repaired_link_ms=saved(repaired) if expected["expected_ns"].is_not_null().any() else None,
        full_overlap_ms=saved(hidden),
    )


def replay_chains(chains: Chains) -> float | None:
    """Step time of the chains in nanoseconds: the longest rank's, median over steps; None if they block each other."""
    network = _network(chains)
    graph = replay_graph(network.needs)
    if graph is None:
        return None
    ended = replay(graph, np.array(network.weights))
    return step_time({window: float(ended[node]) for window, node in network.ends.items()})


@dataclass(slots=True)
class _Network:
    """Nodes of all chains: a link arrives, then ends with the members it exchanges bytes with."""

    needs: list[list[int]] = field(default_factory=list[list[int]])
    weights: list[float] = field(default_factory=list[float])
    ends: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    """By step and rank."""

    def add(self, needs: list[int], weight: float = 0.0) -> int:
        self.needs.append(needs)
        self.weights.append(weight)
        return len(self.needs) - 1


def _network(chains: Chains) -> _Network:
    network = _Network()
    arrivals: dict[tuple[Key, int], int] = {}
    meeting: list[tuple[Link, int]] = []
    for rank, links in chains.items():
        node: list[int] = []
        for link in links:
            arrival = network.add(list(node), link.local_ns)
            if link.key is None:
                network.ends[link.step, rank] = arrival
                node = [arrival]
                continue
            arrivals[link.key, rank] = arrival
            own = network.add([arrival], link.transfer_ns)
            meeting.append((link, own))
            node = [network.add([*node, own])]  # of two reductions that overlap the first may end last
    for link, own in meeting:
        assert link.key is not None  # noqa: S101 - only the rest of a step has none
        network.needs[own] += [arrivals[link.key, peer] for peer in link.peers if (link.key, peer) in arrivals]
    return network


def step_time(ends: dict[tuple[int, int], float]) -> float:
    """The longest rank's, median over steps, from the ends by step and rank."""
    longest: dict[int, float] = {}
    before: dict[int, float] = {}
    for (step, rank), end in sorted(ends.items()):
        longest[step] = max(longest.get(step, 0.0), end - before.get(rank, 0.0))
        before[rank] = end
    return median(longest.values())


def _fault(windows: pl.DataFrame, splits: pl.DataFrame) -> str | None:
    if splits.is_empty() or windows.is_empty():
        return "no collectives inside the captured steps"
    if splits["transfer_ns"].null_count() or splits["group"].null_count():
        return "some collectives cannot be split into wait and transfer, or their group is not known"
    if splits.height > MAX_LINKS:
        return f"{splits.height} collectives are more than a replay walks through"
    earlier = {name: pl.col(name).cum_max().shift(1).over("rank") for name in ("end_ns", "_exchange_end_ns")}
    exchange = pl.col("kind") == "all_to_all"
    overlapping = (
        splits.sort("rank", "start_ns")
        .with_columns(pl.when(exchange).then("end_ns").alias("_exchange_end_ns"))
        .filter(
            ((pl.col("start_ns") < earlier["end_ns"]) & exchange) | (pl.col("start_ns") < earlier["_exchange_end_ns"])
        )
    )
    if not overlapping.is_empty():
        return "all-to-alls overlap other collectives: the work of a rank is not a chain of computation and collectives"
    return None


def _chains(windows: pl.DataFrame, splits: pl.DataFrame, expected: pl.DataFrame, computation: pl.DataFrame) -> Chains:
    """Per rank its links of all steps; a step ends with a link without collective."""
    rows = with_expected(splits, expected)
    by_window = rows.sort("start_ns", "launch_start_ns", "kind", "sequence").partition_by("rank", "step", as_dict=True)
    computed = {
        key: list(part.select("layer", "part", "start_ns", "end_ns").iter_rows())
        for key, part in computation.filter(pl.col("part").is_in(EXPERT_PARTS))
        .partition_by("rank", "step", as_dict=True)
        .items()
    }
    chains: Chains = {}
    for rank, step, start, end in windows.sort("rank", "step").select("rank", "step", "start_ns", "end_ns").iter_rows():
        inside = computed.get((rank, step), [])
        chain = chains.setdefault(rank, [])
        left = start
        for row in by_window.get((rank, step), rows.clear()).iter_rows(named=True):
            chain.append(link_of(row, left, inside))
            left = max(left, row["end_ns"])
        chain.append(Link(rank, step, None, max(end - left, 0)))
    return chains


def with_expected(splits: pl.DataFrame, expected: pl.DataFrame) -> pl.DataFrame:
    """`COLLECTIVE_SPLITS` with what transfers of all-to-alls should take: `expected_ns`, `balanced_ns`, `repaired_ns`."""
    names = ["expected_ns", "balanced_ns", "repaired_ns"]
    return splits.join(
        expected.select("step", "group", "sequence", "rank", pl.lit("all_to_all").alias("kind"), *names),
        on=[*KEY, "rank"],
        how="left",
    )


def link_of(row: dict[str, Any], left: int, computed: Computed) -> Link:
    """The link of a row of `with_expected` after what ended at `left`."""
    return Link(
        rank=row["rank"],
        step=row["step"],
        key=(row["step"], row["group"], row["kind"], row["sequence"]),
        local_ns=row["start_ns"] - left,
        transfer_ns=row["transfer_ns"],
        is_all_to_all=row["kind"] == "all_to_all",
        peers=_peers([int(rank) for rank in row["group"].split(",")], row["send_splits"], row["receive_splits"]),
        expected_ns=row["expected_ns"],
        balanced_ns=row["balanced_ns"],
        repaired_ns=row["repaired_ns"],
        experts_ns=_experts_between(computed, left, row["start_ns"]),
        rows=sum(row["send_splits"]) if row["send_splits"] else row["send_bytes"],
    )


def _peers(members: list[int], sent: list[int] | None, received: list[int] | None) -> frozenset[int]:
    """Members that exchange bytes with the rank; all where split sizes are not known."""
    if sent is None or received is None or not len(sent) == len(received) == len(members):
        return frozenset(members)
    return frozenset(rank for rank, out, back in zip(members, sent, received, strict=True) if out or back)


def _experts_between(inside: Computed, start: int, end: int) -> dict[tuple[int, str], float]:
    found: dict[tuple[int, str], float] = {}
    for layer, part, begins, ends in inside:
        if start <= begins and ends <= end:
            found[layer, part] = found.get((layer, part), 0.0) + (ends - begins)
    return found


def evened(chains: Chains) -> Callable[[Link], Link]:
    """Even loads, in time and in bytes.

    Every expert computation changes by its rows beyond the mean of the ranks that meet in the exchange after it, times the
    run's own time per row: what a rank takes longer at the same load stays. Every transfer changes by what the run's own
    line says of the bytes that move off the fullest port.
    """
    found = [(link, part, ns) for links in chains.values() for link in links for part, ns in link.experts_ns.items()]
    per_row = {name: _per_row([each for each in found if each[1][1] == name]) for name in EXPERT_PARTS}
    rows: dict[object, list[float | None]] = {}
    for link, part, _ in found:
        rows.setdefault((link.key, part), []).append(link.rows)
    mean = {place: _mean(values) for place, values in rows.items()}

    def change(link: Link) -> Link:
        shift = 0.0
        for part, duration in link.experts_ns.items():
            usual = mean[link.key, part]
            if usual is not None and link.rows is not None:
                shift += max((usual - link.rows) * per_row[part[1]], -duration)
        lighter = link.transfer_ns
        if link.expected_ns is not None and link.balanced_ns is not None:
            lighter = max(lighter + link.balanced_ns - link.expected_ns, 0.0)
        return replace(link, local_ns=link.local_ns + shift, transfer_ns=lighter)

    return change


def _per_row(computed: list[tuple[Link, tuple[int, str], float]]) -> float:
    """Nanoseconds of one part per row."""
    known = [(link.rank, (link.key, part), link.rows, ns) for link, part, ns in computed if link.rows is not None]
    number = {place: index for index, place in enumerate(dict.fromkeys(each[1] for each in known))}
    return time_per_row(
        np.array([each[0] for each in known], dtype=np.int64),
        np.array([number[each[1]] for each in known], dtype=np.int64),
        np.array([each[2] for each in known], dtype=np.float64),
        np.array([each[3] for each in known], dtype=np.float64),
    )


def _mean(values: list[float | None]) -> float | None:
    """None if the rows of a member are not known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def repaired(link: Link) -> Link:
    """No transfer of an all-to-all takes longer than the run's own healthy ports need."""
    if not link.is_all_to_all or link.repaired_ns is None:
        return link
    return replace(link, transfer_ns=min(link.transfer_ns, link.repaired_ns))


def hidden(link: Link) -> Link:
    """The transfer of every all-to-all hides behind computation; waits for late ranks stay."""
    return replace(link, transfer_ns=0.0) if link.is_all_to_all else link
