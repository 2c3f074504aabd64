"""Memory held for backward: theory against torch's own autograd, and a run's ranks against both."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="reference jobs need torch")

from launched.run_jobs import run_job, small  # noqa: E402

import reports  # noqa: E402
from instrumented_runs.jobs.transformer import stage, token_loss  # noqa: E402
from instrumented_runs.recorder.memory import SavedBytes  # noqa: E402
from traceanalyzer.analysis.assemble import analyze, read  # noqa: E402
from traceanalyzer.errors import DomainError  # noqa: E402
from traceanalyzer.gaps.pipeline.bubble import pipeline_gap  # noqa: E402
from traceanalyzer.gaps.pipeline.memory import memory_gap  # noqa: E402
from traceanalyzer.model import ModelShape  # noqa: E402
from traceanalyzer.review.words import byte_count  # noqa: E402
from traceanalyzer.schema import (  # noqa: E402
    COLLECTIVE_SPLITS,
    COMMUNICATIONS,
    STEP_RECORDS,
    empty,
)
from traceanalyzer.tables import build_tables  # noqa: E402
from traceanalyzer.theory.model.activation_memory import stage_activation_bytes  # noqa: E402

SHAPE = ModelShape(num_layers=4, hidden_size=24, num_heads=3, num_kv_heads=3, head_size=8, ffn_size=96, vocab_size=40)


def test_autograd_keeps_what_theory_counts_on_every_stage() -> None:
    length, batch = 16, 5
    predicted = stage_activation_bytes(SHAPE, 3, length * batch, element_bytes=4)
    for index in range(3):
        module = stage(SHAPE, length, 0, index, 3)
        meter = SavedBytes(module.parameters())
        first, last = index == 0, index == 2
        given = torch.randint(40, (batch, length)) if first else torch.randn(batch, length, 24, requires_grad=True)
        with meter.metered():
            kept = module(given)
            if last:
                kept = token_loss(kept, torch.randint(40, (batch, length)))
        scalar = 4 if last else 0  # the loss keeps the number of its tokens
        assert meter.take_peak() == predicted[index] + scalar
        del kept


def test_bytes_per_layer_are_those_of_the_paper_without_dropout() -> None:
    shape = dataclasses.replace(SHAPE, num_layers=2)
    (per_layer, _) = stage_activation_bytes(shape, 2, 100, element_bytes=2)
    # 34sbh with attention recomputed, less one-byte masks of two dropouts; then statistics and token ids
    assert per_layer == 100 * ((34 - 2) * 24 + 4 * (4 + 3) + 8)


def test_full_recomputation_keeps_the_inputs_of_layers() -> None:
    assert stage_activation_bytes(SHAPE, 4, 10, 2, "full")[1] == 10 * 2 * 24


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"gated_mlp": True}, "gated MLPs"),
        ({"num_experts": 4, "experts_per_token": 1, "expert_ffn_size": 8}, "models with experts"),
        ({"num_layers": 2}, "2 layers on 3 stages"),
    ],
)
def test_other_models_are_not_guessed(changed: dict[str, int], says: str) -> None:
    with pytest.raises(DomainError, match=says):
        stage_activation_bytes(dataclasses.replace(SHAPE, **changed), 3, 10, 4)


@pytest.mark.runs
def test_a_run_says_what_its_ranks_hold_and_what_they_should(tmp_path: Path) -> None:
    paced = {"compute_mode": "paced", "forward_ms": 2.0, "backward_ms": 2.0}
    run_job("pipeline", small(tmp_path, schedule="GPipe", **paced))
    review = analyze(read(tmp_path)).review
    assert review.memory is not None
    first, last = review.memory.stages
    assert (first.in_flight, first.predicted_in_flight, first.in_flight_basis) == (4, 4, "loop")
    assert last.predicted_bytes == 4 * review.memory.activation_bytes[1]
    assert last.peak_bytes == last.predicted_bytes + 4 * 4  # a number of tokens per loss
    assert first.peak_bytes > first.predicted_bytes  # torch keeps the trial forward of its shape inference there
    finding = next(f for f in review.findings if f.id == "memory.activations")
    assert (finding.passed, finding.rank) == (False, 0)
    assert byte_count(last.peak_bytes) in reports.text(review, {})
    # without side files the timeline itself says what is in flight; bytes are not guessed
    run = read(tmp_path)
    tables = build_tables(run.traces.events, run.traces.ranks, run.job, run.routing_records)
    bare = memory_gap(
        pipeline_gap(tables, None, empty(COLLECTIVE_SPLITS), empty(COMMUNICATIONS)), empty(STEP_RECORDS), None
    )
    assert bare.figures is not None
    assert [(r.in_flight, r.in_flight_basis, r.peak_bytes, r.predicted_bytes) for r in bare.figures.stages] == [
        (4, "actions", None, None)
    ] * 2
    assert {w.metric for w in bare.withheld} == {"memory.stages.peak_bytes", "memory.stages.predicted_bytes"}
