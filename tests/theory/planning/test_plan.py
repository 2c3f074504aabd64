"""What a plan says of itself, and published findings."""

from __future__ import annotations

import json

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
