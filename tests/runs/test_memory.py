"""What ranks hold for backward, against what the schedule says they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="reference jobs need torch")

from launched.run_jobs import (  # noqa: E402
    read_steps,
    run_job,
    small,
)

from instrumented_runs.recorder.memory import InFlight, SavedBytes  # noqa: E402
from traceanalyzer.schedule import Action  # noqa: E402


@pytest.mark.sweep(1)
@pytest.mark.runs
@pytest.mark.parametrize(("schedule", "in_flight"), [("GPipe", [4, 4]), ("1F1B", [2, 1])])
def test_gpipe_holds_every_microbatch_and_1f1b_as_many_as_stages_follow(
    tmp_path: Path, schedule: str, in_flight: list[int]
) -> None:
    run_job("pipeline", small(tmp_path, schedule=schedule, compute_mode="paced", forward_ms=1.0, backward_ms=1.0))
    steps = [read_steps(tmp_path, rank) for rank in range(2)]
    assert [[record.peak_in_flight for record in mine] for mine in steps] == [[n] * 4 for n in in_flight]
    saved = [mine[2].peak_saved_bytes for mine in steps]
    assert all(mine[2].peak_saved_bytes == mine[3].peak_saved_bytes for mine in steps)
    assert saved[0] is not None
    assert saved[1] is not None
    if schedule == "1F1B":  # the stages are alike but for embedding and head
        assert saved[0] > 1.5 * saved[1]


@pytest.mark.wide
@pytest.mark.runs
def test_every_further_microbatch_in_flight_adds_the_same_bytes(tmp_path: Path) -> None:
    peaks = []
    for num_microbatches in (2, 3, 4):
        folder = tmp_path / str(num_microbatches)
        paced = {"compute_mode": "paced", "forward_ms": 1.0, "backward_ms": 1.0}
        run_job("pipeline", small(folder, schedule="GPipe", num_microbatches=num_microbatches, **paced))
        peaks.append(read_steps(folder, 0)[2].peak_saved_bytes)
    assert peaks[2] - peaks[1] == peaks[1] - peaks[0] > 0


def test_saved_bytes_count_each_storage_once_leave_weights_out_and_return_to_zero() -> None:
    weight = torch.nn.Parameter(torch.ones(8, 8))
    meter = SavedBytes([weight])
    x = torch.ones(4, 8, requires_grad=True)
    with meter.metered():
        y = x @ weight  # saves x (128 bytes) and the weight
        z = y * y  # saves y (128 bytes) twice
    assert meter.take_peak() == 2 * 4 * 8 * 4
    z.sum().backward()
    del y, z
    assert meter.take_peak() == 2 * 4 * 8 * 4  # held until just now
    assert meter.take_peak() == 0


def test_microbatches_are_in_flight_from_forward_to_the_last_backward() -> None:
    in_flight = InFlight()
    for text in ("0F0", "0F1", "0I0", "0F2", "0W0", "0B1", "0B2"):
        in_flight.done(Action.parse(text))
    assert in_flight.take_peak() == 3
    assert in_flight.take_peak() == 0
