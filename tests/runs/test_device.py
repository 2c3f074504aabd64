"""What the jobs do on a GPU, as far as it can be known without one: a simulated device, and tensors staged on purpose."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="reference jobs need torch")

import torch.distributed as dist  # noqa: E402
from launched.run_jobs import (  # noqa: E402
    losses,
    run_job,
    small,
)
from torch.distributed import distributed_c10d  # noqa: E402

from instrumented_runs.jobs.pipeline import without_outputs  # noqa: E402
from instrumented_runs.pacing.host import Pacer  # noqa: E402
from instrumented_runs.pipeline.host_staging import choose_backend, stage_messages  # noqa: E402
from instrumented_runs.pipeline.schedules import make_schedule  # noqa: E402
from instrumented_runs.settings import PipelineSettings  # noqa: E402
from traceanalyzer.errors import JobError  # noqa: E402

CYCLES_PER_MS = 1_755_000


class Device:
    """One stream: work takes device time in order, events note when the stream passes them."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.synchronised: list[float] = []

    def work(self, ms: float) -> None:
        self.now_ms += ms

    def spin(self, cycles: int) -> None:
        assert cycles > 0
        self.now_ms += cycles / CYCLES_PER_MS

    def event(self, *, enable_timing: bool) -> Any:
        assert enable_timing
        event = SimpleNamespace(at=0.0)
        event.record = lambda: setattr(event, "at", self.now_ms)
        event.synchronize = lambda: self.synchronised.append(event.at)
        event.elapsed_time = lambda later: later.at - event.at
        return event


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", device.event)
    monkeypatch.setattr(torch.cuda, "_sleep", device.spin)
    return device


def test_on_a_gpu_a_slot_is_filled_by_a_spinning_kernel_to_its_length(gpu: Device) -> None:
    pacer = Pacer()
    lengths = []
    for real_ms, paced_ms in [(0.5, 50.0), (3.0, 100.0), (7.0, 5.0), (0.0, 1.5)]:
        with pacer.slot(paced_ms):
            if len(lengths) == 0:
                start = gpu.now_ms  # after the calibration
            gpu.work(real_ms)
        lengths.append(gpu.now_ms - start)
        start = gpu.now_ms
    assert lengths == pytest.approx([50.0, 100.0, 7.0, 1.5], abs=1e-3)  # real work is never cut short


def test_the_host_waits_for_real_work_and_never_for_the_spin(gpu: Device) -> None:
    pacer = Pacer()
    with pacer.slot(50.0):
        gpu.work(2.0)
    assert gpu.synchronised[-1] == pytest.approx(gpu.now_ms - 48.0)


def test_a_torch_without_a_spinning_kernel_refuses_to_pace_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delattr(torch.cuda, "_sleep")
    with pytest.raises(JobError, match="lacks the spinning kernel") as caught:
        Pacer().slot(1.0)
    assert "--compute real" in caught.value.hint


@pytest.mark.parametrize(
    ("cuda", "num_devices", "nccl", "ranks", "backend", "says"),
    [
        (False, 0, False, 4, "gloo", "tensors of the host"),
        (True, 4, True, 4, "nccl", "tensors of the device"),
        (True, 1, True, 1, "nccl", "tensors of the device"),
        (True, 1, True, 4, "gloo", "staged through host buffers: 4 ranks share 1 GPU"),
        (True, 4, False, 4, "gloo", "staged through host buffers: this torch has no NCCL"),
    ],
)
def test_nccl_is_taken_where_every_rank_has_a_gpu_of_its_own(
    cuda: object, num_devices: int, nccl: object, ranks: int, backend: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_devices)
    monkeypatch.setattr(dist, "is_nccl_available", lambda: nccl)
    chosen, said = choose_backend(ranks)
    assert chosen == backend
    assert said.startswith(says)


@pytest.mark.sweep(1)
@pytest.mark.runs
@pytest.mark.parametrize("schedule", ["1F1B", "Interleaved1F1B"])
def test_messages_staged_through_the_host_change_no_loss(
    schedule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job("pipeline", small(tmp_path / "plain", schedule=schedule))
    for module in (dist, distributed_c10d):  # put back after the test
        for name in ("isend", "irecv"):
            monkeypatch.setattr(module, name, getattr(module, name))
    stage_messages(lambda tensor: tensor.dtype.is_floating_point)
    run_job("pipeline", small(tmp_path / "staged", schedule=schedule))
    assert losses(tmp_path / "staged", 2) == losses(tmp_path / "plain", 2)


def test_steps_of_an_older_torch_are_called_without_what_it_does_not_know() -> None:
    def old(*args: object, target: object = None, losses: object = None) -> None: ...
    def new(*args: object, return_outputs: bool = True) -> None: ...

    assert without_outputs(SimpleNamespace(step=old)) == {}
    assert without_outputs(SimpleNamespace(step=new)) == {"return_outputs": False}


@pytest.mark.parametrize("missing", ["get_schedule_class", "_PipelineScheduleRuntime"])
def test_an_older_torch_without_a_schedule_says_so_in_one_line(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from instrumented_runs.pipeline import schedules as pipeline_schedules  # noqa: PLC0415 - its view of torch is changed here

    monkeypatch.delattr(pipeline_schedules.torch_schedules, missing)
    if missing == "_PipelineScheduleRuntime":
        (tmp_path / "order.csv").write_text("0F0,0B0\n")
    with pytest.raises(JobError, match=f"has no {missing}"):
        make_schedule(PipelineSettings(folder=str(tmp_path)), [], lambda a, b: a - b)
