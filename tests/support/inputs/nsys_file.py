"""A Kineto document as Nsight Systems would have exported the same run: what a test needs of the schema, and no more."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

GLOBAL = 1 << 24
COPIES = {"HtoD": 1, "DtoH": 2, "DtoD": 8, "PtoP": 10}
MEMORY = {0: "Pageable", 1: "Pinned", 2: "Device"}
SCHEMA = """
CREATE TABLE META_DATA_EXPORT (name TEXT, value TEXT);
CREATE TABLE StringIds (id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE TARGET_INFO_SESSION_START_TIME (utcEpochNs INTEGER, utcTime TEXT, localTime TEXT);
CREATE TABLE TARGET_INFO_SYSTEM_ENV (globalVid INTEGER, devStateName TEXT, name TEXT, nameEnum INTEGER, value TEXT);
CREATE TABLE TARGET_INFO_GPU (vmId INTEGER NOT NULL, id INTEGER NOT NULL, name TEXT, totalMemory INTEGER, smCount INTEGER);
CREATE TABLE TARGET_INFO_CUDA_DEVICE (gpuId INTEGER, cudaId INTEGER, pid INTEGER);
CREATE TABLE ENUM_CUDA_MEM_KIND (id INTEGER NOT NULL PRIMARY KEY, name TEXT, label TEXT);
CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL,
  globalTid INTEGER, correlationId INTEGER, nameId INTEGER NOT NULL, returnValue INTEGER NOT NULL, callchainId INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
  contextId INTEGER NOT NULL, streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER,
  demangledName INTEGER NOT NULL, shortName INTEGER NOT NULL, gridX INTEGER, gridY INTEGER, gridZ INTEGER,
  blockX INTEGER, blockY INTEGER, blockZ INTEGER, graphNodeId INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
  contextId INTEGER NOT NULL, streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER,
  bytes INTEGER NOT NULL, copyKind INTEGER NOT NULL, srcKind INTEGER, dstKind INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_MEMSET (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
  contextId INTEGER NOT NULL, streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER,
  value INTEGER NOT NULL, bytes INTEGER NOT NULL, memKind INTEGER);
CREATE TABLE NVTX_EVENTS (start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL, rangeId INTEGER,
  text TEXT, globalTid INTEGER, textId INTEGER, domainId INTEGER);
"""


class NsysFile:
    """Tables of one process. `close` writes them."""

    def __init__(self, path: Path, *, host: str, base_ns: int, device: str) -> None:
        self.path = path
        self.db = sqlite3.connect(path)
        self.db.executescript(SCHEMA)
        self.strings: dict[str, int] = {}
        self.put("META_DATA_EXPORT", "EXPORT_SCHEMA_VERSION", "3.25.0")
        self.put("TARGET_INFO_SESSION_START_TIME", base_ns, "", "")
        self.put("TARGET_INFO_SYSTEM_ENV", 0, "", "Hostname", 0, host)
        self.put("TARGET_INFO_GPU", 0, 4, device, 85_028_634_624, 132)
        self.put("TARGET_INFO_CUDA_DEVICE", 4, 0, 1)
        for number, label in MEMORY.items():
            self.put("ENUM_CUDA_MEM_KIND", number, f"CUDA_MEMOPR_MEMORY_KIND_{label.upper()}", label)

    def put(self, table: str, *values: Any) -> None:
        self.db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608 - a test's names

    def string(self, text: str) -> int:
        if text not in self.strings:
            self.strings[text] = len(self.strings) + 1
            self.put("StringIds", self.strings[text], text)
        return self.strings[text]

    def event(self, event: dict[str, Any], process: int) -> None:
        """One complete event of a Kineto trace."""
        start = round(event["ts"] * 1000)
        end, category, args = start + round(event["dur"] * 1000), event["cat"], event["args"]
        pid, tid = process * GLOBAL, process * GLOBAL + int(event["tid"]) % GLOBAL
        name = event["name"]
        device = (start, end, 0, 1, args.get("stream"), args.get("correlation"), pid)
        if category == "kernel":
            number = self.string(name)
            node = args.get("graph node id")
            self.put("CUPTI_ACTIVITY_KIND_KERNEL", *device, number, number, *args["grid"], *args["block"], node)
        elif category == "gpu_memcpy":
            kind = next(number for text, number in COPIES.items() if text in name)
            self.put("CUPTI_ACTIVITY_KIND_MEMCPY", *device, 4096, kind, 1, 2)
        elif category in ("cuda_runtime", "cuda_driver"):
            version = "_v7000" if category == "cuda_runtime" else ""
            call = self.string(name + version)
            self.put("CUPTI_ACTIVITY_KIND_RUNTIME", start, end, 0, tid, args["correlation"], call, 0, None)
        elif category in ("cpu_op", "user_annotation"):
            emitted = category == "cpu_op"
            text = None if emitted else name
            number = self.string(f"{name}, seq = 7, op_id = 9") if emitted else None
            self.put("NVTX_EVENTS", start, end, 59, None, text, tid, number, 0)

    def close(self) -> Path:
        self.db.commit()
        self.db.close()
        return self.path


def nsys_twin(document: dict[str, Any], path: Path, rename: dict[str, str] | None = None) -> Path:
    """Write the document as an export; `rename` changes names of ranges."""
    base, device = document["baseTimeNanoseconds"], document["deviceProperties"][0]["name"]
    file = NsysFile(path, host=document["host_name"], base_ns=base, device=device)
    process = next(e["pid"] for e in document["traceEvents"] if e.get("cat") == "cuda_runtime")
    for event in document["traceEvents"]:
        if event["ph"] == "X" and event["cat"] != "gpu_user_annotation":
            file.event({**event, "name": (rename or {}).get(event["name"], event["name"])}, process)
    return file.close()
