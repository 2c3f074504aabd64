"""Writes tiny traces of a rank with a device from a few lines; imports nothing from the code under test.

Times are in microseconds. `step` and `mark` are ranges of the main thread; `kernel` is a kernel and the call that launched
it, `launch` a call alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BASE_NS = 1_795_000_000_000_000_000
GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1"


@dataclass
class TinyDevice:
    """One process's trace under construction."""

    rank: int | None = 0
    world_size: int = 1
    device: int = 0
    process: int = 700
    first_correlation: int = 1
    events: list[dict[str, Any]] = field(default_factory=list)
    with_devices: bool = True

    def event(self, name: str, start: float, end: float, category: str, **args: Any) -> TinyDevice:
        row = {"ph": "X", "cat": category, "name": name, "pid": self.process, "tid": self.process, "ts": start}
        self.events.append({**row, "dur": end - start, "args": args})
        return self

    def mark(self, name: str, start: float, end: float) -> TinyDevice:
        return self.event(name, start, end, "user_annotation")

    def step(self, number: int, start: float, end: float) -> TinyDevice:
        return self.mark(f"ProfilerStep#{number}", start, end)

    def launch(self, at: float, call: str = "cudaLaunchKernel", took: float = 2) -> TinyDevice:
        """A launching call; its number is the next one."""
        number = self.first_correlation + sum(e["cat"] == "cuda_runtime" for e in self.events)
        return self.event(call, at, at + took, "cuda_runtime", correlation=number)

    def communicate(
        self, start: float, end: float, *, launched: float, name: str, stream: int, **args: Any
    ) -> TinyDevice:
        """A communication kernel with torch's record of the call around its launch."""
        self.event("record_param_comms", launched - 1, launched + 3, "cpu_op", **args, **{"External id": int(launched)})
        return self.kernel(start, end, launched=launched, name=name, stream=stream, **args)

    def kernel(
        self,
        start: float,
        end: float,
        *,
        launched: float | None = None,
        name: str = GEMM,
        stream: int = 7,
        device: int | None = None,
        **args: Any,
    ) -> TinyDevice:
        """A kernel, and the call that launched it where `launched` tells when it began (2 µs long)."""
        told: dict[str, Any] = {}
        if launched is not None:
            self.launch(launched)
            told["correlation"] = self.events[-1]["args"]["correlation"]
        on = self.device if device is None else device
        self.event(name, start, end, "kernel", device=on, stream=stream, **told, **args)
        self.events[-1] |= {"pid": on, "tid": stream}
        return self

    def document(self) -> dict[str, Any]:
        info = {} if self.rank is None else {"distributedInfo": {"rank": self.rank, "world_size": self.world_size}}
        names = [{"id": self.device, "name": "NVIDIA H100 80GB HBM3", "numSms": 132}] if self.with_devices else []
        return {
            "schemaVersion": 1,
            "deviceProperties": names,
            **info,
            "baseTimeNanoseconds": BASE_NS,
            "traceEvents": self.events,
        }

    def write(self, folder: Path, name: str | None = None) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (name or f"rank{self.rank or 0}.json")
        path.write_text(json.dumps(self.document()))
        return path
