"""Small sound inputs of every kind that is read: the corpus that mutants are made from, all of our own making."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from catalogue.base import text, trace
from catalogue.nsys_cases import export
from inputs.flight_dumps import call, dumped
from inputs.hot_experts import hot_run
from inputs.tiny_trace import run_of
from planted import Faults, Job, plant


@dataclass(frozen=True)
class Seed:
    """`files` by name; a name ending in `.json`, `.jsonl` is damaged in its structure too."""

    name: str
    files: dict[str, bytes]


def seeds(scratch: Path) -> list[Seed]:
    """All of them; `scratch` is an empty folder to make them in."""
    found: list[Seed] = []
    for name, make in _MAKERS.items():
        folder = scratch / name
        folder.mkdir(parents=True)
        make(folder)
        files = {f.relative_to(folder).as_posix(): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}
        found.append(Seed(name, files))
    return found


def _planted(job: Job) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        planted = plant(job, Faults(), folder / "made")
        for file in sorted(planted.traces.rglob("*.json.gz")):
            (folder / file.name.removesuffix(".gz")).write_bytes(gzip.decompress(file.read_bytes()))
        for file in sorted((folder / "made").rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        (folder / "made").rmdir()

    return make


def _one_rank(folder: Path) -> None:
    (folder / "rank0.json").write_text(text(trace(0, 1)))


def _two_ranks(folder: Path) -> None:
    for rank in range(2):
        (folder / f"rank{rank}.json").write_text(text(trace(rank, 2)))


def _zipped(folder: Path) -> None:
    with zipfile.ZipFile(folder / "traces.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rank0.json", text(trace(0, 1)))


def _gzipped(folder: Path) -> None:
    (folder / "rank0.json.gz").write_bytes(gzip.compress(text(trace(0, 1)).encode(), mtime=0))


def _loop(folder: Path) -> None:
    run_of(folder, ["0F0@0-10 0F1@10-20 0B0@30-50 0B1@50-70", "1F0@10-20 1B0@20-30 1F1@30-40 1B1@40-50"])


def _dumps(suffix: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for rank in range(2):
            calls = [call(number, duration_ms=0.5) for number in range(4 - rank)]
            dumped(folder, rank, calls, name="nccl_trace_rank_{}" + suffix)

    return make


def _inspector(folder: Path) -> None:
    for rank in range(2):
        records = [
            {
                "header": {"id": "0x7", "rank": rank, "n_ranks": 2, "nnodes": 1},
                "metadata": {"inspector_output_format_version": "v4.0", "hostname": "a", "pid": 40 + rank},
                "coll_perf": {
                    "coll": "AllReduce",
                    "coll_sn": number,
                    "coll_msg_size_bytes": 4096,
                    "coll_exec_time_us": 60 + number,
                    "coll_timing_source": "kernel_gpu",
                    "coll_algobw_gbs": 1.5,
                    "coll_busbw_gbs": 1.5,
                },
            }
            for number in range(3)
        ]
        (folder / f"pid{40 + rank}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


def _op_table(folder: Path) -> None:
    lines = ["rank,stage,step,kind,microbatch,start_us,duration_us"]
    lines += [
        f"{stage},{stage},{step},{kind},{mb},{step * 100 + at + 10 * mb + 3 * stage},{9}"
        for step in range(2)
        for stage in range(2)
        for kind, at in (("forward-compute", 0), ("backward-compute", 40))
        for mb in range(2)
    ]
    (folder / "ops.csv").write_text("\n".join(lines) + "\n")


_JOB = {
    "kind": "experts", "compute_mode": "real", "backend": "gloo", "dtype": "float32", "status": "completed",
    "layout": {"pp": 1, "dp": 2, "tp": 1, "ep": 2}, "tokens_per_step": 64, "sequence_length": 16, "profiled_steps": [0, 1, 2],
    "model": {
        "num_layers": 2, "hidden_size": 8, "num_heads": 2, "num_kv_heads": 2, "head_size": 4, "ffn_size": 16, "vocab_size": 32,
    },
    "ranks": [{"rank": rank, "host": "a", "pid": 40 + rank, "cores": [rank]} for rank in range(2)],
    "hardware": {
        "device": "cpu", "measured_peak": {"flops_per_second": 1e9, "shape": [8, 8, 8], "dtype": "float32", "num_threads": 1},
    },
    "unprofiled_step_ms": 1.0,
}  # fmt: skip


def _reference_run(folder: Path) -> None:
    hot_run(folder)
    (folder / "run.json").write_text(json.dumps(_JOB))
    for rank in range(2):
        step = {"rank": rank, "profiled": True, "cpu_pressure_us": 5, "loss": 1.5}
        routed = {"layer": 0, "rank": rank, "tokens_to_expert": [10, 30], "send_splits": [10, 30], "group": [0, 1]}
        routed |= {"receive_splits": [[10, 10], [30, 30]][rank], "dropped": 0}
        for name, record in (("steps", step), ("routing", routed)):
            rows = [
                record | {"step": n, **({"start_ns": n * 10**6, "end_ns": (n + 1) * 10**6} if name == "steps" else {})}
                for n in range(3)
            ]
            (folder / name).mkdir(exist_ok=True)
            (folder / name / f"rank{rank}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _nsys(folder: Path) -> None:
    export(folder)


_PIPELINE = Job(pp=2, num_microbatches=2, num_steps=1, kernels_per_action=1, steps_ahead=0)
_MAKERS: dict[str, Callable[[Path], None]] = {
    "one-rank": _one_rank,
    "two-ranks": _two_ranks,
    "pipeline": _planted(_PIPELINE),
    "experts": _planted(Job(pp=1, dp=2, ep=2, num_microbatches=1, num_steps=1, kernels_per_action=1, moe_layers=1)),
    "loop": _loop,
    "zip": _zipped,
    "gzip": _gzipped,
    "dumps": _dumps(".json"),
    "pickled-dumps": _dumps(""),
    "inspector": _inspector,
    "op-table": _op_table,
    "nsys": _nsys,
    "reference-run": _reference_run,
}
