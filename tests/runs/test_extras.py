"""What the recorder records beside traces and steps where it can, and what it says where it cannot."""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="reference jobs need torch")

from launched.recorded_loop import loop, step_names  # noqa: E402
from launched.run_jobs import (  # noqa: E402
    read_job,
    read_steps,
    run_job,
    small,
)

from instrumented_runs.pipeline import replicas  # noqa: E402
from instrumented_runs.recorder import capture, flight_dump  # noqa: E402
from instrumented_runs.recorder.capture import Window  # noqa: E402
from instrumented_runs.recorder.device_state import DeviceState  # noqa: E402
from instrumented_runs.recorder.flight_dump import FLIGHT_FILE, dump_flight  # noqa: E402
from instrumented_runs.recorder.nccl_inspector import PLUGIN, inspector_environment, inspector_note  # noqa: E402
from instrumented_runs.recorder.on_demand import LEAD_STEPS, REQUEST_FILE, Requests  # noqa: E402
from instrumented_runs.recorder.recording import Recorder  # noqa: E402
from traceanalyzer.traces.nccl.flight_recorder import read_flight_recorder  # noqa: E402


@pytest.mark.runs
def test_a_signal_to_one_rank_becomes_a_step_number_that_all_ranks_read(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with Recorder(tmp_path, window=Window(99, 1, 1), start_signal=signal.SIGUSR1) as recorder:
        for step in range(9):
            if step == 1:
                os.kill(os.getpid(), signal.SIGUSR1)
            _ = torch.ones(4, 4) @ torch.ones(4, 4)
            recorder.step()
    assert signal.getsignal(signal.SIGUSR1) == before
    assert (tmp_path / REQUEST_FILE).read_text() == f"{2 + LEAD_STEPS}\n"
    assert read_job(tmp_path).profiled_steps == (2 + LEAD_STEPS + 1,)  # after one step of warm-up
    assert step_names(tmp_path / "traces/rank00000.json.gz") == [f"ProfilerStep#{3 + LEAD_STEPS}"]


def test_of_an_empty_request_only_rank_0_makes_a_number(tmp_path: Path) -> None:
    (tmp_path / REQUEST_FILE).touch()
    first, second = (Requests(tmp_path, rank, None) for rank in (0, 1))
    assert not second.begins(7)
    assert (tmp_path / REQUEST_FILE).read_text() == ""
    assert not first.begins(7)
    assert [second.begins(step) for step in (7, 7 + LEAD_STEPS, 8 + LEAD_STEPS)] == [False, True, False]
    (tmp_path / REQUEST_FILE).write_text("soon")
    assert not first.begins(9)


@pytest.mark.wide
@pytest.mark.runs
def test_a_later_recording_leaves_nothing_of_an_earlier_one_of_the_same_rank(tmp_path: Path) -> None:
    for name in ("rank00000.json.gz", "rank00000.1.json.gz", "rank00001.json.gz"):
        (tmp_path / "traces").mkdir(exist_ok=True)
        (tmp_path / "traces" / name).write_bytes(b"of an earlier run")
    loop(tmp_path, 1, Window(wait=9), replace=True)
    assert [p.name for p in (tmp_path / "traces").iterdir()] == ["rank00001.json.gz"]


@pytest.mark.wide
@pytest.mark.runs
def test_a_job_dumps_its_flight_recorder_and_says_what_else_it_could_not_record(tmp_path: Path) -> None:
    job = run_job("pipeline", small(tmp_path, num_ranks=4, num_replicas=2))
    assert job.extras == {
        "clocks_and_power": "not recorded: no CUDA device",
        "communication": "tensors of the host",
        "cuda_sync_events": "not recorded: no CUDA device",
        "flight_recorder": "recorded",
        "nccl_inspector": "not recorded: the backend is gloo",
    }
    calls = read_flight_recorder(tmp_path / FLIGHT_FILE.format(rank=3))
    assert set(calls["rank"]) == {3}
    reductions = calls.filter(calls["name"] == "gloo:all_reduce")
    assert reductions["sequence_number"].max() >= 4  # one per step


@pytest.mark.runs
def test_the_peak_of_the_device_is_measured_where_it_is_asked_for(tmp_path: Path) -> None:
    loop(tmp_path, 1, Window(wait=9), measure_peak=True)
    hardware = read_job(tmp_path).hardware
    assert hardware is not None
    assert hardware.measured_peak is not None
    assert hardware.measured_peak.shape == (1024, 1024, 1024)
    assert hardware.measured_peak.flops_per_second == max(hardware.measured_peak.samples)


def test_a_torch_without_a_flight_recorder_or_with_a_broken_one_loses_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("ring buffer\nis gone")

    for bindings, says in [
        (SimpleNamespace(), "not recorded: this torch has no flight recorder"),
        (SimpleNamespace(_dump_nccl_trace=broken), "not recorded: ring buffer"),
    ]:
        monkeypatch.setitem(sys.modules, "torch._C._distributed_c10d", bindings)
        assert dump_flight(tmp_path, 0, "nccl", "20260301T101112-0badcafe") == says
    assert list(tmp_path.rglob("*.tmp")) == []


def test_the_flight_recorder_of_the_backend_in_use_is_asked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = SimpleNamespace(_dump_nccl_trace=lambda *_: b"nccl", _dump_fr_trace=lambda *_: b"any")
    monkeypatch.setitem(sys.modules, "torch._C._distributed_c10d", both)
    for backend, content in [("nccl", b"nccl"), ("gloo", b"any")]:
        assert dump_flight(tmp_path, 2, backend, "20260301T101112-0badcafe") == "recorded"
        assert (tmp_path / flight_dump.FLIGHT_FILE.format(rank=2)).read_bytes() == content


def with_cuda(monkeypatch: pytest.MonkeyPatch, **functions: Callable[[], int]) -> None:
    """A torch that shows a GPU; functions not named are those of an older torch: absent."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("clock_rate", "power_draw"):
        if name in functions:
            monkeypatch.setattr(torch.cuda, name, functions[name])
        else:
            monkeypatch.delattr(torch.cuda, name)


def test_clock_and_power_are_read_where_nvml_shows_and_a_reason_is_kept_where_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_cuda(monkeypatch, clock_rate=lambda: 1980, power_draw=lambda: 412_500)
    state = DeviceState()
    assert (state.why_not, state.read()) == (None, {"device_clock_mhz": 1980, "device_power_mw": 412_500})


def test_a_torch_without_these_functions_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cuda(monkeypatch)
    state = DeviceState()
    assert state.read() == {}
    assert state.why_not is not None
    assert "clock_rate" in state.why_not


def older(**_: bool) -> Any:
    raise TypeError("unexpected keyword 'enable_cuda_sync_events'")


@pytest.mark.parametrize(
    ("config", "note"),
    [
        (lambda **settings: settings, "recorded"),
        (older, f"not recorded: torch {torch.__version__} cannot"),
        (None, f"not recorded: torch {torch.__version__} cannot"),
    ],
)
def test_stream_waits_are_recorded_where_this_torch_can(
    config: Any, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.profiler, "_ExperimentalConfig", config)
    settings, said = capture.sync_events()
    assert said == note
    assert settings == ({"enable_cuda_sync_events": True} if note == "recorded" else None)


def test_nccl_inspector_is_switched_on_where_its_plugin_is(tmp_path: Path) -> None:
    assert inspector_environment(tmp_path, {"LD_LIBRARY_PATH": str(tmp_path)}) == {}
    (tmp_path / PLUGIN).touch()
    found = inspector_environment(tmp_path / "run", {"LD_LIBRARY_PATH": f"/nowhere:{tmp_path}"})
    assert found["NCCL_PROFILER_PLUGIN"] == str(tmp_path / PLUGIN)
    assert found["NCCL_INSPECTOR_DUMP_DIR"] == str(tmp_path / "run/inspector")
    other = {"LD_LIBRARY_PATH": str(tmp_path), "NCCL_PROFILER_PLUGIN": "libnccl-profiler-example.so"}
    assert inspector_environment(tmp_path, other) == {}
    assert inspector_note(found, "nccl") == f"recorded by {tmp_path / PLUGIN}"
    assert inspector_note({}, "nccl").startswith("not recorded")


def test_a_torch_whose_groups_have_no_description_makes_them_without(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[int]] = []

    def new_group(ranks: list[int]) -> torch.distributed.ProcessGroup:
        made.append(ranks)
        return torch.distributed.ProcessGroup(0, 1)

    assert "group_desc" not in inspect.signature(new_group).parameters
    monkeypatch.setattr(replicas.dist, "new_group", new_group)
    monkeypatch.setattr(replicas.dist, "get_rank", lambda: 3)
    place = replicas.find_place(replicas.Layout(pp=2, dp=2))
    assert (place.pipeline_rank, place.replica) == (1, 1)
    assert made == [[0, 2], [1, 3], [0, 1], [2, 3]]


def test_steps_say_which_were_profiled_beside_what_was_read(tmp_path: Path) -> None:
    loop(tmp_path, 3, Window(wait=0, warmup=1, active=1))
    assert [(s.profiled, s.device_clock_mhz) for s in read_steps(tmp_path, 0)] == [
        (False, None),
        (True, None),
        (False, None),
    ]
