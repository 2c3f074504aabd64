"""Truth to trace files: what Kineto would have written on every rank's own clock."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planted.job import EPOCH_NS, Faults, Job
from planted.simulation import Truth, simulate

_BASE_NS = EPOCH_NS - 17 * 10**9
_MAX_LISTED = 30
"""torch writes longer lists as their first 29 elements, `...` and the last."""


@dataclass(frozen=True)
class Planted:
    """A written job."""

    traces: Path
    truth: Truth
    job: Job
    faults: Faults

    def clock(self, rank: int, true_ns: int) -> int:
        """What the rank's clock shows at a true time."""
        drift = self.faults.clock_drift_ppm.get(rank, 0.0) * 1e-6
        return true_ns + self.faults.clock_offset_ns.get(rank, 0) + round((true_ns - EPOCH_NS) * drift)


_PLACES = {
    "plain": ("traces", "rank{rank:05d}.json.gz"),
    "torchtitan": ("profiling/traces", "iteration_{step}/rank{rank}_trace.json.gz"),
    "megatron": ("torch_profile", "rank-{rank}.json.gz"),
}
_DESCRIPTIONS = {
    "plain": {"pp": "mesh_pp", "dp": "mesh_dp", "ep": "mesh_ep"},
    "torchtitan": {"pp": "mesh_pp", "dp": "mesh_dp_shard", "ep": "mesh_ep"},
    "megatron": {
        "pp": "PIPELINE_MODEL_PARALLEL_GROUP",
        "dp": "DATA_PARALLEL_GROUP_WITH_CP",
        "ep": "EXPERT_MODEL_PARALLEL_GROUP",
    },
}


def plant(job: Job, faults: Faults, folder: Path) -> Planted:
    """Simulate the job, write a trace per rank where the job's framework writes them, and `folder/truth.json`."""
    place, name = _PLACES[job.framework]
    planted = Planted(folder / place, simulate(job, faults), job, faults)
    for rank in range(job.world_size):
        if rank not in faults.missing_ranks:
            text = json.dumps(_Writer(planted, rank).document(), separators=(",", ":")).encode()
            path = planted.traces / name.format(rank=rank, step=job.num_steps)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(text, 1, mtime=0))
    document = {"job": vars(job), **{k: v for k, v in vars(planted.truth).items() if k != "cpu_events"}}
    (folder / "truth.json").write_text(json.dumps(document, default=list), encoding="utf-8")
    return planted


class _Writer:
    """One rank's trace."""

    def __init__(self, planted: Planted, rank: int) -> None:
        self.planted, self.rank, self.job = planted, rank, planted.job
        truth = planted.truth
        begin = truth.capture_start_ns[rank] + planted.faults.head_cut_ns.get(rank, 0)
        everything = [e for e in truth.cpu_events if e["rank"] == rank]
        everything.sort(key=lambda e: (e["start_ns"], -e["end_ns"]))
        self.sequence = _sequence_numbers([e for e in everything if e.get("comms")])
        self.cpu = [e for e in everything if e["start_ns"] >= begin]
        self.ops = [op for op in truth.device_ops if op["rank"] == rank and op["end_ns"] > begin]
        self.launched = {e["correlation"] for e in self.cpu if e["correlation"]}
        self.pid = 4000 + rank
        self.comms: dict[int, dict[str, Any]] = {}
        self.ranges: list[tuple[int, dict[str, Any]]] = []

    def document(self) -> dict[str, Any]:
        events = self._cpu_events() + self._device_events()
        device = {"id": 0, "name": self.job.device, "totalGlobalMem": 85_028_634_624, "numSms": 132}
        return {
            "schemaVersion": 1,
            "deviceProperties": [device],
            "distributedInfo": {
                "backend": "nccl", "rank": self.rank, "world_size": self.job.world_size,
                "pg_count": len(self._groups()), "nccl_version": "2.27.5",
                "pg_config": [{k: v for k, v in group.items() if k != "role"} for group in self._groups()],
            },
            "host_name": f"node{self.job.host(self.rank)}",
            "displayTimeUnit": "ms",
            "baseTimeNanoseconds": _BASE_NS,
            "traceEvents": events,
            "traceName": f"rank{self.rank}.json",
        }  # fmt: skip

    def _groups(self) -> list[dict[str, Any]]:
        job, described = self.job, _DESCRIPTIONS[self.job.framework]
        pipeline = job.pipeline(self.rank % job.dp)
        members = {
            "world": ("0", "default_pg", list(range(job.world_size))),
            "pp": (str(1 + self.rank % job.dp), described["pp"], pipeline),
            "dp": (str(100 + self.rank // job.dp), described["dp"], job.stage_group(self.rank)),
            "ep": (str(1000 + self.rank // job.ep), described["ep"], job.expert_group(self.rank)),
        }
        for role, size in (("tp", job.tensor), ("cp", job.context)):
            if size > 1:
                ranks = job.part_group(self.rank, size)
                members[role] = (str((8000 if role == "tp" else 9000) + ranks[0]), f"mesh_{role}", ranks)
        if job.tables_bytes:
            members["tables"] = (str(7000 + self.rank // job.dp), "undefined", job.stage_group(self.rank))
        if job.framework == "torchtitan":
            members["dp_shard_cp"] = (str(2000 + self.rank // job.dp), "mesh_dp_shard_cp", job.stage_group(self.rank))
        if job.framework == "megatron":  # groups that carry little and whose sizes are no degree
            members["tp"] = (str(3000 + self.rank), "TENSOR_MODEL_PARALLEL_GROUP", [self.rank])
            members["model"] = (str(4000 + self.rank % job.dp), "MODEL_PARALLEL_GROUP", pipeline)
            members["plain_dp"] = (str(5000 + self.rank // job.dp), "DATA_PARALLEL_GROUP", job.stage_group(self.rank))
            if self.rank in (pipeline[0], pipeline[-1]):
                members["embedding"] = (str(6000 + self.rank % job.dp), "EMBEDDING_GROUP", [pipeline[0], pipeline[-1]])
        return [
            {"pg_name": name, "pg_desc": desc if job.described else "undefined", "backend_config": "cuda:nccl", "pg_size": len(ranks), "ranks": ranks, "role": role}
            for role, (name, desc, ranks) in members.items()
        ]  # fmt: skip

    # -- CPU -------------------------------------------------------------------------------------------------------

    def _cpu_events(self) -> list[dict[str, Any]]:
        events = []
        for external, event in enumerate(self.cpu, 1):
            args: dict[str, Any] = {"External id": external, **event["args"]}
            if event["correlation"] is not None:
                args = {"correlation": event["correlation"], "cbid": 211}
            if event.get("comms"):
                args |= self._comm_args(event["comms"], self.sequence[id(event)])
                self.comms[external] = args
                self.ranges.append((external, event))
            thread = self.pid + (1 if event["thread"] == "autograd" else 0)
            events.append(self._event(event, args, self.pid, thread))
            events[-1]["cat"] = event["category"]
        return events

    def _comm_args(self, call: dict[str, Any], number: int) -> dict[str, Any]:
        group = next(g for g in self._groups() if g["role"] == call["group"])
        point_to_point = call["collective"] in ("send", "recv")
        members, splits = call["members"], call.get("splits", [])
        args: dict[str, Any] = {
            "Collective name": call["collective"],
            "dtype": call["dtype"],
            "In msg nelems": call["nelems"],
            "Out msg nelems": call.get("receive_nelems", call["nelems"]),
            "Group size": len(members),
            "In split size": _listed(splits),
            "Out split size": _listed(call.get("receive_splits", [])),
            "Global rank start": members[0],
            "Global rank stride": members[1] - members[0] if len(members) > 1 else 1,
            "Process Group Name": group["pg_name"],
            "Process Group Description": group["pg_desc"],
            "Process Group Ranks": _listed(members),
        }
        if point_to_point and self.job.metadata != "2022":
            args["Dst Rank" if call["collective"] == "send" else "Src Rank"] = call["peer"]
        if self.job.metadata == "2026":
            digest = hashlib.sha256(f"{group['pg_name']}/{number}/{point_to_point}".encode()).digest()
            args |= {"Seq": number, "Rank": members.index(self.rank), "Comms Id": int.from_bytes(digest[:8], "big")}
        return args if self.job.metadata != "2022" else {}

    # -- device ----------------------------------------------------------------------------------------------------

    def _device_events(self) -> list[dict[str, Any]]:
        events = []
        for op in self.ops:
            copy = op["kind"] == "copy"
            args: dict[str, Any] = {
                "queued": 0, "device": 0, "context": 1, "stream": op["stream"], "correlation": op["correlation"],
            }  # fmt: skip
            if op.get("graph"):
                args |= {"graph id": 3, "graph node id": 7}
            if not copy:
                args |= {"grid": [132, 1, 1], "block": [256, 1, 1]}
            if op.get("comms") and op["correlation"] in self.launched:
                args |= self._kernel_comms(op)
            event = self._event(op, args, 0, op["stream"])
            event["cat"] = "gpu_memcpy" if copy else "kernel"
            events.append(event)
        return events + self._device_ranges()

    def _kernel_comms(self, op: dict[str, Any]) -> dict[str, Any]:
        for external, event in self.ranges:
            if event["start_ns"] <= op["launch_start_ns"] < event["end_ns"]:
                return {
                    "External id": external,
                    **{k: v for k, v in self.comms[external].items() if k != "External id"},
                }
        return {}

    def _device_ranges(self) -> list[dict[str, Any]]:
        """`gpu_user_annotation`: first to last kernel of the stream that the range's own thread launched inside it."""
        events = []
        for external, event in enumerate(self.cpu, 1):
            if event["category"] != "user_annotation":
                continue
            inside: dict[int, list[dict[str, Any]]] = {}
            for op in self.ops:
                if event["start_ns"] <= op["launch_start_ns"] < event["end_ns"] and op["thread"] == "main":
                    inside.setdefault(op["stream"], []).append(op)
            for stream, ops in inside.items():
                span = {"start_ns": min(o["start_ns"] for o in ops) - 1, "end_ns": max(o["end_ns"] for o in ops) + 1}
                row = self._event({**span, "name": event["name"]}, {"External id": external}, 0, stream)
                events.append({**row, "cat": "gpu_user_annotation"})
        return events

    def _event(self, event: dict[str, Any], args: dict[str, Any], process: int, thread: int) -> dict[str, Any]:
        start = self.planted.clock(self.rank, event["start_ns"]) - _BASE_NS
        end = self.planted.clock(self.rank, event["end_ns"]) - _BASE_NS
        return {
            "ph": "X", "name": event["name"], "pid": process, "tid": thread,
            "ts": start / 1000, "dur": (end - start) / 1000, "args": args,
        }  # fmt: skip


def _sequence_numbers(events: list[dict[str, Any]]) -> dict[int, int]:
    """Number of every call in its group since the job's start, messages apart, by the event's identity."""
    counts: Counter[tuple[str, bool]] = Counter()
    numbers = {}
    for event in events:
        key = (event["comms"]["group"], event["comms"]["collective"] in ("send", "recv"))
        counts[key] += 1
        numbers[id(event)] = counts[key]
    return numbers


def _listed(values: list[int]) -> str:
    if len(values) <= _MAX_LISTED:
        return "[" + ", ".join(map(str, values)) + "]"
    return "[" + ", ".join(map(str, values[: _MAX_LISTED - 1])) + f", ..., {values[-1]}]"
