"""From collectives to who waits, why, and what it is worth: hand-made exchanges with known answers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs.hot_experts import hot_run

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.gaps.experts.replay import Link, replay_chains
from traceanalyzer.measurements.communication.slow_exchange import (
    exchanges,
    expected_transfers,
    slow_patterns,
    slow_ports,
)
from traceanalyzer.measurements.experts.blame import expert_blame
from traceanalyzer.measurements.experts.exposure import exposure
from traceanalyzer.measurements.experts.traffic import aligned_sequences, traffic
from traceanalyzer.schema import ACTIONS, COLLECTIVE_SPLITS, KERNELS, STEPS, conform, empty
from traceanalyzer.tables.experts.directions import with_directions
from traceanalyzer.traces.kineto.execution_traces import read_execution_exchanges

GROUP = "0,1,2"


def splits_of(*rows: dict[str, Any]) -> pl.DataFrame:
    base = {"step": 1, "group": GROUP, "kind": "all_to_all", "direction": "combine", "layer": 0, "sequence": 0}
    filled = [
        base
        | {"match": row.get("sequence", 0), "transfer_ns": row["end_ns"] - row["start_ns"] - row.get("wait_ns", 0)}
        | row
        for row in rows
    ]
    return conform(pl.DataFrame(filled, infer_schema_length=None), COLLECTIVE_SPLITS)


def late_rank_two(transfer: int = 50) -> pl.DataFrame:
    """Starts 0, 10 and 100; all end together (the first case of a published wait and transfer split)."""
    starts = (0, 10, 100)
    rows = [
        {"rank": rank, "start_ns": start, "end_ns": 100 + transfer, "wait_ns": 100 - start, "late_rank": 2}
        for rank, start in enumerate(starts)
    ]
    return splits_of(*rows)


def windows(end: int = 1000) -> pl.DataFrame:
    return conform(pl.DataFrame([{"rank": r, "step": 1, "start_ns": -500, "end_ns": end} for r in range(3)]), STEPS)


def intervals(*rows: tuple[int, int, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"rank": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64}, orient="row")


def test_a_late_member_is_distinguished_from_a_slow_transfer() -> None:
    (row,) = exchanges(late_rank_two(), expected_transfers(late_rank_two(), traffic(late_rank_two()))).to_dicts()
    assert (row["skew_ns"], row["late_rank"], row["lead_ns"], row["cause"]) == (100, 2, 90, "compute")
    assert row["wait_ns"] == 190
    assert row["expected_ns"] is None


SIZE = 5


def _at(pair: int | tuple[int, int] | None) -> np.ndarray:
    cells = np.zeros((SIZE, SIZE), dtype=bool)
    if isinstance(pair, tuple):
        cells[pair] = True
    return cells


def exchange_series(slow: int | tuple[int, int] | None, side: str, late: int = 0) -> pl.DataFrame:
    """24 exchanges: 100 ns and 1 ns per byte of the busier direction; a port may take four times that, or a pair eight."""
    chance = np.random.default_rng(5)
    rows = []
    for number in range(24):
        matrix = chance.integers(100, 1000, (SIZE, SIZE))
        cost = matrix * np.where(_at(slow), 8, 1) if side == "point" else matrix
        for rank in range(SIZE):
            away = [peer for peer in range(SIZE) if peer != rank]
            ports = [
                int(total) * (4 if (rank, way) == (slow, side) else 1)
                for way, total in (("row", cost[rank, away].sum()), ("column", cost[away, rank].sum()))
            ]
            start = 20_000 * number + (late if rank == 1 else 0)
            wait = late - (late if rank == 1 else 0)
            rows.append(
                {
                    "rank": rank,
                    "sequence": number,
                    "start_ns": start,
                    "end_ns": start + wait + 100 + max(ports),
                    "wait_ns": wait,
                    "late_rank": 1,
                    "send_splits": matrix[rank].tolist(),
                    "receive_splits": matrix[:, rank].tolist(),
                    "send_bytes": int(matrix[rank].sum()),
                    "receive_bytes": int(matrix[:, rank].sum()),
                }
            )
    return splits_of(*[row | {"group": ",".join(map(str, range(SIZE)))} for row in rows])


@pytest.mark.parametrize(
    ("slow", "late", "cause"), [(None, 0, "even"), (None, 4000, "compute"), (2, 0, "communication"), (2, 3000, "mixed")]
)
def test_slow_exchanges_are_separated(slow: int | None, late: int, cause: str) -> None:
    table = exchange_series(slow, "row", late)
    found = exchanges(table, expected_transfers(table, traffic(table)))
    counts = dict(found["cause"].value_counts().iter_rows())
    assert counts.get(cause, 0) >= 20, counts
    if slow is not None:
        assert set(found.filter(pl.col("cause") == cause)["slow_rank"]) == {slow}


@pytest.mark.parametrize("side", ["row", "column"])
def test_a_slow_port_is_named_with_its_side(side: str) -> None:
    table = exchange_series(2, side)
    assert slow_ports(expected_transfers(table, traffic(table))).select("rank", "side").rows() == [(2, side)]


def test_healthy_links_are_not_accused() -> None:
    table = exchange_series(None, "row")
    expected = expected_transfers(table, traffic(table))
    assert slow_ports(expected).is_empty()
    assert (expected["transfer_ns"] - expected["expected_ns"]).abs().max() <= 1


@pytest.mark.parametrize(
    ("ports", "pattern"),
    [
        ([], []),
        ([(1, 90, "row")], [("row", 1, None)]),
        ([(2, 90, "column"), (0, 40, "column")], [("column", None, 2)]),
        ([(2, 90, "row or column"), (0, 30, "row or column")], [("row or column", 2, 2)]),
        ([(3, 90, "row"), (0, 80, "column")], [("point", 3, 0)]),
        ([(3, 90, "column"), (0, 80, "row or column")], [("point", 0, 3)]),
        ([(3, 90, "row"), (0, 80, "row")], [("mixed", None, None)]),
        ([(3, 90, "row"), (0, 80, "column"), (1, 70, "column")], [("mixed", None, None)]),
    ],
)
def test_patterns_of_slow_ports(
    ports: list[tuple[int, int, str]], pattern: list[tuple[str, int | None, int | None]]
) -> None:
    rows = [{"group": GROUP, "rank": rank, "excess_ns": excess, "side": side} for rank, excess, side in ports]
    schema = {"group": pl.String, "rank": pl.Int32, "excess_ns": pl.Int64, "side": pl.String}
    found = slow_patterns(pl.DataFrame(rows, schema=schema))
    assert found.select("pattern", "sender", "receiver").rows() == pattern


def test_a_slow_pair_is_a_point() -> None:
    table = exchange_series((0, 2), "point")
    found = slow_patterns(slow_ports(expected_transfers(table, traffic(table))))
    assert found.select("pattern", "sender", "receiver").rows() == [("point", 0, 2)]


def test_blame_names_what_the_late_rank_did() -> None:
    """Rank 2 computes experts 100 ns longer than ranks 0 and 1, and left the step's start alike."""
    experts = intervals((0, -400, -200), (1, -400, -200), (2, -400, -100))
    others = intervals((1, -200, -190))
    blame = expert_blame(late_rank_two(), windows(), experts, others)
    assert blame.select("waiter", "culprit", "cause", "duration_ns").rows() == [
        (0, 2, "experts", 100),
        (1, 2, "experts", 90),
    ]


def test_blame_shares_a_wait_between_causes_and_sums_exactly() -> None:
    experts = intervals((0, -400, -330), (2, -400, -300))  # 30 ns longer
    others = intervals((0, -300, -290), (2, -300, -270))  # 20 ns longer; the other 50 ns of the wait are the host's
    rows = {row["cause"]: row["duration_ns"] for row in _blamed(experts, others) if row["waiter"] == 0}
    assert rows == {"experts": 30, "other_compute": 20, "host": 50}


def _blamed(experts: pl.DataFrame, others: pl.DataFrame) -> list[dict[str, Any]]:
    return expert_blame(late_rank_two(), windows(), experts, others).to_dicts()


SPANS = st.lists(st.tuples(st.integers(0, 2), st.integers(-500, 99), st.integers(1, 200)), max_size=12)


@given(SPANS, SPANS)
@settings(max_examples=40, deadline=None)
def test_every_wait_is_blamed_to_the_nanosecond(
    experts: list[tuple[int, int, int]], others: list[tuple[int, int, int]]
) -> None:
    tables = [
        intervals(*[(rank, start, start + length) for rank, start, length in spans]) for spans in (experts, others)
    ]
    table = expert_blame(late_rank_two(), windows(), *tables)
    assert table.group_by("waiter").agg(pl.col("duration_ns").sum()).sort("waiter").rows() == [(0, 100), (1, 90)]
    assert (table["duration_ns"] > 0).all()


def link(rank: int, sequence: int | None, local: float, transfer: float = 0.0, peers: str = "01") -> Link:
    key = None if sequence is None else (1, "0,1", "all_to_all", sequence)
    return Link(rank, 1, key, local, transfer, peers=frozenset(int(p) for p in peers))


def test_replay_follows_the_latest_member_and_each_ranks_own_transfer() -> None:
    chains = {0: [link(0, 0, 10, 5), link(0, None, 1)], 1: [link(1, 0, 30, 2), link(1, None, 1)]}
    assert replay_chains(chains) == 30 + 5 + 1


def test_replay_does_not_wait_for_a_member_that_exchanges_nothing() -> None:
    chains = {0: [link(0, 0, 10, 5, "0"), link(0, None, 20)], 1: [link(1, 0, 30, 2, "1"), link(1, None, 1)]}
    assert replay_chains(chains) == 35


def test_replay_of_an_impossible_order_says_so() -> None:
    chains = {0: [link(0, 0, 1), link(0, 1, 1)], 1: [link(1, 1, 1), link(1, 0, 1)]}
    assert replay_chains(chains) is None


def test_sequences_of_a_head_truncated_rank_are_aligned() -> None:
    rows = splits_of(
        {"rank": 0, "sequence": 0, "match": 7, "start_ns": 0, "end_ns": 1},
        {"rank": 0, "sequence": 1, "match": 8, "start_ns": 2, "end_ns": 3},
        {"rank": 1, "sequence": 0, "match": 8, "start_ns": 2, "end_ns": 3},
        {"rank": 1, "sequence": 1, "match": None, "start_ns": 4, "end_ns": 5},
    )
    aligned = aligned_sequences(rows)
    assert aligned["sequence"].to_list()[:3] == [0, 1, 1]
    assert aligned["sequence"][3] < 0


def test_directions_of_unlabelled_exchanges_come_from_their_splits() -> None:
    def one(start: int, send: list[int], receive: list[int], index: int) -> dict[str, Any]:
        row = {"rank": 0, "start_ns": start, "end_ns": start + 1, "send_splits": send, "receive_splits": receive}
        row |= {"send_bytes": 8 * sum(send), "receive_bytes": 8 * sum(receive), "direction": "other", "layer": None}
        return row | {"sequence": index, "index": index, "cycle": 0}

    out, back = ([5, 1, 2], [5, 3, 4]), ([5, 3, 4], [5, 1, 2])
    rows = [one(10 * i, *lists, i) for i, lists in enumerate(((([1, 1, 1]), [1, 1, 1]), out, back, out, back))]
    threads = {"rank": [0] * 5, "cycle": [0] * 5, "index": range(5), "launch_thread": ["a", "a", "a", "b", "b"]}
    kernels = conform(pl.DataFrame(threads | {"name": ["ncclDevKernel_SendRecv"] * 5}), KERNELS)
    found = with_directions(splits_of(*rows), kernels, empty(ACTIONS))
    assert found.select(pl.col("direction").cast(pl.String), "layer").rows() == [
        ("count_exchange", 0),
        ("dispatch", 0),
        ("combine", 0),
        ("combine_backward", 0),
        ("dispatch_backward", 0),
    ]


def test_a_hot_rank_reads_along_its_row_of_the_chain(tmp_path: Path) -> None:
    analysis = analyze(read(hot_run(tmp_path)))
    chain = analysis.tables["expert_chain"].filter(pl.col("step") == 0)
    columns = ("rank", "received_tokens", "load_over_mean", "dispatch_received_bytes", "experts_ns")
    assert chain.select(columns).rows() == [(0, 20, 0.5, 10 * 32, 100_000), (1, 60, 1.5, 30 * 32, 300_000)]
    assert chain["combine_wait_ns"].to_list() == [200_000, 0]
    assert chain["combine_late_rank"].to_list() == [1, 1]
    assert chain["combine_caused_wait_ns"].to_list() == [0, 200_000]
    figures = analysis.review.all_to_all
    assert figures is not None
    assert [(item.culprit, item.cause, item.ms) for item in figures.blame] == [(1, "experts", pytest.approx(0.2))]
    # Balanced experts take 200 us on both ranks: 100 us less in every step that has one.
    assert {item.remedy: item.ms for item in figures.worth}["balanced_experts"] == pytest.approx(0.1)
    assert {spot.pattern for spot in figures.hot_spots} == {"steady"}
    assert figures.loads[0].max_over_mean == pytest.approx(1.5)


def test_expert_loads_without_side_file_are_withheld_and_plan_says_why(tmp_path: Path) -> None:
    review = json.loads(json.dumps(_review(hot_run(tmp_path))))
    withheld = {item["metric"] for item in review["quality"]["withheld"]}
    assert {"all_to_all.placement", "all_to_all.expert_load_max_over_mean"} <= withheld
    assert review["all_to_all"]["placement"] is None


def _review(folder: Path) -> dict[str, Any]:
    from msgspec import to_builtins  # noqa: PLC0415 - one test alone

    return to_builtins(analyze(read(folder)).review)


def execution_trace(*calls: tuple[list[int], list[int]]) -> bytes:
    nodes = [
        {"name": "c10d::alltoall_base_", "id": 9 - i, "inputs": [[1, 2, 0, sum(back), 4, "cuda:0"], [3, 4, 0, sum(out), 4, "cuda:0"], "<Object>", back, out, -1]}
        for i, (out, back) in enumerate(calls)
    ]  # fmt: skip
    return json.dumps({"schema": "1.0.1", "nodes": [{"name": "aten::mm", "id": 1, "inputs": []}, *nodes]}).encode()


def test_execution_traces_give_split_sizes_and_damaged_ones_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "execution_traces"
    folder.mkdir()
    (folder / "model_eg_3.json").write_bytes(execution_trace(([], []), ([1, 3], [2, 5])))
    (folder / "model_eg_4.json.gz").write_bytes(gzip.compress(execution_trace(([1, 3], [2, 5])))[:40])
    (folder / "model_eg_5.json").write_bytes(b'{"nodes": [{"name": "c10d::alltoall_base_", "inputs": [1, 2]}]}')
    (folder / "notes.json").write_bytes(b"{}")
    table = read_execution_exchanges(tmp_path)
    assert table.rows() == [(3, 0, [1, 3], [2, 5], 16, 28)]  # ordered by id: the call with lists came first
    assert read_execution_exchanges(tmp_path / "none").is_empty()


PIECES = st.lists(st.tuples(st.integers(0, 1), st.integers(-20, 60), st.integers(1, 30)), max_size=8)


@given(PIECES, PIECES)
@settings(max_examples=60, deadline=None)
def test_exposed_time_equals_a_raster(
    exchanging: list[tuple[int, int, int]], computing: list[tuple[int, int, int]]
) -> None:
    bounds = conform(pl.DataFrame([{"rank": r, "step": 1, "start_ns": 0, "end_ns": 50} for r in range(2)]), STEPS)
    tables = [
        intervals(*[(r, start, start + length) for r, start, length in spans]) for spans in (exchanging, computing)
    ]
    found = exposure(bounds, *tables)
    for rank, exchange, overlapped, exposed in found.drop("step").iter_rows():
        busy, covered = (
            {t for r, start, length in spans if r == rank for t in range(max(start, 0), min(start + length, 50))}
            for spans in (exchanging, computing)
        )
        assert (exchange, overlapped, exposed) == (len(busy), len(busy & covered), len(busy - covered))
