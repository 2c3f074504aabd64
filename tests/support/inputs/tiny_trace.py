"""Writes tiny Kineto traces from a few lines; imports nothing from the code under test.

Times are given in microseconds. A rank's main thread has step ranges, action ranges, receives and collectives; that is
all that the analysis of CPU traces reads.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BASE_NS = 1_790_857_026_000_000_000


@dataclass
class TinyRank:
    """One rank's trace under construction."""

    rank: int
    world_size: int
    host: str = "alpha"
    shift_us: int = 0
    """Error of this rank's clock, added to every time."""
    events: list[dict[str, Any]] = field(default_factory=list)

    def event(self, name: str, start: float, end: float, category: str, **args: Any) -> TinyRank:
        self.events.append(
            {
                "ph": "X",
                "cat": category,
                "name": name,
                "pid": 100 + self.rank,
                "tid": 100 + self.rank,
                "ts": start + self.shift_us,
                "dur": end - start,
                "args": args,
            }
        )
        return self

    def annotate(self, name: str, start: float, end: float) -> TinyRank:
        return self.event(name, start, end, "user_annotation")

    def step(self, number: int, start: float, end: float) -> TinyRank:
        return self.annotate(f"ProfilerStep#{number}", start, end)

    def receive(self, start: float, end: float) -> TinyRank:
        dims = {"Input Dims": [[4, 8]], "Input type": ["float"]}
        return self.event("gloo:recv", start, end, "user_annotation", **dims)

    def all_to_all(
        self, part: str, layer: int, start: float, end: float, send: list[int], receive: list[int]
    ) -> TinyRank:
        """A dispatch, combine, … of rows of 8 floats, with its range around it."""
        self.annotate(f"moe:{part}|layer={layer}", start, end)
        args = {
            "Concrete Inputs": ["", "", "", json.dumps(receive), json.dumps(send), "False", "-1"],
            "Input type": ["float", "float", "", "ScalarList", "ScalarList", "Scalar", "Scalar"],
            "Input Dims": [[sum(receive), 8], [sum(send), 8], [], [], [], [], []],
        }
        return self.event("c10d::alltoall_base_", start, start + 1, "cpu_op", **args)

    def document(self) -> dict[str, Any]:
        ranks = list(range(self.world_size))
        group = {"pg_name": "0", "pg_desc": "default_pg", "pg_size": self.world_size, "ranks": ranks}
        return {
            "schemaVersion": 1,
            "deviceProperties": [],
            "distributedInfo": {
                "backend": "gloo",
                "rank": self.rank,
                "world_size": self.world_size,
                "pg_count": 1,
                "pg_config": [group],
            },
            "host_name": self.host,
            "baseTimeNanoseconds": BASE_NS,
            "traceEvents": self.events,
        }

    def write(self, folder: Path) -> Path:
        path = folder / "traces" / f"rank{self.rank:05d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.document()))
        return path


def run_of(folder: Path, timelines: list[str], *, step_us: int | None = None, **options: Any) -> Path:
    """A run folder from one line per rank, each action as `2F0@start-end` in microseconds, for example

    `run_of(tmp, ["0F0@0-10 0B0@30-50", "1F0@10-20 1B0@20-30"])`
    """
    for rank, line in enumerate(timelines):
        trace = TinyRank(rank, len(timelines), **options)
        ends = []
        for item in line.split():
            name, times = item.split("@")
            start, end = (float(text) for text in times.split("-"))
            trace.annotate(f"compute:{name}", start, end)
            ends.append(end)
        trace.step(1, 0, step_us or max(ends))
        trace.write(folder)
    return folder
