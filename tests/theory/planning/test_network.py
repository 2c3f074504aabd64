"""Exchanges: alpha-beta times, the best algorithm in described clusters, volumes by dimension, TP against EP."""

from __future__ import annotations

import math

import pytest

from traceanalyzer.errors import DomainError, UsageError
from traceanalyzer.theory.experts.volumes import ExpertLayer
from traceanalyzer.theory.interconnect.alpha_beta import Op, ring_ns, tree_all_reduce_ns, wire_bytes
from traceanalyzer.theory.interconnect.collectives import all_to_all_ports_ns, exchange, exchange_ns
from traceanalyzer.theory.interconnect.dimension_volumes import (
    ContextExchange,
    causal_imbalance,
    context_parallel_bytes,
    data_parallel_elements,
    pipeline_bytes,
    tensor_parallel_bytes,
)
from traceanalyzer.theory.interconnect.topology import clusters, find_cluster, group
from traceanalyzer.theory.planning.prices.gemm import Rates, gemm_ns, shape_share
from traceanalyzer.theory.planning.tensor_or_expert import compare

MIB = 2**20
H100 = Rates(flops_per_second=989.4e12, memory_bytes_per_second=3.35e12, units=132)


@pytest.mark.parametrize(
    ("op", "num_ranks", "size", "expected_us"),
    [  # 3 µs and 450 GB/s, by hand
        (Op.ALL_REDUCE, 2, MIB, 8.33),
        (Op.ALL_REDUCE, 4, 32 * MIB, 129.848),
        (Op.ALL_REDUCE, 64, 1024 * MIB, 5075.62),
        (Op.ALL_GATHER, 2, 1024 * MIB, 1196.046),
        (Op.REDUCE_SCATTER, 2, 32 * MIB, 40.283),
        (Op.ALL_TO_ALL, 2, MIB, 4.165),
        (Op.SEND, 2, MIB, 5.330),
    ],
)
def test_alpha_beta(op: Op, num_ranks: int, size: int, expected_us: float) -> None:
    assert ring_ns(op, size, num_ranks, 3000, 450e9) / 1e3 == pytest.approx(expected_us, abs=2e-3)


def test_trees_have_fewer_steps() -> None:
    assert tree_all_reduce_ns(0, 64, 1000, 1e9) == 12_000
    assert tree_all_reduce_ns(1e9, 64, 0, 1e9) == 2e9


def test_large_messages_come_near_the_bandwidth_and_never_above() -> None:
    for cluster in clusters().values():
        for size, stride in ((4, 1), (8, 1), (64, 1), (16, 72), (256, 72)):
            members = group(cluster, size, stride)
            for op in (Op.ALL_REDUCE, Op.ALL_GATHER, Op.REDUCE_SCATTER, Op.ALL_TO_ALL):
                rate = wire_bytes(op, 4096 * MIB, size) / exchange_ns(op, 4096 * MIB, members, cluster) * 1e9
                ports = cluster.far_rate(members.span) * members.per_domain if members.num_domains > 1 else math.inf
                limit = cluster.near_rate if members.per_domain > 1 else cluster.far_rate(members.span)
                if op is Op.ALL_TO_ALL and members.num_domains > 1:
                    limit = cluster.far_rate(members.span) * (size - 1) / (size - members.per_domain)
                spared = (size - 1) / (size - members.per_domain) if members.num_domains > 1 else 1.0
                most = min(limit, ports) * spared  # a hierarchy sends less between domains than a ring
                assert 0.8 * min(limit, ports) < rate <= 1.01 * most, (cluster.name, size, stride, op)


def test_algorithm_and_protocol_follow_the_size() -> None:
    cluster = find_cluster("dgx h100")
    far = group(cluster, 64, 8)
    small, large = (exchange(Op.ALL_REDUCE, size, far, cluster) for size in (1024, 1024 * MIB))
    assert (small.algorithm, large.algorithm) == ("tree", "ring")
    assert (small.protocol, large.protocol) == ("LL", "Simple")
    gathered = exchange(Op.ALL_GATHER, MIB, group(cluster, 64), cluster)
    assert gathered.algorithm == "hierarchy"


def test_time_grows_with_bytes_and_ranks() -> None:
    cluster = find_cluster("DGX A100")
    times = [exchange_ns(Op.ALL_REDUCE, size, group(cluster, 16), cluster) for size in (2**k for k in range(10, 32))]
    assert times == sorted(times)
    grown = [exchange_ns(Op.ALL_REDUCE, MIB, group(cluster, 2**k), cluster) for k in range(1, 10)]
    assert grown == sorted(grown)
    assert exchange_ns(Op.ALL_REDUCE, MIB, group(cluster, 1), cluster) == 0


def test_groups_in_domains() -> None:
    cluster = find_cluster("DGX H100")
    assert (group(cluster, 16, 2).per_domain, group(cluster, 16, 2).num_domains) == (4, 4)
    assert (group(cluster, 16, 8).per_domain, group(cluster, 16, 8).num_domains) == (1, 16)
    assert group(cluster, 6, 1).per_domain == 6
    assert group(cluster, 12, 1).per_domain == 6
    assert group(find_cluster("GB200 NVL72"), 64).num_domains == 1


def test_oversubscribed_pods_slow_groups_that_leave_them() -> None:
    cluster = find_cluster("Llama 3 cluster")
    assert cluster.far_rate(3072) == 7 * cluster.far_rate(3073)


def test_uneven_exchanges_take_their_fullest_port() -> None:
    cluster = find_cluster("DGX H100")
    members = group(cluster, 16)
    fuller = all_to_all_ports_ns(0, 2e9, members, cluster) - all_to_all_ports_ns(0, 1e9, members, cluster)
    assert fuller == pytest.approx(1e9 / (50e9 * 0.9) * 1e9)
    assert all_to_all_ports_ns(1e9, 1e9, members, cluster) == all_to_all_ports_ns(0, 1e9, members, cluster)


def test_unknown_cluster() -> None:
    with pytest.raises(UsageError, match="no cluster"):
        find_cluster("abacus")
    assert all(cluster.spec.peak("bf16") for cluster in clusters().values())


def test_tensor_parallel_layer_of_megatron() -> None:
    """4 all-reduces a layer, forward and backward: 8(n−1)/n·b·s·h·w."""
    assert tensor_parallel_bytes(1000, 4) == 8 * 3 / 4 * 1000
    assert tensor_parallel_bytes(1000, 4, num_regions=1) == 4 * 3 / 4 * 1000


def test_context_parallel_ways() -> None:
    block = 100 * 64 * 2
    assert context_parallel_bytes(100, 64, 512, 2, 4, ContextExchange.RING) == 3 * 3 * block
    assert context_parallel_bytes(100, 64, 512, 2, 4, ContextExchange.ALL_GATHER) == 2 * 3 * block
    assert context_parallel_bytes(100, 64, 512, 2, 4, ContextExchange.ULYSSES) == 2 * 3 / 4 * 100 * 576 * 2
    assert causal_imbalance(4, balanced=False) == 1.75


@pytest.mark.parametrize(
    ("zero", "num_microbatches", "passes"), [(0, 7, 2), (1, 7, 2), (2, 1, 2), (2, 7, 8), (3, 1, 3), (3, 7, 21)]
)
def test_zero_volumes(zero: int, num_microbatches: int, passes: int) -> None:
    assert data_parallel_elements(zero, 64, num_microbatches) == passes * 63 / 64


def test_no_such_zero_stage() -> None:
    with pytest.raises(DomainError):
        data_parallel_elements(4, 2, 1)


@pytest.mark.parametrize(("p", "m", "v", "messages"), [(2, 8, 2, 48), (4, 8, 4, 240), (8, 32, 1, 448)])
def test_pipeline_volumes(p: int, m: int, v: int, messages: int) -> None:
    assert pipeline_bytes(1, p, v, m) == messages


TEXTBOOK = ExpertLayer(
    tokens_per_rank=512, experts_per_token=2, num_experts=64, hidden_size=4096, bytes_per_element=2, num_ranks=8
)
"""The texts' exercise: 64 experts, top 2, hidden 4096, 4 x 1024 tokens on 8 ranks."""


def test_exercise_of_the_texts() -> None:
    found = compare(TEXTBOOK, 14336, find_cluster("DGX H100"), H100, gated=True)
    assert found.sliced.bytes_sent / 1e6 == pytest.approx(58.72, abs=0.005)
    assert found.spread.bytes_sent / 1e6 == pytest.approx(14.68, abs=0.005)
    assert found.popular_by_ranks_bytes == pytest.approx(found.spread.bytes_sent * 8 / 7)
    assert found.popular_by_experts_bytes == found.popular_by_ranks_bytes / 8


def test_slices_of_small_experts_multiply_badly() -> None:
    small = compare(TEXTBOOK, 512, find_cluster("DGX H100"), H100, gated=True)
    assert small.sliced.gemm_shapes[0] == (128, 2 * 64, 4096, 64)
    assert small.spread.gemm_shapes[0] == (128, 2 * 512, 4096, 8)
    assert small.sliced.gemm_share < 0.8 * small.spread.gemm_share
    with pytest.raises(DomainError):
        compare(TEXTBOOK, 100, find_cluster("DGX H100"), H100, gated=True)


def test_waves_and_edges_of_matrix_multiplies() -> None:
    assert shape_share(8192, 8192, 8192, 1, 128) > 0.95
    assert shape_share(257, 128, 8192, 1, 3) < shape_share(256, 128, 8192, 1, 1)
    assert shape_share(1024, 1024, 64, 1, 32) < 0.25
    assert gemm_ns(1, 4096, 4096, 1, H100) > 2 * 4096 * 4096 / 3.35e12 * 1e9  # the weights have to be read
    assert gemm_ns(0, 4096, 4096, 1, H100) == 0
