"""A GPipe run written event by event, and its review."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from traceanalyzer.analysis.assemble import analyze, read

GPIPE = [
    "0F0@0-10000 0F1@10000-20000 0B0@50000-70000 0B1@70000-90000",
    "1F0@10000-20000 1F1@20000-30000 1B0@30000-50000 1B1@50000-70000",
]


JOB: dict[str, Any] = {
    "kind": "pipeline",
    "layout": {"pp": 2, "dp": 1, "tp": 1, "ep": 1},
    "model": {
        "num_layers": 2,
        "hidden_size": 8,
        "num_heads": 2,
        "num_kv_heads": 2,
        "head_size": 4,
        "ffn_size": 16,
        "vocab_size": 32,
    },
    "compute_mode": "real",
    "backend": "gloo",
    "dtype": "float32",
    "tokens_per_step": 64,
    "sequence_length": 8,
    "schedule": "GPipe",
    "num_stages": 2,
    "num_microbatches": 2,
    "num_chunks": 1,
    "status": "completed",
}


def review_of(folder: Path) -> dict[str, Any]:
    return to_builtins(analyze(read(folder)).review)


def with_job(folder: Path, **changes: Any) -> Path:
    (folder / "run.json").write_text(json.dumps(JOB | changes))
    return folder
