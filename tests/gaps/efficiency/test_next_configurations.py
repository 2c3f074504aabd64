"""The best changes of a run's configuration: saved and fitting as the plan prices them, or withheld with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from plan_jobs import job
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read, with_declaration
from traceanalyzer.analysis.measure import Measured, measure
from traceanalyzer.gaps.efficiency.savings import RUN_TO_RUN, Known, rank_times, saving
from traceanalyzer.model_configs import find_preset
from traceanalyzer.options.declaration import declaration
from traceanalyzer.review import NextConfigurations
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.interconnect.topology import find_cluster
from traceanalyzer.theory.memory.activations import Policy
from traceanalyzer.theory.planning.changes import best_changes
from traceanalyzer.theory.planning.job import Configuration, PlanJob
from traceanalyzer.theory.planning.prices.pricing import price

RUN = Job(pp=4, num_microbatches=8, num_steps=5, forward_ns=75_000_000, backward_ns=150_000_000)
DECLARED = {"job_file": "llama-3-8b", "tokens_per_step": 65536, "sequence_length": 8192, "dtype": "bf16"}


def found(folder: Path, planted: Job = RUN, **changes: object) -> NextConfigurations | None:
    plant(planted, Faults(varying_compute=0.01), folder)
    given = declaration(**(DECLARED | changes))  # type: ignore[arg-type]
    return analyze(with_declaration(read(folder), given)).review.next_configurations


def plan_job(gib: float = 80.0) -> PlanJob:
    shape, cluster = find_preset("llama-3-8b").shape, find_cluster("DGX H100")
    return job(shape, cluster=cluster, num_devices=8, sequence_length=4096, batch_size=32, memory_bytes=gib * 2**30)


def test_a_run_is_told_what_its_own_factor_and_the_plan_say(tmp_path: Path) -> None:
    told = found(tmp_path)
    assert told is not None
    assert told.reason is None
    assert (told.configuration, told.cluster) == ("PP4 ZeRO-0 1F1B 8 x 1", "DGX H100")
    assert told.step_factor == pytest.approx(1.157, abs=0.01)
    best = told.options[0]
    assert all(each.saves_low_ms < each.saves_ms < each.saves_high_ms for each in told.options)
    assert (best.decision, best.change) == ("layout", "TP2 PP2 in place of PP4")
    assert best.step_ms + best.saves_ms == pytest.approx(11 * 225 * 1.007, rel=0.01)
    assert all(each.headroom_bytes >= 0 for each in told.options)
    assert told.too_large is not None
    assert told.too_large.headroom_bytes < 0
    assert told.too_large.saves_ms > best.saves_ms


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"job_file": None}, "the model is not known"),
        ({"tokens_per_step": 16384}, "16384 tokens are not 1 x 8 microbatches of 8192"),
        ({"sequence_length": None}, "not known: the sequence length"),
        ({"tokens_per_step": 8 * 8192 * 4}, "measured ÷ predicted"),
    ],
    ids=["no model", "tokens", "no length", "a model that misses the run"],
)
def test_it_is_withheld_with_the_reason(changes: dict[str, object], says: str, tmp_path: Path) -> None:
    told = found(tmp_path, **changes)
    assert told is not None
    assert not told.options
    assert says in str(told.reason)


def test_a_device_without_a_described_cluster_is_named(tmp_path: Path) -> None:
    told = found(tmp_path, replace(RUN, device="Tesla V100-SXM2-16GB"))
    assert told is not None
    assert "no described cluster has the device" in str(told.reason)


def test_changes_are_priced_as_a_plan_prices_them() -> None:
    planned = plan_job()
    own = Configuration(
        pp=4, dp=2, zero=1, schedule=ScheduleName("1F1B"), microbatch_size=1, num_microbatches=16, policy=Policy.FULL
    )
    changes = best_changes(planned, own)
    assert changes is not None
    before = price(planned, own)[0]
    assert "recompute" in {each.decision for each in changes.best}
    for each in changes.best:
        step, memory, _ = price(planned, each.configuration)
        assert (step, memory) == (each.step_ns, each.memory_bytes)
        assert before - step == pytest.approx(each.saves_ns)
        assert memory <= planned.capacity_bytes
    assert [each.saves_ns for each in changes.best] == sorted((e.saves_ns for e in changes.best), reverse=True)
    assert len({each.decision for each in changes.best}) == len(changes.best) <= 3


def test_what_does_not_fit_is_no_advice() -> None:
    own = Configuration(pp=4, dp=2, zero=1, schedule=ScheduleName("1F1B"), num_microbatches=16, policy=Policy.FULL)
    roomy, tight = best_changes(plan_job(), own), best_changes(plan_job(36.0), own)
    assert roomy is not None
    assert tight is not None
    assert tight.too_large is not None
    assert {each.configuration for each in tight.best} != {each.configuration for each in roomy.best}


def test_a_configuration_that_no_plan_knows_has_no_changes() -> None:
    assert best_changes(plan_job(), Configuration(dp=8, microbatch_size=3, num_microbatches=1)) is None


WIDE = replace(RUN, pp=2, num_microbatches=4, num_steps=3, forward_ns=160_000_000, backward_ns=330_000_000)
TWINS: dict[str, tuple[Job, dict[str, object]]] = {
    "GPipe": (replace(WIDE, schedule="GPipe"), {"schedule": ScheduleName("GPipe")}),
    "two chunks": (
        replace(WIDE, schedule="Interleaved1F1B", num_chunks=2),
        {"schedule": ScheduleName("Interleaved1F1B"), "num_chunks": 2},
    ),
    "zero bubble": (replace(WIDE, schedule="ZeroBubble"), {"schedule": ScheduleName("ZBH1")}),
    "half the microbatches": (
        replace(WIDE, num_microbatches=2, forward_ns=320_000_000, backward_ns=660_000_000),
        {"num_microbatches": 2, "microbatch_size": 4},
    ),
    "twice the microbatches": (
        replace(WIDE, num_microbatches=8, forward_ns=80_000_000, backward_ns=165_000_000),
        {"num_microbatches": 8, "microbatch_size": 1},
    ),
}


@pytest.mark.wide
def test_what_twins_save_lies_in_the_predicted_range(tmp_path: Path) -> None:
    """Planted jobs with another schedule, number of chunks or of microbatches, by their own step times."""
    given = declaration(**(DECLARED | {"job_file": "llama-3-8b"}))  # type: ignore[arg-type]

    def measured(job: Job, name: str) -> Measured:
        plant(job, Faults(varying_compute=0.04, seed=len(name)), tmp_path / name)
        return measure(with_declaration(read(tmp_path / name), given))

    found = measured(WIDE, "run")
    actions, messages = found.subjects.pipeline.gap.actions, found.subjects.capture.typical.messages
    times = rank_times(actions, messages)
    shape, own = find_preset("llama-3-8b").shape, Configuration(zero=0, pp=2, schedule=ScheduleName("1F1B"), num_microbatches=4, microbatch_size=2)  # fmt: skip
    planned = job(shape, cluster=find_cluster("DGX H100"), num_devices=2, sequence_length=8192, batch_size=8)
    before = found.step.duration_ms.median or 0.0
    planned = replace(planned, step_factor=before * 1e6 / price(planned, own).step_ns)
    known = Known(job=planned, own=own, times=times, noise_ns=RUN_TO_RUN * before * 1e6)
    for name, (twin, changes) in TWINS.items():
        saved = before - (measured(twin, name).step.duration_ms.median or 0.0)
        low, best, high = (each / 1e6 for each in saving(known, replace(own, **changes)))  # type: ignore[arg-type]
        assert low <= saved <= high, name
        assert abs(best - saved) <= 0.04 * before, name
