"""Kernels that start before the calls that launched them: the device's clock is ahead, drifts, or single times are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from inputs.tiny_device import TinyDevice

from traceanalyzer.analysis.assemble import Analysis, analyze, read

STEP, NUM = 7000, 9


def job(folder: Path, ahead: list[float], *, num_steps: int = 5, late: int = 200) -> Analysis:
    """Steps of 7 ms with 9 kernels of 500 us, each launched 10 us before it could start; the host is `late` us each time.

    Device times of kernel k of all are earlier by `ahead[k]` us (the last one counts for all others).
    """
    trace, count = TinyDevice(), 0
    for step in range(num_steps):
        at = STEP * step
        trace.step(step, at, at + STEP - 5)
        for k in range(NUM):
            start = at + 20 + (500 + late) * k
            shift = ahead[min(count, len(ahead) - 1)]
            trace.kernel(start - shift, start + 500 - shift, launched=start - 10)
            count += 1
    trace.write(folder)
    return analyze(read(folder))


def codes(analysis: Analysis) -> set[str]:
    return {row.code for row in analysis.review.quality.defects if row.code.startswith("device.")}


def shares(analysis: Analysis) -> dict[str, float]:
    return {row.owner: row.share for row in analysis.review.accounting.owners}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("ahead", [13, 40, 300, 4_000, 900_000])
def test_a_clock_that_is_ahead_is_put_right(tmp_path: Path, ahead: float) -> None:
    sound, early = job(tmp_path / "a", [0]), job(tmp_path / "b", [ahead])
    assert codes(early) == {"device.clock_ahead"}
    assert codes(sound) == set()
    assert any("the device's clock is ahead of the host's" in line for line in early.review.warnings)
    # put later by 10 us less than it is ahead, so that no kernel starts before its launch: 8 of 700 us more are the host's
    assert shares(early)["host"] == pytest.approx(shares(sound)["host"], abs=0.012)
    assert early.review.step.duration_ms.median == sound.review.step.duration_ms.median
    launched = early.tables["kernels"].select("start_ns", "launch_start_ns")
    assert (launched["start_ns"] - launched["launch_start_ns"]).min() == 0


@pytest.mark.parametrize("rate", [8.0, 21.0, 130.0])
def test_of_a_clock_that_drifts_the_host_is_not_accused(tmp_path: Path, rate: float) -> None:
    sound, found = job(tmp_path / "a", [0]), job(tmp_path / "b", [rate * k for k in range(5 * NUM)])
    assert codes(found) == {"device.clock_drifts"}
    # the clock is off by 0 to 44 times the rate: the host has what is idle beyond the largest difference, never more than it had
    least = 0.0 if rate == 130.0 else 0.01
    assert least <= shares(found).get("host", 0.0) < 0.6 * shares(sound)["host"]
    assert shares(found)["unknown"] > shares(found).get("host", 0.0)
    assert any("or drifts, and by how much is not known" in line for line in found.review.warnings)
    assert not any("host" in line for line in found.review.headline.sentences)


@pytest.mark.parametrize("pause", [3_000, 9_000])
def test_a_host_that_pauses_longer_than_the_clock_is_off_is_late(tmp_path: Path, pause: int) -> None:
    """Rank 1 of 3 pauses in every step; its device's clock drifts by up to 90 us. Its peers wait in an all-reduce."""
    for rank in range(3):
        trace = TinyDevice(rank=rank, world_size=3)
        for step in range(4):
            at = 20_000 * step
            free = at + 40 + 6_000
            came = free + (pause if rank == 1 else 30)
            off = (30.0 * step if rank == 1 else 0.0) + 9
            trace.step(step, at, at + 19_995).kernel(at + 40 - off, free - off, launched=at + 30 - off / 2)
            args = {"Collective name": "allreduce", "In msg nelems": 4096, "Out msg nelems": 4096, "Group size": 3, "dtype": "Float",
                    "Process Group Name": "0", "Process Group Ranks": "[0, 1, 2]"}  # fmt: skip
            own = came + 8
            trace.communicate(
                own - off,
                free + pause + 408 - off,
                launched=came,
                name="ncclDevKernel_AllReduce_Sum_f32_RING_LL()",
                stream=21,
                **args,
            )
            trace.kernel(free + pause + 410 - off, at + 19_000 - off, launched=came + 5)
        trace.write(tmp_path)
    found = analyze(read(tmp_path))
    assert "device.clock_drifts" in codes(found)
    fault = found.review.culprits[0]
    assert (fault.rank, fault.cause) == (1, "host")
    assert fault.high >= (pause - 30 - 130) / 1e3
    assert not any("in time" in line for line in [each.title for each in found.review.findings if not each.passed])


@pytest.mark.sweep(1)
@pytest.mark.parametrize("where", [[4], [22, 23]])
def test_single_early_kernels_are_said_and_move_nothing(tmp_path: Path, where: list[int]) -> None:
    sound = job(tmp_path / "a", [0])
    found = job(tmp_path / "b", [90.0 if k in where else 0.0 for k in range(5 * NUM)])
    assert codes(found) == {"device.early_kernels"}
    assert shares(found)["host"] < shares(sound)["host"]  # the gap before them is nobody's
    assert shares(found)["unknown"] > 0
    assert found.review.step.duration_ms.median == sound.review.step.duration_ms.median


@pytest.mark.parametrize("ahead", [0.0, 4.0, 10.0, 11.5])
def test_launches_that_are_late_or_rounded_are_no_such_clock(tmp_path: Path, ahead: float) -> None:
    assert codes(job(tmp_path, [ahead])) == set()


def test_a_backlog_hides_nothing(tmp_path: Path) -> None:
    """Most kernels were launched long before they started; those after idle time show that the clock is ahead."""
    trace = TinyDevice()
    for step in range(6):
        at = STEP * step
        trace.step(step, at, at + STEP - 5)
        for k in range(NUM):
            trace.kernel(at + 20 + 400 * k - 77, at + 420 + 400 * k - 77, launched=at + 12 + 3 * k)
    trace.write(tmp_path)
    found = analyze(read(tmp_path))
    assert codes(found) == {"device.clock_ahead"}
    assert (found.tables["kernels"]["start_ns"] - found.tables["kernels"]["launch_start_ns"]).min() == 0
