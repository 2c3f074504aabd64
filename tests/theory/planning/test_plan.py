"""What a plan says of itself, and published findings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from plan_jobs import job

from traceanalyzer.model_configs import find_preset
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.interconnect.topology import find_cluster
from traceanalyzer.theory.planning.job import Configuration
from traceanalyzer.theory.planning.plan import plan
from traceanalyzer.theory.planning.prices.pricing import price
from traceanalyzer.theory.planning.record import record
from traceanalyzer.theory.planning.runs.published import compare as compare_published
from traceanalyzer.theory.planning.runs.published import published_runs


def test_plan_explains_itself() -> None:
    planned = plan(job(find_preset("llama-3-8b").shape, num_devices=32, sequence_length=8192, batch_size=128))
    assert [each.step for each in planned.decisions] == ["fit", "batch", "throughput"]
    assert all(each.branch and each.why for each in planned.decisions)
    assert planned.best is not None
    alone = planned.best.configuration.num_microbatches == 1
    assert planned.decisions[1].branch == ("one microbatch per replica" if alone else "accumulate")
    assert len(planned.rules) == 5
    assert {each.holds for each in planned.rules} <= {True, False, None}
    best = planned.best
    assert best is not None
    assert 0.2 < planned.mfu(best) < 0.8
    assert planned.tokens_per_second(best) == pytest.approx(128 * 8192 / best.step_ns * 1e9)
    plain = record(planned)
    assert json.loads(json.dumps(plain))["ranked"][0]["mfu"] == planned.mfu(best)
    held = max(each["total"] for each in plain["best_memory"])
    assert held == pytest.approx(best.memory_bytes)


def test_published_runs_are_feasible_and_near() -> None:
    """`docs/planning.md` shows all of them; a prediction has no jitter and no host, so it lies above most."""
    for run in published_runs():
        found = compare_published(run)
        assert run.configuration.sharding.stage_ranks * run.configuration.pp == run.job.num_devices
        expected = (0.45, 0.65) if run.name == "DeepSeek-V3" else (0.8, 1.05)
        assert expected[0] < run.mfu / found.predicted_mfu < expected[1], run.name
        assert found.fits == (not run.name.startswith("Llama 3")), run.name


def test_pipelines_leave_a_node_better_than_tensor_slices() -> None:
    """The playbook: PP 8 to 16 across nodes costs 14% of throughput, TP 8 to 16 costs 43%."""
    shape, cluster = find_preset("llama-2-7b").shape, find_cluster("DGX H100")

    def per_device(tp: int, pp: int) -> float:
        at = job(shape, cluster=cluster, num_devices=tp * pp, sequence_length=4096, batch_size=256)
        schedule = ScheduleName("1F1B") if pp > 1 else ScheduleName("GradAccumulation")
        chosen = Configuration(tp=tp, pp=pp, schedule=schedule, num_microbatches=256)
        return 1 / (price(at, chosen)[0] * at.num_devices)

    tensor = per_device(16, 1) / per_device(8, 1) - 1
    pipelined = per_device(1, 16) / per_device(1, 8) - 1
    assert tensor == pytest.approx(-0.43, abs=0.05)
    assert pipelined == pytest.approx(-0.14, abs=0.03)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_devices": 16, "batch_size": 3}, "an undivided model is not possible"),
        (
            {"num_devices": 16, "batch_size": 16, "memory_bytes": 12 * 2**30},
            "no configuration that leaves the model undivided fits",
        ),
        ({"num_devices": 16, "batch_size": 16}, None),
    ],
)
def test_why_the_model_is_divided(given: dict[str, Any], said: str | None) -> None:
    """The reason is one that the whole space shows, not only what was kept of it."""
    planned = plan(job(find_preset("llama-3-8b").shape, sequence_length=1024, **given))
    assert planned.best is not None
    why = planned.decisions[0].why
    assert [each for each in why if "undivided" in each] == [each for each in why if said and each.startswith(said)]
    assert (said is None) == (("undivided", True) in planned.found.best_by)


def test_rejected_schedules_say_how_many_microbatches_are_missing() -> None:
    found = plan(job(find_preset("llama-3-8b").shape, num_devices=8, sequence_length=1024, batch_size=6)).found
    rows = [each for each in found.rejections.values() if each.unit == "microbatches"]
    assert rows
    for each in rows:
        assert each.by >= 1, each


def test_nothing_to_choose_from_has_a_remedy() -> None:
    shape = find_preset("llama-3-8b").shape
    none_valid = plan(job(shape, num_devices=7919, sequence_length=1024, batch_size=64))
    too_large = plan(job(shape, num_devices=1, sequence_length=1024, batch_size=4))
    assert none_valid.decisions[0].why[-1].startswith("no division of these devices is valid")
    assert too_large.decisions[0].why[-1].startswith("take more devices")
    assert not any("all 1 devices" in each for each in too_large.decisions[0].why)
