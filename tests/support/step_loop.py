"""Training loops as Kineto traces of one process each, from a few calls; imports nothing from the code under test.

On a device launches take 20 µs of the host and kernels run one after the other; without one the main thread computes.
Times are in microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize64x64x64"
UPDATE = "void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor<float> >(int)"
MAIN, AUTOGRAD, STREAM = 71, 72, 7


class Loop:
    """One rank's trace under construction."""

    def __init__(self, rank: int = 0, world_size: int = 1, *, device: bool = True) -> None:
        self.rank, self.world_size, self.device = rank, world_size, device
        self.now, self.busy_until, self.calls = 0.0, 0.0, 0
        self.events: list[dict[str, Any]] = []

    def event(self, category: str, name: str, start: float, end: float, thread: int, **args: Any) -> None:
        pid = 0 if thread == STREAM else 500 + self.rank
        self.events.append(
            {"ph": "X", "cat": category, "name": name, "pid": pid, "tid": thread, "ts": start, "dur": end - start, "args": args}
        )  # fmt: skip

    @contextmanager
    def range(self, name: str) -> Iterator[None]:
        start = self.now
        yield
        self.event("user_annotation", name, start, self.now, MAIN)

    def work(self, length: float, *, backward: bool = False, kernel: str = GEMM) -> None:
        """One operator, launched on a device or computed by the main thread."""
        thread = AUTOGRAD if backward and self.device else MAIN
        start, took = self.now, 20.0 if self.device else length
        if backward:
            self.event("cpu_op", "autograd::engine::evaluate_function: MmBackward0", start, start + took, thread)
        self.event("cpu_op", "aten::mm", start, start + took, thread)
        self.now += took
        if not self.device:
            return
        self.calls += 1
        self.event("cuda_runtime", "cudaLaunchKernel", start + 2, start + 12, thread, correlation=self.calls)
        begin = max(self.busy_until, start + 15)
        self.busy_until = begin + length
        self.event("kernel", kernel, begin, self.busy_until, STREAM, correlation=self.calls, stream=STREAM, device=0)

    def pass_through(self, num: int = 6, length: float = 500.0) -> None:
        """A forward and a backward."""
        for _ in range(num):
            self.work(length)
        for _ in range(num):
            self.work(length, backward=True)

    def update(self, optimizer: str | None = "AdamW", length: float = 400.0) -> None:
        """The optimizer, in torch's range unless its name is None."""
        start = self.now
        self.work(length, kernel=UPDATE)
        if optimizer is not None:
            self.event("user_annotation", f"Optimizer.step#{optimizer}.step", start, self.now, MAIN)

    def wait(self) -> None:
        """The host waits for the device, so that both keep step."""
        self.now = max(self.now, self.busy_until)

    def document(self, start_us: float = 0.0) -> dict[str, Any]:
        """What a capture that begins at `start_us` of the loop's time holds: no host event that began before."""
        kept = {e["args"].get("correlation") for e in self.events if e["cat"] == "cuda_runtime" and e["ts"] >= start_us}
        events = [
            e
            for e in self.events
            if (e["args"]["correlation"] in kept if e["cat"] == "kernel" else e["ts"] >= start_us)
        ]
        devices = [{"id": 0, "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85 << 30}] if self.device else []
        return {
            "schemaVersion": 1,
            "deviceProperties": devices,
            "distributedInfo": {
                "backend": "nccl" if self.device else "gloo", "rank": self.rank, "world_size": self.world_size,
            },
            "baseTimeNanoseconds": 1_790_000_000_000_000_000,
            "traceEvents": events,
        }  # fmt: skip

    def write(self, folder: Path, start_us: float = 0.0) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"rank{self.rank}.json").write_text(json.dumps(self.document(start_us)))
        return folder
