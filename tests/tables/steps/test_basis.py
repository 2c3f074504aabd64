"""What tells the steps of a trace without `ProfilerStep`, and what only looks like it."""

from __future__ import annotations

import gzip
import json
from contextlib import nullcontext
from pathlib import Path

import polars as pl
import pytest
from planted import Faults, Job, plant
from planted.step_loop import Loop

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.schema import ROUTING, empty
from traceanalyzer.tables import Tables, build_tables
from traceanalyzer.traces import read_traces


def tables(path: Path) -> Tables:
    traces = read_traces(path)
    return build_tables(traces.events, traces.ranks, None, empty(ROUTING))


def found(path: Path) -> tuple[str | None, int]:
    """Basis and number of steps per rank."""
    known = tables(path)
    assert known.steps.group_by("rank").len()["len"].n_unique() == 1
    return known.step_basis.name, known.steps["step"].n_unique()


@pytest.mark.sweep(6)
@pytest.mark.parametrize("where", ["device", "host"])
@pytest.mark.parametrize(
    ("name", "basis"),
    [
        ("ProfilerStep#{}", "ProfilerStep"),
        ("train_step_{}", 'range "train_step_N"'),
        ("iter {}", 'range "iter N"'),
        ("step_{}", 'range "step_N"'),
        ("Iteration {}/900", 'range "Iteration N/#"'),
        ("global_step={}", 'range "global_step=N"'),
        ("epoch 3 step {}", 'range "epoch # step N"'),
        ("train-batch-{}", 'range "train-batch-N"'),
        ("[pl][profile]run_training_batch", 'range "[pl][profile]run_training_batch"'),
        ("Trainer.training_step", 'range "Trainer.training_step"'),
    ],
)
def test_ranges_around_steps(name: str, basis: str, where: str, tmp_path: Path) -> None:
    loop = Loop(device=where == "device")
    for number in range(41, 45):
        with loop.range(name.format(number)):
            loop.pass_through()
            loop.update()
        loop.wait()
    known = tables(loop.write(tmp_path))
    assert known.step_basis.name == basis
    assert known.step_basis.conflict is None
    lengths = known.steps.select(pl.col("end_ns") - pl.col("start_ns")).to_series() / 1e3
    assert lengths.to_list() == pytest.approx([12 * 500 + 400] * 4, rel=0.02)
    if "{}" in name:
        assert known.steps["step"].to_list() == [41, 42, 43, 44]


def accumulating(name: str, *, outer: str | None = None, restarts: bool = True) -> Loop:
    """Three steps of four passes; each pass in a range of its own."""
    loop = Loop()
    for step in range(3):
        with loop.range(outer.format(step)) if outer else nullcontext():
            for part in range(4):
                with loop.range(name.format(part if restarts else 4 * step + part)):
                    loop.pass_through()
            loop.update()
        loop.wait()
    return loop


@pytest.mark.sweep(5)
@pytest.mark.parametrize(
    ("name", "outer", "numbers", "basis"),
    [
        ("micro_step_{}", None, "restart", "Optimizer.step"),
        ("micro_step_{}", None, "grow", "Optimizer.step"),
        ("step_{}", None, "restart", "Optimizer.step"),
        ("batch_{}", None, "grow", "Optimizer.step"),
        ("layer_{}", None, "grow", "Optimizer.step"),
        ("forward_{}", None, "grow", "Optimizer.step"),
        ("eval_step_{}", None, "grow", "Optimizer.step"),
        ("step_{}", "iteration {}", "grow", 'range "iteration N"'),
        ("step_{}", "ProfilerStep#{}", "grow", "ProfilerStep"),
        ("train_step", "iter_{}", "restart", 'range "iter_N"'),
    ],
)
def test_what_only_looks_like_steps(name: str, outer: str | None, numbers: str, basis: str, tmp_path: Path) -> None:
    path = accumulating(name, outer=outer, restarts=numbers == "restart").write(tmp_path)
    assert found(path) == (basis, 3)
    assert tables(path).step_basis.conflict is None


def test_two_optimizers_of_one_step_end_one_step(tmp_path: Path) -> None:
    for case, names in enumerate((("Muon", "AdamW"), ("AdamW", "AdamW"))):
        loop = Loop()
        for _ in range(3):
            loop.pass_through()
            for name in names:
                loop.update(name)
        assert found(loop.write(tmp_path / str(case))) == ("Optimizer.step", 3)


@pytest.mark.parametrize("names", [("Adam", "RMSprop"), ("Adam", "Adam")])
def test_optimizers_that_alternate_after_their_own_backwards_are_one_step(
    names: tuple[str, str], tmp_path: Path
) -> None:
    loop = Loop()
    for _ in range(4):
        for name, num in zip(names, (4, 9), strict=True):
            loop.pass_through(num)
            loop.update(name)
    assert found(loop.write(tmp_path)) == ("Optimizer.step", 4)


def test_an_optimizer_after_every_backward_ends_a_step_whatever_else_runs_beside_it(tmp_path: Path) -> None:
    loop = Loop()
    for step in range(6):
        loop.pass_through()
        if step % 2:
            loop.update("DistAdam")
        loop.update("NorMuon")
    assert found(loop.write(tmp_path)) == ("Optimizer.step", 6)


def test_kernels_of_the_optimizer_show_steps_where_no_range_does(tmp_path: Path) -> None:
    loop = Loop()
    for _ in range(5):
        loop.pass_through()
        loop.pass_through()
        loop.update(None)
        loop.update(None)
    assert found(loop.write(tmp_path)) == ("optimizer kernels", 5)


@pytest.mark.parametrize(
    ("job", "basis"),
    [
        (Job(pp=3, num_microbatches=5, num_steps=3, steps_ahead=0), "actions"),
        (Job(pp=2, num_microbatches=3, num_steps=4, labels="own"), "actions"),
        (Job(pp=2, num_microbatches=4, num_steps=3, num_chunks=2, schedule="Interleaved1F1B"), "actions"),
        (Job(pp=1, dp=2, num_microbatches=2, num_steps=3, labels=None), "optimizer kernels"),
    ],
)
def test_a_pipeline_without_step_ranges_has_the_planted_steps(job: Job, basis: str, tmp_path: Path) -> None:
    planted = plant(job, Faults(), tmp_path)
    marked = tables(planted.traces)
    for path in planted.traces.iterdir():
        document = json.loads(gzip.decompress(path.read_bytes()))
        document["traceEvents"] = [e for e in document["traceEvents"] if not e["name"].startswith("ProfilerStep#")]
        path.write_bytes(gzip.compress(json.dumps(document).encode()))
    known = tables(planted.traces)
    assert known.step_basis.name == basis
    lengths = [t.steps.select(pl.col("end_ns") - pl.col("start_ns")).to_series().to_list() for t in (marked, known)]
    assert lengths[1] == pytest.approx(lengths[0], rel=0.02)


def test_ranks_that_count_differently_show_no_steps_and_no_mfu(tmp_path: Path) -> None:
    for rank, num in enumerate((3, 4)):
        loop = Loop(rank, 2)
        for _ in range(num):
            loop.pass_through()
            loop.update()
        loop.write(tmp_path)
    known = tables(tmp_path)
    assert known.step_basis.name is None
    assert known.step_basis.why_none == "Optimizer.step gives between 3 and 4 steps by rank"
    review = analyze(read(tmp_path)).review
    assert review.step.basis is None
    reason = next(item.reason for item in review.quality.withheld if item.metric == "mfu.mfu")
    assert "how many they hold is not known" in reason


@pytest.mark.parametrize("outer", ["ProfilerStep#{}", "iteration {}"])
def test_bases_that_disagree_withhold_mfu(outer: str, tmp_path: Path) -> None:
    loop = Loop()
    for number in range(6):
        with loop.range(outer.format(number)):
            loop.pass_through()
            if number % 3 == 2:
                loop.update()
    review = analyze(read(loop.write(tmp_path))).review
    assert review.step.duration_ms.num_steps == 6
    assert review.step.basis_conflict is not None
    assert "in which Optimizer.step gives 2" in review.step.basis_conflict
    reason = next(item.reason for item in review.quality.withheld if item.metric == "mfu.mfu")
    assert reason.startswith("the marks of steps disagree")
    assert review.mfu.tokens_per_second is None


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_step_that_the_capture_cut_at_its_head_is_left_out_and_named(share: float, tmp_path: Path) -> None:
    loop = Loop()
    for _ in range(4):
        loop.pass_through(20)
        loop.update()
        loop.wait()
    host_us = 41 * 20  # the launches of a step; the device is then still busy
    review = analyze(read(loop.write(tmp_path, start_us=share * host_us))).review
    assert [(each.step, each.reason, each.excess_ms) for each in review.step.set_apart] == [
        (0, "cut at its start", None)
    ]
    assert review.step.duration_ms.values == pytest.approx([20.4] * 3, rel=0.02)
    assert review.step.set_apart_cost_ms is None


def test_what_lies_outside_of_all_steps_is_said(tmp_path: Path) -> None:
    loop = Loop(device=False)
    for number in range(4):
        with loop.range(f"train_step_{number}"):
            loop.pass_through()
            loop.update()
    step_us = loop.now / 4
    review = analyze(read(loop.write(tmp_path, start_us=0.25 * step_us))).review
    assert review.step.duration_ms.num_steps == 3
    assert review.step.before_ms == pytest.approx(0.75 * step_us / 1e3, rel=0.1)
    assert review.step.after_ms is None
