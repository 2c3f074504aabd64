"""A run of experts with one hot rank."""

from __future__ import annotations

from pathlib import Path

from inputs.tiny_trace import TinyRank


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
