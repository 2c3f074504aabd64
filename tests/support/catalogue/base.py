"""The trace that every case damages: two steps, 45 host and 20 device events, 65 complete events in all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Event = dict[str, Any]
Trace = dict[str, Any]

BASE_NS = 1790857026000000000
NUM_COMPLETE = 65
NUM_KERNELS = 20
NUM_COMMUNICATION = 4


@dataclass(frozen=True)
class Case:
    """`build` writes the input into an empty folder and returns the path to read.

    outcome: `clean` loads without defects worse than info; `load` loads with at least one of `codes`; `error` is
    refused; `either` may be any of them, without a traceback.
    """

    id: str
    title: str
    build: Callable[[Path], Path]
    outcome: str
    min_complete: int = NUM_COMPLETE
    codes: tuple[str, ...] = ()
    ranks: tuple[int, ...] | None = None


def complete(name: str, cat: str, ts: float, dur: float, tid: Any = 100, **args: Any) -> Event:
    return {"ph": "X", "cat": cat, "name": name, "pid": 4242, "tid": tid, "ts": ts, "dur": dur, "args": args}


def kernel(name: str, ts: float, dur: float, correlation: int, stream: int = 7, **args: Any) -> Event:
    details = {"External id": correlation, "device": 0, "stream": stream, "correlation": correlation, **args}
    return complete(name, "kernel", ts, dur, tid=stream, **details) | {"pid": 0}


COLLECTIVE = {
    "Collective name": "all_to_allv",
    "In msg nelems": 4096,
    "Out msg nelems": 4096,
    "Group size": 2,
    "dtype": "BFloat16",
    "Process Group Name": "1",
    "Process Group Ranks": "[0, 1]",
}


def events(rank: int = 0) -> list[Event]:
    """Metadata, then two steps of ten launches each."""
    found: list[Event] = [
        {"ph": "M", "name": "process_name", "ts": 1000.0, "pid": 4242, "tid": 0, "args": {"name": "python"}},
        {"ph": "M", "name": "thread_name", "ts": 1000.0, "pid": 4242, "tid": 100, "args": {"name": "main"}},
    ]
    correlation = 1
    for step in range(2):
        start = 100_000.0 + 2_000 * step + rank * 3
        found.append(complete(f"ProfilerStep#{step}", "user_annotation", start, 1_900.5))
        for op in range(10):
            at = start + 10 + 150 * op
            found.append(complete(f"aten::op{op}", "cpu_op", at, 100.125, **{"External id": correlation}))
            found.append(complete("cudaLaunchKernel", "cuda_runtime", at + 20, 5.25, correlation=correlation))
            if op in (3, 7):
                found.append(kernel("ncclDevKernel_SendRecv(x)", at + 40, 60.75, correlation, 20, **COLLECTIVE))
            else:
                found.append(kernel(f"gemm_{op}", at + 40, 70.25, correlation))
            correlation += 1
    found += [complete(f"aten::tail{i}", "cpu_op", 104_000.0 + 20 * i, 10.5) for i in range(3)]
    found.append({"ph": "i", "s": "g", "name": "Record Window End", "pid": "", "tid": "", "ts": 105_000.0})
    assert sum(e["ph"] == "X" for e in found) == NUM_COMPLETE
    return found


def trace(rank: int = 0, world: int = 1) -> Trace:
    """A document as torch 2.13 writes it."""
    groups = [{"pg_name": "0", "pg_desc": "default_pg", "pg_size": world, "ranks": list(range(world))}]
    info = {"backend": "nccl", "rank": rank, "world_size": world, "pg_count": 1, "pg_config": groups}
    return {
        "schemaVersion": 1,
        "deviceProperties": [{"id": 0, "name": "NVIDIA H100"}],
        "distributedInfo": info,
        "host_name": "node1",
        "displayTimeUnit": "ms",
        "baseTimeNanoseconds": BASE_NS,
        "traceEvents": events(rank),
        "traceName": f"rank{rank}.json",
    }


def text(document: Trace) -> str:
    """One event per line."""
    lines = ",\n".join(json.dumps(event) for event in document["traceEvents"])
    head = {key: value for key, value in document.items() if key not in ("traceEvents", "traceName")}
    tail = {"traceName": document["traceName"]} if "traceName" in document else {}
    opening = json.dumps(head)[:-1] + (", " if head else "")
    closing = f", {json.dumps(tail)[1:-1]}" if tail else ""
    return f'{opening}"traceEvents": [\n{lines}\n]{closing}}}'


def write(folder: Path, content: str | bytes, name: str = "trace.json") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def changed(edit: Callable[[Trace], object]) -> Callable[[Path], Path]:
    """A builder that edits the document."""

    def build(folder: Path) -> Path:
        document = trace()
        edit(document)
        return write(folder, text(document))

    return build


def edited(edit: Callable[[str], str | bytes], name: str = "trace.json") -> Callable[[Path], Path]:
    """A builder that edits the text."""
    return lambda folder: write(folder, edit(text(trace())), name)


def each_complete(document: Trace, edit: Callable[[Event], object], every: int = 1) -> None:
    """Edit every n-th complete event."""
    for number, event in enumerate([e for e in document["traceEvents"] if e["ph"] == "X"]):
        if number % every == 0:
            edit(event)


def kernels_of(document: Trace) -> list[Event]:
    return [event for event in document["traceEvents"] if event.get("cat") == "kernel"]
