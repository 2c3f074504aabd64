"""Activations over time."""

from __future__ import annotations

import polars as pl
import pytest

from traceanalyzer.schedule import ScheduleName
from traceanalyzer.schema import ACTIONS, conform
from traceanalyzer.theory.schedules.known import schedules
from traceanalyzer.theory.schedules.orders import chunks_per_rank, order, placement
from traceanalyzer.theory.simulator.in_flight import IN_FLIGHT, in_flight, peaks
from traceanalyzer.theory.simulator.op_times import OpTimes
from traceanalyzer.theory.simulator.simulation import simulate

S = ScheduleName
EQUAL = OpTimes(forward_ns=10, input_gradient_ns=10, weight_gradient_ns=10)


def table(*rows: tuple[int, int, int, str, int, int, int]) -> pl.DataFrame:
    """rank, position, stage, phase, microbatch, start, end."""
    names = ("rank", "position", "stage", "phase", "microbatch", "start_ns", "end_ns")
    frame = pl.DataFrame(rows, schema={name: ACTIONS[name] for name in names}, orient="row")
    return conform(frame.with_columns(step=0), ACTIONS)


def test_a_split_backward_frees_its_activation_in_two_parts() -> None:
    actions = table((0, 0, 0, "F", 0, 0, 10), (0, 1, 0, "I", 0, 10, 25), (0, 2, 0, "W", 0, 25, 30))
    changes = in_flight(actions, 100, input_gradient_share=0.3)
    assert changes.select("at_ns", "in_flight", "bytes").rows() == [(0, 1, 100), (25, 1, 70), (30, 0, 0)]
    assert changes.schema == IN_FLIGHT


def test_a_full_backward_frees_all_before_the_next_forward_takes_its_own() -> None:
    actions = table((0, 0, 0, "F", 0, 0, 10), (0, 1, 0, "B", 0, 10, 25), (0, 2, 0, "F", 1, 25, 30))
    assert in_flight(actions, 8)["bytes"].to_list() == [8, 0, 8]


def test_stages_of_a_rank_add_up() -> None:
    actions = table((0, 0, 0, "F", 0, 0, 10), (0, 1, 1, "F", 0, 10, 20), (0, 2, 1, "B", 0, 20, 40))
    changes = in_flight(actions, [5, 7])
    assert changes.select("stage", "bytes", "rank_bytes", "rank_in_flight").rows() == [
        (0, 5, 5, 1),
        (1, 7, 12, 2),
        (1, 0, 5, 1),
    ]


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        (S("Sequential"), [1, 1, 1, 1]),
        (S("GPipe"), [16, 16, 16, 16]),
        (S("1F1B"), [4, 3, 2, 1]),
        (S("Eager1F1B"), [7, 5, 3, 1]),
        (S("ZBH1"), [4, 4, 4, 4]),
        (S("ZBH2"), [7, 7, 7, 7]),
        (S("DualPipe"), [5, 5, 5, 5]),
    ],
)
def test_published_peaks_of_4_stages_and_16_microbatches(name: ScheduleName, peak: list[int]) -> None:
    simulated = simulate(order(name, 4, 16), placement(name, 4), EQUAL)
    found = peaks(in_flight(simulated.actions, 1000))
    assert found["peak_in_flight"].to_list() == list(simulated.peak_in_flight) == peak
    assert found["peak_bytes"].to_list() == [1000 * microbatches for microbatches in peak]


@pytest.mark.parametrize("name", list(schedules()))
def test_everything_is_freed_in_the_end(name: ScheduleName) -> None:
    num_ranks, num_chunks = (1, 1) if name == S("GradAccumulation") else (4, chunks_per_rank(name) or 2)
    simulated = simulate(order(name, num_ranks, 8, num_chunks), placement(name, num_ranks, num_chunks), EQUAL)
    changes = in_flight(simulated.actions, 10, input_gradient_share=0.25)
    assert changes.group_by("rank").last()["rank_bytes"].to_list() == [0] * num_ranks
    assert changes["bytes"].min() == 0
    assert tuple(peaks(changes)["peak_in_flight"]) == simulated.peak_in_flight
