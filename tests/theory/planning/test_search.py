"""The search against a plain loop over everything, its bounds, and what it rejects."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from plan_jobs import DENSE, GIB, SPARSE, job, plain_space

from traceanalyzer.errors import UsageError
from traceanalyzer.model_configs import find_preset
from traceanalyzer.theory.interconnect.topology import find_cluster
from traceanalyzer.theory.planning.found import Found
from traceanalyzer.theory.planning.plan import plan
from traceanalyzer.theory.planning.prices.bounds import least_ns
from traceanalyzer.theory.planning.prices.pricing import Prices, price, prices
from traceanalyzer.theory.planning.search import search
from traceanalyzer.theory.planning.space import space

SMALL_SPACES = {
    "all of it fits": (job(num_devices=4, batch_size=8), 0),
    "recomputation is needed": (job(num_devices=4, batch_size=4, memory_bytes=2.3 * GIB), 1),
    "little memory": (job(num_devices=4, batch_size=4, memory_bytes=2.2 * GIB), 1),
    "experts": (job(SPARSE, num_devices=4, batch_size=4, memory_bytes=2.35 * GIB), 1),
    "slow network": (job(cluster=find_cluster("Ethernet"), num_devices=16, batch_size=4, sequence_length=2048), 0),
}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", SMALL_SPACES)
def test_the_best_of_small_spaces(name: str) -> None:
    at, tight = SMALL_SPACES[name]
    found = search(at)
    prices = [(*price(at, each)[:2], each.num_recomputed_layers == 0) for each in plain_space(at)]
    fitting = [(step, memory) for step, memory, _ in prices if memory <= at.capacity_bytes]
    whole = [(step, memory) for step, memory, plain in prices if plain]
    assert len(fitting) > 50
    assert tight == (len(fitting) < 0.9 * len(prices))
    assert found.ranked[0].step_ns == pytest.approx(min(step for step, _ in fitting))
    assert [each.step_ns for each in found.ranked] == sorted(each.step_ns for each in found.ranked)
    least = min(memory for _, memory in fitting)
    for front in found.pareto:
        assert front.memory_bytes <= at.capacity_bytes
        assert not any(s < front.step_ns * (1 - 1e-9) and m < front.memory_bytes - 2 * 2**20 for s, m in whole)
    assert found.pareto[-1].memory_bytes == pytest.approx(least, rel=0.01)


OF_CONFIGURATIONS = ("tp", "cp", "pp", "ep", "etp", "zero", "schedule")


@pytest.mark.wide
@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", SMALL_SPACES)
def test_the_best_with_every_property(name: str) -> None:
    at, _ = SMALL_SPACES[name]
    found = search(at)
    fastest: dict[tuple[str, object], float] = {}
    for each in plain_space(at):
        step, memory, _ = price(at, each)
        divides = each.zero == 0 or each.dp * each.cp > 1  # without replicas ZeRO's stages are alike: one is searched
        if memory <= at.capacity_bytes and divides:
            keys: list[tuple[str, object]] = [(key, getattr(each, key)) for key in OF_CONFIGURATIONS]
            keys.append(("size", each.microbatch_size))
            if each.tp == each.pp == each.ep == 1:
                keys.append(("undivided", True))
            if each.pp > 1:
                keys.append(("deep", each.num_microbatches >= 4 * each.pp))
            for key in keys:
                fastest[key] = min(step, fastest.get(key, math.inf))
    kept = {key: each.step_ns for key, each in found.best_by.items() if key[0] not in ("inside", "recompute")}
    assert set(kept) == set(fastest)
    for key, step in kept.items():
        assert step == pytest.approx(fastest[key]), key


@pytest.mark.parametrize("name", SMALL_SPACES)
def test_no_step_is_shorter_than_its_bound(name: str) -> None:
    at, _ = SMALL_SPACES[name]
    near = 0
    for place, axes in space(at, Found()):
        least, step = least_ns(at, place, axes), prices(at, place, axes).step_ns
        assert (step >= least).all()
        near += int((step < 1.5 * least).sum())
    assert near > 50


def test_what_cannot_count_is_not_priced(monkeypatch: pytest.MonkeyPatch) -> None:
    at = job(SPARSE, num_devices=32, batch_size=32)
    priced: list[int] = []

    def counted(*given: Any) -> Prices:
        found = prices(*given)
        priced.append(found.step_ns.size)
        return found

    monkeypatch.setattr(f"{search.__module__}.prices", counted)
    found = search(at)
    assert 0 < sum(priced) < 0.8 * found.num_feasible


def test_nothing_fits() -> None:
    planned = plan(job(find_preset("llama-3-405b").shape, num_devices=8, batch_size=8))
    assert planned.best is None
    assert planned.decisions[0].branch == "nothing fits"
    memory = planned.found.rejections["memory"]
    assert memory.by > 0
    assert memory.count == planned.found.num_priced
    assert memory.nearest


def test_rejections_say_why() -> None:
    found = search(job(num_devices=12, batch_size=7))
    reasons = set(found.rejections)
    assert "the batch does not divide over DP" in reasons
    assert "heads do not divide over TP" in reasons
    assert found.rejections["more stages than layers"].nearest == "PP12"


@pytest.mark.parametrize(
    "changes", [{"num_devices": 0}, {"batch_size": 0}, {"load_ratio": 0.5}, {"shape": replace(DENSE, num_layers=0)}]
)
def test_jobs_that_cannot_be(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        job(**changes)
