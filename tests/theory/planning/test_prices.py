"""Prices against their parts, the laws and the theory of memory."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from plan_jobs import DENSE, SPARSE, job, plain_space

from traceanalyzer.errors import DomainError
from traceanalyzer.model import ModelShape
from traceanalyzer.model_configs import find_preset
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.interconnect.dimension_volumes import ContextExchange
from traceanalyzer.theory.interconnect.topology import find_cluster
from traceanalyzer.theory.memory.activations import Kernels, Policy
from traceanalyzer.theory.memory.rank import stage_memory
from traceanalyzer.theory.planning.frameworks import ANY
from traceanalyzer.theory.planning.job import Configuration
from traceanalyzer.theory.planning.prices.gemm import shape_share
from traceanalyzer.theory.planning.prices.pipelines import Pipeline, bubble_ns, hops
from traceanalyzer.theory.planning.prices.pricing import PARTS, price
from traceanalyzer.theory.schedules.closed_forms import bubble_share
from traceanalyzer.theory.schedules.orders import chunks_per_rank


@pytest.mark.parametrize("shape", [DENSE, SPARSE], ids=["dense", "experts"])
def test_memory_is_that_of_the_theory_and_parts_add_up(shape: ModelShape) -> None:
    at = job(shape, num_devices=8, batch_size=16)
    space = plain_space(at)
    for each in space[:: max(1, len(space) // 150)]:
        step, memory, parts = price(at, each)
        stages = stage_memory(each.training(at), each.sharding, at.allowance)
        assert memory == pytest.approx(max(held.total for held in stages.values())), each
        assert tuple(parts) == PARTS
        assert step == pytest.approx(sum(parts.values()))
        assert min(parts.values()) >= 0


@pytest.mark.parametrize("schedule", ANY.schedules)
def test_bubbles_are_those_of_the_laws(schedule: ScheduleName) -> None:
    checked = 0
    for p, m, v in itertools.product((2, 4, 8), (4, 8, 16, 32), (2, 3)):
        chunks = v if chunks_per_rank(schedule) is None else chunks_per_rank(schedule) or 1
        for f, b, w in ((1.0, 1.0, 1.0), (1.0, 1.2, 0.8), (1.0, 1.0, 0.5)):
            try:
                law = bubble_share(schedule, p, m, chunks, f, b, w)
                with_hops = bubble_share(schedule, p, m, chunks, f, b, w, hop=1e-3)
            except DomainError:
                continue
            at = (Pipeline(schedule, p, chunks),)
            arrays = [np.array([[time]]) for time in (f, b, w)]
            found = bubble_ns(at, np.array([[float(m)]]), *arrays)[0, 0]
            assert found == pytest.approx(law.bubble), (p, m, chunks)
            latency = (with_hops.bubble - law.bubble) / 1e-3
            assert hops(at[0], m) == pytest.approx(latency, rel=0.35, abs=2.1), (p, m, chunks)
            checked += 1
    assert checked


def test_a_faster_device_and_a_faster_network_never_slow_a_step() -> None:
    at = job(num_devices=16, batch_size=16)
    chosen = Configuration(
        tp=2, pp=2, dp=4, zero=1, schedule=ScheduleName("1F1B"), microbatch_size=1, num_microbatches=4
    )
    step = price(at, chosen)[0]
    for change in ({"near": 600e9}, {"far": 100e9}, {"gemm": 0.95}, {"attention": 0.9}, {"memory": 1.0}):
        assert price(job(num_devices=16, batch_size=16, cluster=replace(at.cluster, **change)), chosen)[0] <= step


def test_what_costs_what() -> None:
    at = job(num_devices=8)
    plain = Configuration(dp=8, zero=0, microbatch_size=1, num_microbatches=2)
    assert price(at, replace(plain, policy=Policy.FULL))[2]["recompute"] > 0
    assert price(at, plain)[2]["recompute"] == price(at, plain)[2]["tp"] == price(at, plain)[2]["bubble"] == 0
    assert price(at, Configuration(tp=8, zero=0, num_microbatches=16))[2]["tp"] > 0
    zero_3 = price(at, replace(plain, zero=3))
    assert zero_3[1] < price(at, replace(plain, zero=2))[1] < price(at, replace(plain, zero=1))[1] < price(at, plain)[1]
    exposed = job(num_devices=8, hidden_data_parallel=False)
    assert price(exposed, replace(plain, zero=3))[2]["dp"] > price(exposed, replace(plain, zero=1))[2]["dp"] > 0


def test_context_parallel_exchanges_hide_behind_attention_in_a_ring_only() -> None:
    chosen = Configuration(cp=8, zero=1, num_microbatches=16)
    long = {"sequence_length": 131072, "num_devices": 8}
    parts = {how: price(job(context_exchange=how, **long), chosen)[2]["cp"] for how in ContextExchange}
    assert parts[ContextExchange.RING] > 0
    assert min(parts.values()) > 0


def test_hot_experts_and_repeated_sends_cost() -> None:
    chosen = Configuration(dp=64, ep=64, zero=1, num_microbatches=1)
    given = {"shape": find_preset("deepseek-v3").shape, "num_devices": 64, "sequence_length": 4096, "batch_size": 64}
    plain, hot, once = (
        price(job(cluster=find_cluster("HGX H800"), **given, **more), chosen)
        for more in ({}, {"load_ratio": 2.0}, {"deduplicated": True})
    )
    assert hot[0] > plain[0] > once[0]
    assert 0.3 * plain[2]["ep"] < once[2]["ep"] < 0.7 * plain[2]["ep"]


def test_copies_within_a_node_cost_what_its_links_take() -> None:
    """Two nodes of eight: a token goes once to the other node, but to each of its experts within it."""
    chosen = Configuration(dp=16, ep=16, zero=1, num_microbatches=1)
    given = {"shape": find_preset("deepseek-v3").shape, "num_devices": 16, "sequence_length": 4096, "batch_size": 16}
    plain, once = (
        price(job(cluster=find_cluster("HGX H800"), **given, deduplicated=each), chosen)[2]["ep"]
        for each in (False, True)
    )
    assert 0.4 * plain < once < 0.6 * plain


def test_a_sum_as_long_as_its_fill_computes_for_half_of_its_time() -> None:
    tiles = {"m": 256 * 12, "n": 128 * 11, "count": 1, "units": 132}
    assert shape_share(k=256, **tiles) / shape_share(k=1 << 40, **tiles) == pytest.approx(0.5, rel=1e-4)


def test_dualpipe_hides_expert_exchanges() -> None:
    given = {"shape": find_preset("qwen3-30b-a3b").shape, "num_devices": 32, "batch_size": 128}
    at = job(**given)
    common = {"pp": 2, "dp": 16, "ep": 16, "num_microbatches": 8}
    folded = price(at, Configuration(**common, schedule=ScheduleName("DualPipeV"), num_chunks=2))
    plain = price(at, Configuration(**common, schedule=ScheduleName("1F1B")))
    assert folded[2]["ep"] < plain[2]["ep"]


def test_stored_scores_take_memory_and_time() -> None:
    chosen = Configuration(dp=8, zero=1, num_microbatches=2)
    stored = job(kernels=Kernels(fused_attention=False))
    assert price(stored, chosen)[0] > price(job(), chosen)[0]
    assert price(stored, chosen)[1] > price(job(), chosen)[1]
