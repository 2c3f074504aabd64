"""A run of experts with one hot rank."""

from __future__ import annotations

import json
from pathlib import Path

from inputs.tiny_trace import TinyRank

EXPERT_JOB = {
    "kind": "experts",
    "layout": {"dp": 2, "ep": 2},
    "model": {
        "num_layers": 1, "hidden_size": 8, "num_heads": 2, "num_kv_heads": 2, "head_size": 4, "ffn_size": 0,
        "vocab_size": 32, "num_experts": 4, "experts_per_token": 2, "expert_ffn_size": 16,
    },
    "compute_mode": "paced",
    "backend": "gloo",
    "dtype": "float32",
    "tokens_per_step": 40,
    "sequence_length": 20,
    "status": "completed",
}  # fmt: skip


def hot_run(folder: Path) -> Path:
    """Two ranks, one layer, three steps: rank 1 gets three of four tokens and computes three times as long."""
    for rank in range(2):
        trace = TinyRank(rank, 2)
        for step in range(3):
            at = step * 1000.0
            experts = 300.0 if rank else 100.0
            send, receive = [10, 30], [[10, 10], [30, 30]][rank]
            trace.step(step, at, at + 1000)
            trace.all_to_all("dispatch", 0, at + 10, at + 20, send, receive)
            trace.annotate("moe:experts|layer=0", at + 20, at + 20 + experts)
            trace.all_to_all("combine", 0, at + 20 + experts, at + 330, receive, send)
            trace.event("aten::mm", at + 400, at + 500, "cpu_op")
        trace.write(folder)
    return folder


def with_routing(folder: Path) -> Path:
    """The same run described, with the loads of its four experts in side files."""
    (folder / "routing").mkdir()
    for rank in range(2):
        rows = [
            {"step": step, "layer": 0, "rank": rank, "tokens_to_expert": [4, 6, 20, 10], "send_splits": [10, 30],
             "receive_splits": [[10, 10], [30, 30]][rank], "group": [0, 1]}
            for step in range(3)
        ]  # fmt: skip
        (folder / "routing" / f"rank{rank:05d}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "run.json").write_text(json.dumps(EXPERT_JOB))
    return folder
