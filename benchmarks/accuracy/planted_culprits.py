"""One fault of every kind on jobs of every mesh: planted against found, as a Markdown table.

    PYTHONPATH=tests/support python benchmarks/accuracy/planted_culprits.py [MESH ...]

The truth is the step less the same job's step without the fault.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.review import Review

ONE = {"pp": 1, "num_microbatches": 3}
TWO = {"pp": 2, "num_microbatches": 4}
MESHES: Mapping[str, dict[str, Any]] = {
    "DP 3": {**ONE, "dp": 3},
    "FSDP 4": {**ONE, "dp": 4, "sharded": True},
    "TP 2": {**ONE, "dp": 2, "tensor": 2},
    "TP 4": {**ONE, "dp": 4, "tensor": 4},
    "CP 4": {**ONE, "dp": 4, "context": 4},
    "EP 4": {**ONE, "dp": 4, "ep": 4, "moe_layers": 2},
    "DLRM 4": {**ONE, "dp": 4, "tables_bytes": 4 << 20},
    "PP 4": {"pp": 4, "num_microbatches": 6},
    "PP 2, DP 3": {**TWO, "dp": 3},
    "PP 2, TP 2": {**TWO, "dp": 2, "tensor": 2},
    "PP 2, EP 4": {**TWO, "dp": 4, "ep": 4, "moe_layers": 1},
    "PP 2, FSDP 2": {**TWO, "dp": 2, "sharded": True},
}


def faults(rank: int, num_steps: int) -> dict[str, Faults]:
    """One of every kind on `rank`."""
    stalls = {(rank, step, 1): 15_000_000 for step in range(num_steps + 1)}
    return {
        "slow kernels, throttled device": Faults(slow_compute={rank: 1.4}),
        "more kernels": Faults(more_kernels={rank: 3}),
        "host stall": Faults(host_stall_ns=stalls, stall_call="gc.collect"),
        "late launches": Faults(slow_launch_ns={rank: 700_000}),
        "data loading": Faults(loading_ns={rank: 9_000_000}),
    }


def reviewed(job: Job, planted: Faults) -> tuple[Review, float]:
    """The review and its median step in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        plant(job, planted, Path(folder))
        review = analyze(read(Path(folder))).review
    return review, review.step.duration_ms.median or 0.0


def main() -> None:
    """Print the table."""
    print("| mesh | fault | truth, ms of the step | found |\n|---|---|---|---|")
    for name in sys.argv[1:] or MESHES:
        job = Job(**{"num_steps": 3, "steps_ahead": 0, **MESHES[name]})
        rank = job.world_size - (1 if job.dp < 3 else 2)
        clean = reviewed(job, Faults())[1]
        for kind, planted in faults(rank, job.num_steps).items():
            review, step = reviewed(job, planted)
            called = [
                f"rank {each.rank}: {each.cause} {each.ms if each.ms is None else round(each.ms, 2)}"
                + (f" (`{each.call.split('#')[0]}`)" if each.call else "")
                for each in review.culprits
            ] or [f"rank {each.rank}: {each.cause} {each.cost_ms:.2f}" for each in review.stragglers]
            print(
                f"| {name} | {kind} | rank {rank}: {step - clean:.2f} of {step:.1f} | {'; '.join(called) or 'nobody'} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
