"""Flight-recorder dumps."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

START_NS = 1_790_857_026_000_000_000

OPEN = {"state": "started", "retired": False}
IDLE = {"state": "scheduled", "retired": False}
TIMED_OUT = {"state": "timeout", "retired": False}


def call(number: int, operation: str = "all_reduce", duration_ms: float | None = None, **more: Any) -> dict[str, Any]:
    """An entry of a dump: 64 floats over group 0, called at `number` ms."""
    return {
        "record_id": number, "pg_id": 0, "process_group": ["0", "default_pg"], "collective_seq_id": number, "p2p_seq_id": 0,
        "op_id": number, "profiling_name": f"nccl:{operation}", "input_sizes": [[64]], "input_dtypes": ["Float"],
        "output_sizes": [[64]], "output_dtypes": ["Float"], "state": "completed", "is_p2p": False, "retired": True,
        "time_created_ns": START_NS + number * 1_000_000, "time_discovered_started_ns": None,
        "time_discovered_completed_ns": None, "duration_ms": duration_ms, **more,
    }  # fmt: skip


def dumped(
    folder: Path, rank: int, calls: list[dict[str, Any]], *, name: str = "nccl_trace_rank_{}", **more: Any
) -> None:
    size = more.pop("size", 2)
    groups = {"0": {"name": "0", "desc": "default_pg", "ranks": str(list(range(size)))}}
    value = {"version": "2.10", "pg_config": groups, "entries": calls} | more
    file = folder / name.format(rank)
    file.write_bytes(json.dumps(value).encode() if file.suffix == ".json" else pickle.dumps(value))


def sized(
    number: int, elements: int, dtype: str = "Half", operation: str = "all_reduce", **more: Any
) -> dict[str, Any]:
    tensors = {
        "input_sizes": [[elements]],
        "output_sizes": [[elements]],
        "input_dtypes": [dtype],
        "output_dtypes": [dtype],
    }
    return call(number, operation, **tensors | more)


def message(number: int, what: str, elements: int = 24, **more: Any) -> dict[str, Any]:
    return sized(number, elements, operation=what, is_p2p=True, p2p_seq_id=number, **more)


def group(name: str, description: str = "mesh_ep") -> dict[str, Any]:
    return {"process_group": [name, description]}
