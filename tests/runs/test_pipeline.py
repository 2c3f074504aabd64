"""Pipeline jobs do what their schedule says and train as one process would."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from launched.run_jobs import small

torch = pytest.importorskip("torch", reason="reference jobs need torch")

from launched.run_jobs import losses, ranges, read_steps, read_trace, run_job  # noqa: E402

from instrumented_runs.descriptions import shape_of  # noqa: E402
from instrumented_runs.jobs.token_task import batch  # noqa: E402
from instrumented_runs.jobs.transformer import parts, token_loss  # noqa: E402
from instrumented_runs.pipeline.plan import plan_named, plan_order  # noqa: E402
from instrumented_runs.settings import ORDER_FILE, PipelineSettings  # noqa: E402
from traceanalyzer.errors import DomainError, InputError, UsageError  # noqa: E402
from traceanalyzer.job import ACTION_RANGE, Job  # noqa: E402

pytestmark = pytest.mark.runs
NUM_STEPS = 2 + 1 + 1  # warm-up, profiled, unprofiled


def single_process_losses(settings: PipelineSettings, num_steps: int) -> list[float]:
    """The same model trained without any pipeline: microbatches one after the other, gradients averaged."""
    model = torch.nn.Sequential(
        *parts(shape_of(settings), settings.sequence_length, settings.seed, 0, settings.num_layers)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    found = []
    for step in range(num_steps):
        rows = settings.num_replicas * settings.num_microbatches * settings.microbatch_size
        inputs, targets = batch(settings.seed, step, rows, settings.sequence_length, settings.vocab_size)
        loss = token_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


Trained = Callable[[str], tuple[PipelineSettings, Job]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The small job under a schedule, run once."""

    @cache
    def run(schedule: str) -> tuple[PipelineSettings, Job]:
        settings = small(tmp_path_factory.mktemp("trained") / "run", schedule=schedule)
        return settings, run_job("pipeline", settings)

    return run


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    "schedule",
    ["1F1B", "GPipe", "Interleaved1F1B", "ZBVZeroBubble", "ZBH1", "Sequential"],
)
def test_a_pipeline_trains_as_one_process_does(trained: Trained, schedule: str) -> None:
    settings, _ = trained(schedule)
    sharded = losses(Path(settings.folder), 2)
    assert sharded == pytest.approx(single_process_losses(settings, NUM_STEPS), abs=2e-4)
    assert sharded[-1] < sharded[0]


@pytest.mark.sweep(1)
@pytest.mark.parametrize(("schedule", "num_replicas"), [("1F1B", 2), ("ZBVZeroBubble", 2), ("GPipe", 3)])
def test_pipelines_side_by_side_train_as_one_process_with_the_whole_batch(
    tmp_path: Path, schedule: str, num_replicas: int
) -> None:
    ranks = 2 * num_replicas
    settings = small(
        tmp_path,
        schedule=schedule,
        num_ranks=ranks,
        num_replicas=num_replicas,
        faults=("delay_link:source=0,target=2,ms=1",),
    )
    job = run_job("pipeline", settings)
    assert (job.layout.pp, job.layout.dp, job.num_microbatches) == (2, num_replicas, 4)
    assert job.tokens_per_step == num_replicas * 4 * 2 * 8
    sharded = losses(tmp_path, ranks)
    assert sharded == pytest.approx(single_process_losses(settings, NUM_STEPS), abs=2e-4)
    groups = read_trace(tmp_path, 1)["distributedInfo"]["pg_config"]
    assert {"pp": [1, 1 + num_replicas], "dp": list(range(num_replicas))}.items() <= {
        group["pg_desc"]: group["ranks"] for group in groups
    }.items()


@pytest.mark.parametrize(
    ("asked", "num_stages", "settled"),
    [
        ({"num_replicas": 3, "num_ranks": 12}, None, (12, 4)),
        ({"num_replicas": 3, "num_ranks": 12}, 2, (6, 2)),
        ({"schedule": "ZBVZeroBubble", "num_replicas": 2}, 8, (8, 8)),
        ({"schedule": "Interleaved1F1B", "num_chunks": 4}, 16, (4, 16)),
    ],
)
def test_stages_and_replicas_settle_the_ranks(
    asked: dict[str, Any], num_stages: int | None, settled: tuple[int, int]
) -> None:
    settings, _ = plan_named(PipelineSettings(folder="", **asked), num_stages)
    assert (settings.num_ranks, settings.num_stages) == settled


def test_ranks_that_do_not_go_round_are_refused() -> None:
    with pytest.raises(UsageError, match="4 ranks cannot form 3 equal pipelines"):
        PipelineSettings(folder="", num_replicas=3)
    with pytest.raises(UsageError, match="3 stages cannot be spread over ranks that hold 2"):
        plan_named(PipelineSettings(folder="", schedule="ZBVZeroBubble"), 3)


def test_pacing_changes_no_loss_and_the_run_says_what_it_was(trained: Trained, tmp_path: Path) -> None:
    settings, real = trained("1F1B")
    paced = run_job("pipeline", small(tmp_path / "paced", compute_mode="paced", forward_ms=2.0, backward_ms=4.0))
    assert losses(Path(settings.folder), 2) == losses(tmp_path / "paced", 2)
    assert (real.compute_mode, real.pacing) == ("real", None)
    assert paced.compute_mode == "paced"
    assert paced.pacing is not None
    assert (paced.pacing.forward_ms, paced.pacing.backward_ms) == (2.0, 4.0)
    assert paced.status == "completed"
    assert paced.profiled_steps == (2,)
    assert [record.last_step for record in paced.ranks] == [3, 3]
    assert paced.unprofiled_step_ms is None  # the only step after the window is left out of the median
    assert [s.profiled for s in read_steps(tmp_path / "paced", 0)] == [False, False, True, False]


def test_ranks_of_one_host_measure_clocks_that_agree_within_their_uncertainty(trained: Trained) -> None:
    _, job = trained("1F1B")
    assert job.ranks[0].boot == job.ranks[1].boot != ""
    for measured in (job.ranks[1].clock_start, job.ranks[1].clock_end):
        assert measured is not None
        assert abs(measured.uncertainty_ns) > 0
        assert abs(measured.offset_ns) <= measured.uncertainty_ns


def test_the_trace_shows_one_range_per_action_in_the_order_of_the_schedule(trained: Trained) -> None:
    settings, _ = trained("1F1B")
    prefix = ACTION_RANGE.format(action="")
    seen = [[name for name, _, _ in ranges(Path(settings.folder), rank, prefix)] for rank in range(2)]
    assert seen == [
        ["0F0", "0F1", "0B0", "0F2", "0B1", "0F3", "0B2", "0B3"],
        ["1F0", "1B0", "1F1", "1B1", "1F2", "1B2", "1F3", "1B3"],
    ]


def test_zero_bubble_runs_label_input_and_weight_gradients(trained: Trained) -> None:
    settings, _ = trained("ZBVZeroBubble")
    names = {name for rank in range(2) for name, _, _ in ranges(Path(settings.folder), rank, "compute:")}
    done = {(stage, mb) for stage in range(4) for mb in range(4)}
    assert {n for n in names if "F" in n} == {f"{s}F{m}" for s, m in done}
    for stage, microbatch in done:
        split = {f"{stage}I{microbatch}", f"{stage}W{microbatch}"} <= names
        assert split != (f"{stage}B{microbatch}" in names)


def test_an_order_of_the_users_own_is_executed_as_written(tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("0F0,0F1,,0B1,0B0\n1F0,1F1,1B1,1B0\n")
    settings = dataclasses.replace(small(tmp_path / "run"), num_layers=0)
    settings, order = plan_order(settings, own)
    assert (settings.num_microbatches, settings.num_ranks, settings.num_chunks) == (2, 2, 1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ORDER_FILE).write_text(order)
    job = run_job("pipeline", settings)
    assert job.schedule is None
    assert [name for name, _, _ in ranges(tmp_path / "run", 1, "compute:")] == ["1F0", "1F1", "1B1", "1B0"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0F0,0B0\n1F0\n", "stage 1 does not compute microbatch 0"),
        ("0F0,0F0,0B0\n1F0,1B0\n", "stage 0 computes something twice"),
        ("0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n", "the order deadlocks"),
        ("0F0,1F0,1B0,0B0\n2F0,2B0\n", "ranks hold different numbers of stages"),
    ],
)
def test_an_order_that_cannot_run_is_refused_before_launch(tmp_path: Path, text: str, says: str) -> None:
    own = tmp_path / "own.csv"
    own.write_text(text)
    with pytest.raises(InputError, match=says):
        plan_order(PipelineSettings(folder=str(tmp_path)), own)


def test_impossible_points_are_refused_with_what_would_fit(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="at least 8 microbatches") as caught:
        plan_named(PipelineSettings(folder="", schedule="DualPipeV", num_microbatches=6))
    assert "8 microbatches" in caught.value.hint
    with pytest.raises(UsageError, match="two copies"):
        plan_named(PipelineSettings(folder="", schedule="DualPipe"))
    with pytest.raises(UsageError, match="3 layers cannot fill 4 stages"):
        plan_named(PipelineSettings(folder=str(tmp_path), num_layers=3))
