"""What follows for the schedule: simulated options against closed forms, memory beside each, layers worth moving."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from inputs.planted_ops import MS, Planted, gpipe, run_steps

from traceanalyzer.gaps.efficiency.declaration import NOTHING, Declaration
from traceanalyzer.gaps.pipeline.next_schedules import Batch, batch_of, next_schedules
from traceanalyzer.job import Job
from traceanalyzer.layout import Layout
from traceanalyzer.model import ModelShape
from traceanalyzer.review import NextSchedules, ScheduleOption
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.schema import ACTIONS, conform

JOB = Job(
    kind="pipeline",
    layout=Layout(pp=4),
    model=ModelShape(
        num_layers=16, hidden_size=8, num_heads=2, num_kv_heads=2, head_size=4, ffn_size=16, vocab_size=32
    ),
    compute_mode="real",
    backend="gloo",
    dtype="float32",
    tokens_per_step=4096,
    sequence_length=128,
)


def actions_of(planted: Planted, **more: Any) -> pl.DataFrame:
    actions, _, _ = run_steps(4, 1, 8, planted, **more)
    frame = conform(pl.DataFrame(actions, infer_schema_length=None), ACTIONS)
    return frame.with_columns(pl.lit(0, pl.Int32).alias("pipeline"))


def found(planted: Planted | None = None, job: Job | None = JOB, **more: Any) -> NextSchedules:
    result = next_schedules(actions_of(planted or Planted(), **more), ScheduleName("1F1B"), batch_of(job, NOTHING, 1))
    assert result is not None
    return result


def option(result: NextSchedules, name: str) -> ScheduleOption:
    return next(each for each in result.options if each.schedule == name)


def test_options_are_the_closed_forms_and_ranked() -> None:
    result = found()
    # F 10, B 20, P 4, M 8: GPipe and 1F1B 8·30 + 3·30; interleaved with 2 chunks 8·30 + 3·30/2; ZB-H1 8·30 + 3·(10 + 10 - 10).
    assert option(result, "1F1B").phase_ms == pytest.approx(330)
    assert option(result, "GPipe").phase_ms == pytest.approx(330)
    assert option(result, "Interleaved1F1B").phase_ms == pytest.approx(285)
    assert option(result, "ZBH1").phase_ms == pytest.approx(270)
    assert option(result, "ZBH1").saves_ms == pytest.approx(60)
    phases = [each.phase_ms for each in result.options]
    assert phases == sorted(phases)
    assert [each.schedule for each in result.options if each.is_current] == ["1F1B"]


def test_memory_stands_beside_each() -> None:
    result = found()
    assert option(result, "1F1B").peak_in_flight == 4  # min(M, P)
    assert option(result, "GPipe").peak_in_flight == 8  # M
    assert option(result, "GPipe").memory_ratio == 2
    assert option(result, "DualPipe").num_parameter_copies == 2
    assert option(result, "1F1B").num_parameter_copies == 1


def test_against_gpipe_1f1b_saves_memory_only() -> None:
    result = next_schedules(actions_of(Planted(), order=gpipe), ScheduleName("GPipe"), batch_of(JOB, NOTHING, 1))
    assert result is not None
    assert option(result, "1F1B").memory_ratio == 0.5
    assert option(result, "1F1B").saves_ms == 0


def test_more_microbatches_are_smaller_ones() -> None:
    actions, _, _ = run_steps(4, 1, 4, Planted())
    frame = conform(pl.DataFrame(actions, infer_schema_length=None), ACTIONS).with_columns(
        pl.lit(0, pl.Int32).alias("pipeline")
    )
    halved = next_schedules(frame, ScheduleName("1F1B"), batch_of(JOB, NOTHING, 1))
    assert halved is not None
    dualpipe = option(halved, "DualPipeV")
    assert (dualpipe.num_microbatches, dualpipe.microbatch) == (8, "half")
    whole = next_schedules(frame, ScheduleName("1F1B"), Batch(num_sequences=4))  # one each
    assert whole is not None
    assert "DualPipeV" in whole.refused


def test_a_model_with_too_few_layers_cannot_be_cut_further() -> None:
    result = found(job=replace(JOB, model=replace(JOB.model, num_layers=4)))
    assert result.refused["Interleaved1F1B"] == "4 layers cannot be cut into 8 stages"
    assert "ZBH1" not in result.refused


def test_layers_move_from_the_slow_stage_and_pay_off() -> None:
    # Stage 1 takes 1.5 times as long: of its 4 layers' worth of time, 1 layer evens it out with a stage of 4.
    result = found(Planted().slow_stage(1, 1.5))
    move = result.layers_to_move
    assert move is not None
    assert (move.from_stage, move.num_layers) == (1, 1)
    _, _, slow = run_steps(4, 1, 8, Planted().slow_stage(1, 1.5))
    moved = Planted().slow_stage(1, 1.25).slow_stage(move.to_stage, 1.25)
    _, _, evened = run_steps(4, 1, 8, moved)
    assert move.saves_ms == pytest.approx((slow[0] - evened[0]) / MS)


def test_even_stages_move_nothing_and_unknown_layers_cannot() -> None:
    assert found().layers_to_move is None
    assert found(Planted().slow_stage(1, 1.5), job=None).layers_to_move is None


def test_one_rank_has_no_options() -> None:
    actions, _, _ = run_steps(1, 1, 4, Planted())
    frame = conform(pl.DataFrame(actions, infer_schema_length=None), ACTIONS).with_columns(
        pl.lit(0, pl.Int32).alias("pipeline")
    )
    assert next_schedules(frame, None, Batch()) is None


def test_what_is_declared_counts_without_a_job_and_before_it() -> None:
    model = replace(JOB.model, num_layers=32)
    declared = Declaration(model=model, tokens_per_step=4096, sequence_length=128)
    assert batch_of(None, declared, 2) == Batch(num_layers=32, num_sequences=16)
    assert batch_of(JOB, declared, 1) == Batch(num_layers=32, num_sequences=32)
    assert batch_of(JOB, NOTHING, 7) == Batch(num_layers=16, num_sequences=32)  # of the job's own replicas: one
    assert batch_of(None, NOTHING, 1) == Batch()
