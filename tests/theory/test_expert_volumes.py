"""Volumes, times and placements against published figures, independent tables and laws."""

from __future__ import annotations

import csv
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceanalyzer.errors import DomainError
from traceanalyzer.gaps.experts.volumes import dispatch_at_peak, layer_shape, volume_theory, volumes
from traceanalyzer.job import Job
from traceanalyzer.layout import Layout
from traceanalyzer.model import ModelShape
from traceanalyzer.schema import ROUTING, TRAFFIC, conform
from traceanalyzer.theory.experts.network import Port, Topology, all_to_all_ns
from traceanalyzer.theory.experts.placement import Placement, balanced_placement, contiguous
from traceanalyzer.theory.experts.volumes import (
    ExpertLayer,
    all_to_all_bytes,
    capacity,
    deduplicated_bytes,
    distinct_destinations,
    expert_parallel_bytes,
    node_limited_destinations,
    padded_all_to_all_bytes,
    popular_bytes,
    tensor_over_expert_parallel,
    tensor_parallel_bytes,
)

# The exercise of a popular text: 64 experts, k = 2, h = 4096, 4096 tokens in all, 16-bit, 8 GPUs; S = 32 MiB.
TEXTBOOK = ExpertLayer(
    tokens_per_rank=512, experts_per_token=2, num_experts=64, hidden_size=4096, bytes_per_element=2, num_ranks=8
)
# README of deepseek-ai/EPLB: loads of 12 experts in two layers, and the loads of the 8 GPUs after placement.
EPLB = {
    "90 132 40 61 104 165 39 4 73 56 183 86": ("121.5 86.5 125 113 147.5 131.5 156 152", 2.126, 1.208),
    "20 107 104 64 19 197 187 157 172 86 16 27": ("173 179.5 120.5 172 123 152 118.5 117.5", 2.045, 1.242),
}
PORT = Port(latency_ns=3000, bytes_per_second=450e9)


def test_textbook_exercise_of_expert_against_tensor_parallelism() -> None:
    assert TEXTBOOK.group_bytes == 33_554_432
    assert tensor_parallel_bytes(TEXTBOOK) == 58_720_256
    assert expert_parallel_bytes(TEXTBOOK) == 14_680_064
    assert deduplicated_bytes(TEXTBOOK) == pytest.approx(6_932_252.444444446)
    assert (
        tensor_over_expert_parallel(TEXTBOOK) == tensor_parallel_bytes(TEXTBOOK) / expert_parallel_bytes(TEXTBOOK) == 4
    )


def test_the_popular_formula_needs_the_parallel_degree_not_the_number_of_experts() -> None:
    assert popular_bytes(TEXTBOOK, 8) == 16_777_216
    assert popular_bytes(TEXTBOOK, 8) * 7 / 8 == expert_parallel_bytes(TEXTBOOK)
    assert popular_bytes(TEXTBOOK, 64) == 2_097_152  # eight times below what that text's own example moves


def test_deepseek_v3_distinct_nodes_with_and_without_limit() -> None:
    assert distinct_destinations(256, 8, 8) == pytest.approx(5.30, abs=0.01)
    assert node_limited_destinations(256, 8, 8, 4) == pytest.approx(3.95, abs=0.01)


@pytest.mark.parametrize(("experts", "top", "ranks"), [(4, 2, 2), (6, 3, 3), (8, 2, 4), (6, 2, 6)])
def test_distinct_destinations_equal_counting_every_choice(experts: int, top: int, ranks: int) -> None:
    each = experts // ranks
    choices = list(itertools.combinations(range(experts), top))
    counted = sum(len({expert // each for expert in choice}) for choice in choices) / len(choices)
    assert distinct_destinations(experts, top, ranks) == pytest.approx(counted)


def test_a_capacity_factor_pads_every_buffer() -> None:
    assert capacity(TEXTBOOK, 1.25) == 20  # 1.25 · 2 · 512 / 64
    assert capacity(TEXTBOOK, 1.01) == 17
    assert padded_all_to_all_bytes(TEXTBOOK, 1.25) == 1.25 * all_to_all_bytes(TEXTBOOK)


@pytest.mark.parametrize("changes", [{"num_ranks": 5}, {"experts_per_token": 0}, {"experts_per_token": 65}])
def test_impossible_layers_are_refused(changes: dict[str, int]) -> None:
    fields = {"tokens_per_rank": 1, "experts_per_token": 2, "num_experts": 64, "hidden_size": 1, "num_ranks": 8}
    with pytest.raises(DomainError):
        ExpertLayer(bytes_per_element=2, **(fields | changes))


def reference() -> list[dict[str, str]]:
    lines = (Path(__file__).parents[1] / "data" / "exchange_times.csv").read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def test_times_equal_the_reference() -> None:
    """A ring all-reduce takes twice the all-to-all of its parts."""
    rows = reference()
    assert {row["op"] for row in rows} == {"all_reduce", "all_to_all"}
    for row in rows:
        port = Port(float(row["latency_us"]) * 1e3, float(row["gb_per_s"]) * 1e9)
        num_ranks = int(row["num_ranks"])
        even = np.full((num_ranks, num_ranks), float(row["num_bytes"]) / num_ranks)
        found = all_to_all_ns(even, Topology(num_ranks, port)) / 1e3 * (2 if row["op"] == "all_reduce" else 1)
        assert found == pytest.approx([float(row["time_us"])] * num_ranks, abs=1e-3), row


def test_a_hot_receiver_sets_the_time_though_all_send_alike() -> None:
    matrix = [[0, 90, 10], [90, 0, 10], [90, 10, 0]]  # every rank sends 100, rank 0 receives 180
    times = all_to_all_ns(matrix, Topology(3, Port(0, 1e9)))
    assert times.tolist() == [180, 100, 100]


def test_between_nodes_the_slower_port_rules() -> None:
    matrix = np.full((4, 4), 100.0)
    times = all_to_all_ns(matrix, Topology(2, Port(0, 1e9), Port(7, 1e8)))
    assert times.tolist() == [2 * 7 + 2000] * 4  # two far peers, 200 bytes at 0.1 GB/s
    with pytest.raises(DomainError):
        all_to_all_ns(matrix, Topology(2, PORT))


@given(
    st.lists(st.lists(st.integers(0, 1000), min_size=4, max_size=4), min_size=4, max_size=4), st.permutations(range(4))
)
def test_times_follow_a_renumbering_of_ranks(matrix: list[list[int]], order: list[int]) -> None:
    whole = np.array(matrix)
    topology = Topology(4, PORT)
    assert all_to_all_ns(whole[np.ix_(order, order)], topology) == pytest.approx(all_to_all_ns(whole, topology)[order])
    assert all_to_all_ns(whole.T, topology) == pytest.approx(all_to_all_ns(whole, topology))


@pytest.mark.parametrize("text", EPLB)
def test_placement_reaches_the_published_balance(text: str) -> None:
    loads = [float(x) for x in text.split()]
    gpus, before, after = EPLB[text]
    placement = balanced_placement(loads, 8, num_redundant=4, num_groups=4, num_nodes=2)
    assert placement.loads(loads) == [float(x) for x in gpus.split()]
    assert max(loads) / (sum(loads) / 12) == pytest.approx(before, abs=5e-4)
    assert placement.max_over_mean(loads) == pytest.approx(after, abs=5e-4)


LOADS = st.lists(st.integers(0, 500), min_size=8, max_size=8)


@given(LOADS, st.sampled_from([0, 4, 8]), st.sampled_from([(1, 1), (2, 2), (4, 2)]))
def test_every_expert_lives_somewhere_and_no_load_is_lost(
    loads: list[int], redundant: int, groups: tuple[int, int]
) -> None:
    placement = balanced_placement(loads, 4, num_redundant=redundant, num_groups=groups[0], num_nodes=groups[1])
    assert sorted(placement.num_replicas) == list(range(8))
    assert {len(experts) for experts in placement.experts_of_rank} == {(8 + redundant) // 4}
    assert sum(placement.loads(loads)) == pytest.approx(sum(loads))


@given(LOADS)
def test_greedy_packing_keeps_its_bound(loads: list[int]) -> None:
    """The heaviest rank has at most the mean and one more expert: the last one it took was taken while it was lightest
    of the ranks with room; with two slots per rank that is the bound against the best pairing of all."""
    placement = balanced_placement(loads, 4)
    best = min(max(loads[a] + loads[b] for a, b in pairing) for pairing in _pairings(tuple(range(8))))
    assert max(placement.loads(loads)) <= best * 4 / 3 + 1e-9


def _pairings(items: tuple[int, ...]) -> list[list[tuple[int, int]]]:
    if not items:
        return [[]]
    first, rest = items[0], items[1:]
    return [
        [(first, other), *tail] for other in rest for tail in _pairings(tuple(item for item in rest if item != other))
    ]


def test_contiguous_is_the_usual_placement() -> None:
    assert contiguous(4, 2) == Placement(((0, 1), (2, 3)))
    with pytest.raises(DomainError):
        contiguous(5, 2)
    with pytest.raises(DomainError):
        balanced_placement([1, 2, 3, 4], 4, num_redundant=2)
    with pytest.raises(DomainError):
        balanced_placement([1, 2, 3, 4, 5, 6], 3, num_groups=2, num_nodes=2)


NODES = pl.DataFrame(
    {"rank": [0, 1, 2, 3], "host": ["b", "a", "a", "b"], "link_bytes_per_second": [1e9] * 4},
    schema={"rank": pl.Int32, "host": pl.String, "link_bytes_per_second": pl.Float64},
)


def matrix(*rows: tuple[int, int, int]) -> pl.DataFrame:
    base = {"step": 1, "group": "0,1,2,3", "sequence": 0, "layer": 0, "direction": "dispatch"}
    return conform(pl.DataFrame([base | {"source": s, "target": t, "bytes": size} for s, t, size in rows]), TRAFFIC)


def test_a_dispatch_over_two_hosts_takes_what_its_slower_port_needs() -> None:
    sent = matrix((0, 3, 5000), (0, 1, 300), (2, 1, 1000))
    assert dispatch_at_peak(sent, NODES, 1e8) == (5.0, [])  # 5000 bytes inside at 1 GB/s, 300 between at 0.1 GB/s
    assert dispatch_at_peak(sent, NODES, 1e7) == (30.0, [])  # and at 0.01 GB/s


@pytest.mark.parametrize(
    ("ports", "network", "says"),
    [
        (NODES, None, "declare hardware.network_bytes_per_second"),
        (NODES.with_columns(host=pl.lit(None, pl.String)), 1e9, "host of a rank is not known"),
        (NODES.with_columns(link_bytes_per_second=pl.lit(None, pl.Float64)), 1e9, "peak of the links"),
        (NODES.with_columns(host=pl.Series(["a", "a", "a", "b"])), 1e9, "not spread evenly"),
    ],
)
def test_an_unknown_link_withholds_the_time_with_its_reason(
    ports: pl.DataFrame, network: float | None, says: str
) -> None:
    found, withheld = dispatch_at_peak(matrix((0, 3, 5000)), ports, network)
    assert found is None
    assert says in withheld[0].reason


def test_bytes_between_nodes_know_group_limited_routing() -> None:
    model = ModelShape(
        num_layers=1, hidden_size=7168, num_heads=1, num_kv_heads=1, head_size=1, ffn_size=0, vocab_size=1,
        num_experts=256, experts_per_token=8, expert_ffn_size=2048, expert_groups=8, groups_per_token=4,
    )  # fmt: skip
    job = Job(
        kind="x", layout=Layout(dp=64, ep=64), model=model, compute_mode="real", backend="nccl", dtype="bfloat16",
        tokens_per_step=64 * 4096, sequence_length=4096, capacity_factor=1.5,
    )  # fmt: skip
    layer = layer_shape(4096, 64, job)
    assert layer is not None
    limited = volume_theory(layer, job, 8)
    assert limited.distinct_nodes == pytest.approx(3.95, abs=0.01)
    assert limited.between_nodes_bytes == pytest.approx(2 * 3.95 * 4096 * 7168 * 2 * 7 / 8, rel=0.003)
    assert limited.capacity_slots == 192
    assert limited.popular_over_experts_bytes * 4 == limited.popular_over_ranks_bytes
    free = volume_theory(layer, dataclasses.replace(job, model=dataclasses.replace(model, groups_per_token=0)), 8)
    assert free.distinct_nodes == pytest.approx(5.30, abs=0.01)
    assert volume_theory(layer, job, 1).distinct_nodes is None


def test_context_ranks_share_the_tokens_of_a_replica() -> None:
    """16,384 tokens over 2 replicas of 4 context ranks: 2,048 on each, and 1.5 · 2,048 · 2 ÷ 8 slots of an expert."""
    model = ModelShape(
        num_layers=1, hidden_size=64, num_heads=4, num_kv_heads=4, head_size=16, ffn_size=0, vocab_size=64,
        num_experts=8, experts_per_token=2, expert_ffn_size=128,
    )  # fmt: skip
    job = Job(
        kind="x", layout=Layout(dp=2, cp=4, ep=8), model=model, compute_mode="real", backend="nccl", dtype="bfloat16",
        tokens_per_step=16_384, sequence_length=8192, capacity_factor=1.5,
    )  # fmt: skip
    row = {"rank": 0, "expert_rank": 1, "step": 0, "layer": 0, "group": "0,1,2,3,4,5,6,7", "tokens": 100}
    _, theory = volumes(pl.DataFrame(schema=TRAFFIC), conform(pl.DataFrame([row]), ROUTING), {}, job)
    assert theory is not None
    assert theory.capacity_slots == 768
