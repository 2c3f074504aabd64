"""Wait, transfer, roles and matches of planted jobs, against the truth the traces were made from."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from launched.communication_run import Measured, beside_truth, measure
from planted import Faults, Job, Planted, plant

MOE = {"pp": 1, "dp": 4, "ep": 4, "moe_layers": 2, "num_microbatches": 2}
JOBS: dict[str, tuple[Job, Faults]] = {
    "1F1B, labelled, receives posted early": (Job(), Faults()),
    "GPipe, own labels, a slow rank": (Job(schedule="GPipe", labels="own"), Faults(slow_compute={2: 1.3})),
    "interleaved, two replicas": (Job(schedule="Interleaved1F1B", num_chunks=2, dp=2), Faults()),
    "coalesced without arguments or labels": (Job(coalesced=True, labels=None), Faults(slow_compute={1: 1.2})),
    "arguments of 2024, graphs, the CPU waits": (Job(dp=2, metadata="2024", cuda_graphs=True, steps_ahead=0), Faults()),
    "kernels without arguments": (Job(metadata="2022", global_norm=False), Faults()),
    "buffered sends": (Job(eager_bytes=1 << 30), Faults(slow_compute={2: 1.3})),
    "buffered sends that end as they are received": (
        Job(
            dp=2,
            framework="megatron",
            labels=None,
            metadata="2024",
            eager_bytes=1 << 30,
            ranks_per_host=1,
            early_receives=0,
        ),
        Faults(),
    ),
    "uneven experts behind slow compute": (
        Job(pp=2, dp=4, ep=4, moe_layers=1, moe_hot_share=0.3, num_microbatches=4),
        Faults(slow_compute={3: 1.2}),
    ),
    "uneven experts behind a slow link, two hosts": (Job(**MOE, ranks_per_host=2), Faults(slow_link={2: 3.0})),
    "members that exchange nothing": (Job(**MOE, moe_silent=True), Faults(slow_compute={3: 1.2})),
    "even experts": (Job(**MOE, even_exchange=True), Faults(slow_compute={2: 1.5})),
    "a head cut off": (Job(dp=2), Faults(head_cut_ns={1: 600_000})),
    "clocks apart and drifting": (
        Job(ranks_per_host=1),
        Faults(clock_offset_ns={1: 5_000_000, 2: -5_000_000, 3: 1_234_567}, clock_drift_ppm={1: 20.0, 3: -20.0}),
    ),
}


Runs = Callable[[str], tuple[Planted, Measured]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Plants and measures a job of `JOBS` once."""

    @cache
    def planted(name: str) -> tuple[Planted, Measured]:
        result = plant(*JOBS[name], tmp_path_factory.mktemp("planted"))
        return result, measure(result.traces)

    return planted


@pytest.mark.sweep(4)
@pytest.mark.parametrize("name", JOBS)
def test_wait_and_transfer_are_within_one_percent_of_the_truth(name: str, run: Runs) -> None:
    truth, measured = run(name)
    rows = beside_truth(measured, truth).filter(pl.col("wait_ns").is_not_null())
    assert rows.height > 30
    for _, part in rows.group_by("true_role"):
        wait, transfer = part["true_wait_ns"].sum(), part["true_transfer_ns"].sum()
        assert abs(part["wait_ns"].sum() - wait) <= 0.01 * (wait + transfer)
        assert abs(part["transfer_ns"].sum() - transfer) <= 0.01 * (wait + transfer)
        assert (part["wait_ns"] + part["transfer_ns"] == part["end_ns"] - part["start_ns"]).all()


@pytest.mark.parametrize(
    "name", [n for n in JOBS if n not in ("a head cut off", "buffered sends", "clocks apart and drifting")]
)
def test_where_the_clock_is_one_every_kernel_is_exact(name: str, run: Runs) -> None:
    truth, measured = run(name)
    rows = beside_truth(measured, truth).filter(pl.col("step").is_not_null())
    assert rows["wait_ns"].null_count() == 0
    assert (rows["wait_ns"] == rows["true_wait_ns"]).all()
    assert (rows["transfer_ns"] == rows["true_transfer_ns"]).all()


@pytest.mark.sweep(4)
@pytest.mark.parametrize("name", JOBS)
def test_what_a_step_launched_is_matched_and_the_rest_has_its_reason(name: str, run: Runs) -> None:
    _, measured = run(name)
    for table in (measured.collectives, measured.p2p):
        in_step = table.filter(pl.col("step").is_not_null())
        alone = table.filter(pl.col("match").is_null())
        assert alone["unmatched"].null_count() == 0
        assert (alone["match_basis"] == "none").all()
        if name != "a head cut off":
            assert in_step["unmatched"].null_count() == in_step.height
        else:
            reasons = {"the part of a captured member is missing", "the other end is missing", None}
            assert set(in_step["unmatched"].unique()) <= reasons


@pytest.mark.parametrize("name", [n for n in JOBS if n != "kernels without arguments"])
def test_roles_are_those_of_the_mesh(name: str, run: Runs) -> None:
    truth, measured = run(name)
    rows = beside_truth(measured, truth).filter(pl.col("step").is_not_null())
    assert (rows["role"].cast(pl.String) == rows["true_role"]).all()


def test_a_cut_head_loses_its_own_messages_and_no_others(run: Runs) -> None:
    truth, measured = run("a head cut off")
    rows = beside_truth(measured, truth).filter(pl.col("wait_ns").is_not_null())
    assert (rows["wait_ns"] == rows["true_wait_ns"]).all()  # what is matched is matched rightly
    lost = measured.p2p.filter((pl.col("unmatched") == "the other end is missing") & pl.col("step").is_not_null())
    assert set(lost["peer"].unique()) == {1}
    assert set(lost["step"].unique()) == {1}


def test_missing_ranks_leave_their_collectives_without_a_split(tmp_path: Path) -> None:
    result = plant(Job(pp=2, dp=2), Faults(missing_ranks=frozenset({3})), tmp_path)
    measured = measure(result.traces)
    world = measured.collectives.filter((pl.col("role") == "world") & pl.col("step").is_not_null())
    assert set(world["unmatched"]) == {"members were not captured"}
    assert world["wait_ns"].null_count() == world.height
    assert set(world["basis"].cast(pl.String)) == {"own_min"}
    assert (world["wait_high_ns"] <= world["end_ns"] - world["start_ns"]).all()
    whole = measured.collectives.filter(
        (pl.col("role") == "dp") & (pl.col("group") == "0,1") & pl.col("step").is_not_null()
    )
    assert whole["wait_ns"].null_count() == 0


def test_durations_and_clock_agree_where_bytes_are_equal(run: Runs) -> None:
    for name in ("even experts", "1F1B, labelled, receives posted early", "clocks apart and drifting"):
        _, measured = run(name)
        equal = measured.collectives.filter(pl.col("wait_durations_ns").is_not_null())
        assert equal.height >= 8
        by_duration, by_clock = equal["wait_durations_ns"].sum(), equal["wait_clock_ns"].sum()
        assert by_clock == pytest.approx(by_duration, rel=0.02)


def test_one_kernel_for_several_messages_waits_for_the_last_of_them(run: Runs) -> None:
    truth, measured = run("coalesced without arguments or labels")
    sets = measured.p2p.group_by("rank", "cycle", "index").len()
    assert set(sets["len"].unique()) == {1, 2}
    assert measured.p2p["coalesced"].all()
    kernels = beside_truth(measured, truth).filter((pl.col("kind") == "p2p") & pl.col("step").is_not_null())
    assert kernels.height == sets.height


def test_a_wait_for_a_message_is_split_where_its_producer_ended(tmp_path: Path) -> None:
    result = plant(Job(steps_ahead=0), Faults(), tmp_path)
    receives = measure(result.traces).p2p.filter((pl.col("direction") == "receive") & (pl.col("wait_ns") > 0))
    assert receives["wait_dependency_ns"].null_count() == 0
    assert (receives["wait_dependency_ns"] + receives["wait_late_send_ns"] == receives["wait_ns"]).all()
    # the planted sends leave as soon as their producer ended
    assert receives["wait_late_send_ns"].sum() <= 0.02 * receives["wait_ns"].sum()


def test_step_windows_tile_every_rank_and_hold_what_the_step_launched(tmp_path: Path) -> None:
    result = plant(Job(num_steps=3), Faults(), tmp_path)
    tables = measure(result.traces).tables
    for rank, windows in tables.steps.group_by("rank"):
        ordered = windows.sort("start_ns")
        assert ordered["step"].to_list() == [1, 2, 3]
        assert (ordered["end_ns"][:-1] == ordered["start_ns"][1:]).all()
        assert not ordered["open_end"].any()
        mine = [op for op in result.truth.device_ops if op["rank"] == rank[0] and op["stream"] == 7]
        for step, _, end in ordered.select("step", "start_ns", "end_ns").rows():
            assert end == max(op["end_ns"] for op in mine if op["step"] == step)
        assert ordered["start_ns"][0] == max(op["end_ns"] for op in mine if op["step"] == 0)


def test_kernels_belong_to_the_step_that_launched_them(tmp_path: Path) -> None:
    result = plant(Job(pp=2, num_microbatches=4), Faults(), tmp_path)
    steps = {(op["rank"], op["correlation"]): op["step"] for op in result.truth.device_ops}
    rows = measure(result.traces).tables.kernels
    assert rows.height > 100
    for rank, correlation, step in rows.select("rank", "correlation", "step").rows():
        assert step == (steps[rank, correlation] or None)  # step 0 was launched before the capture


def test_a_group_that_is_only_assumed_is_given_up_when_its_members_end_apart(tmp_path: Path) -> None:
    result = plant(Job(dp=2, metadata="2022"), Faults(), tmp_path)
    measured = measure(result.traces)
    closing = measured.collectives.filter(pl.col("step").is_not_null())
    assert set(closing["kind"]) == {"all_reduce"}
    assert set(closing["unmatched"]) == {"group unknown"}
    assert closing["role"].null_count() == closing.height
