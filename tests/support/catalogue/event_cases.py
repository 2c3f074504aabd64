"""E: events that are valid JSON and still cannot be taken at their word."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path

from catalogue.base import (
    BASE_NS,
    NUM_COMPLETE,
    NUM_KERNELS,
    Case,
    Event,
    Trace,
    changed,
    complete,
    each_complete,
    kernels_of,
    text,
    trace,
    write,
)

_ALL = NUM_COMPLETE
_NO_FIFTH = NUM_COMPLETE - 13


def _without(key: str) -> Callable[[Path], Path]:
    return changed(lambda d: each_complete(d, lambda e: e.pop(key, None), every=5))


def _kernels(edit: Callable[[int, Event], object], count: int = NUM_KERNELS) -> Callable[[Path], Path]:
    return changed(lambda d: [edit(i, k) for i, k in enumerate(kernels_of(d)[:count])])


def _append(*events: Event) -> Callable[[Path], Path]:
    return changed(lambda d: d["traceEvents"].extend(events))


def _only(keep: Callable[[Event], bool]) -> Callable[[Path], Path]:
    return changed(lambda d: d.update(traceEvents=[e for e in d["traceEvents"] if keep(e)]))


def _again_moved(d: Trace) -> None:
    d["traceEvents"].extend(copy.deepcopy(k) | {"ts": k["ts"] + 0.003, "dur": k["dur"] + 0.001} for k in kernels_of(d))


def _communication(d: Trace) -> list[Event]:
    return [k for k in kernels_of(d) if "nccl" in k["name"]]


def _renamed(name: str) -> Callable[[Path], Path]:
    return changed(lambda d: [k.update(name=name) for k in _communication(d)])


def _top(**values: object) -> Callable[[Path], Path]:
    return changed(lambda d: d.update(values))


def _strip_collective(d: Trace) -> None:
    for event in _communication(d):
        event["args"] = {k: v for k, v in event["args"].items() if k in ("device", "stream", "correlation")}


def _no_gpu(event: Event) -> bool:
    return event.get("cat") != "kernel"


def _old_spelling(event: Event) -> None:
    event["cat"] = {"kernel": "Kernel", "cpu_op": "Operator", "cuda_runtime": "Runtime"}.get(event["cat"], event["cat"])


def _absolute(d: Trace) -> None:
    for event in d["traceEvents"]:
        event["ts"] = BASE_NS / 1000 + event["ts"]
    del d["baseTimeNanoseconds"]


def _epoch_text(folder: Path) -> Path:
    """Absolute microseconds with nanosecond digits, which no double holds."""
    document = trace()
    lines = [json.dumps(e) for e in document["traceEvents"]]
    old = [json.dumps(e["ts"]) for e in document["traceEvents"]]
    for i, (line, ts) in enumerate(zip(lines, old, strict=True)):
        whole, fraction = ts.split(".")
        absolute = f"{BASE_NS // 1000 + int(whole)}.{fraction.ljust(3, '7')}"
        lines[i] = line.replace(f'"ts": {ts}', f'"ts": {absolute}')
    del document["baseTimeNanoseconds"]
    document["traceEvents"] = []
    body = text(document).replace("[\n\n]", "[\n" + ",\n".join(lines) + "\n]")
    return write(folder, body)


def _old_and_new(folder: Path) -> Path:
    old = trace(0, 2)
    for event in old["traceEvents"]:
        event["ts"] = BASE_NS // 1000 + int(event["ts"])
    del old["baseTimeNanoseconds"]
    write(folder, text(old), "rank0.json")
    write(folder, text(trace(1, 2)), "rank1.json")
    return folder


def _groups(d: Trace) -> None:
    d["distributedInfo"]["pg_config"].append({"pg_name": "0", "ranks": [5, 6]})


def _shuffled(d: Trace) -> None:
    random.Random(7).shuffle(d["traceEvents"])  # noqa: S311 - an order, no secret


def _ids(d: Trace) -> None:
    for k in kernels_of(d):
        k["args"]["correlation"] = 1 << 63
        k["args"]["Comms Id"] = 10159970886766084423
    each_complete(d, lambda e: e["args"].update(correlation=(1 << 63)) if e["cat"] == "cuda_runtime" else None)


def _pairs(*, whole: bool) -> list[Event]:
    begin = {"ph": "B", "cat": "cpu_op", "name": "b", "pid": 1, "tid": 1, "ts": 100_500.0}
    end = begin | {"ph": "E", "ts": 100_700.0}
    return [begin, end] if whole else [begin, end | {"tid": 2}]


def _cut_last_step(document: Trace) -> None:
    """The profiler stopped 800 us into the second step."""
    stop = 102_800.0
    kept = [e for e in document["traceEvents"] if e.get("cat") not in ("kernel", "cuda_runtime") or e["ts"] < stop]
    document["traceEvents"] = kept
    for event in kept:
        if event["name"] == "ProfilerStep#1":
            event["dur"] = stop - event["ts"]


CASES = [
    Case("E01", "every fifth without dur", _without("dur"), "load", _NO_FIFTH, ("event.no_duration",)),
    Case("E02", "every fifth without ts", _without("ts"), "load", _NO_FIFTH, ("event.no_start",)),
    Case("E03", "every fifth without pid", _without("pid"), "load", _ALL, ("event.no_thread",)),
    Case("E03b", "every fifth without tid", _without("tid"), "load", _ALL, ("event.no_thread",)),
    Case("E04", "every fifth without name", _without("name"), "load", _ALL, ("event.no_name",)),
    Case("E05", "every fifth without ph", _without("ph"), "load", _NO_FIFTH, ("event.no_phase",)),
    Case("E05b", "every fifth without cat", changed(lambda d: each_complete(d, lambda e: e.pop("cat"), every=65)), "clean"),
    Case("E05c", "every fifth without args", changed(lambda d: [e.pop("args") for e in d["traceEvents"] if e.get("cat") == "cpu_op"]), "clean"),
    Case("E06", "unknown and deprecated phases",
         _append(*({"ph": p, "name": "x", "pid": 1, "tid": 1, "ts": 100_000} for p in "RvVcO(N?")), "clean"),
    Case("E07", "B without E, E without B", _append(*_pairs(whole=False)), "load", _ALL,
         ("event.begin_without_end", "event.end_without_begin")),
    Case("E07p", "a pair of B and E", _append(*_pairs(whole=True)), "clean", _ALL + 1),
    Case("E08", "counters, async, flows without partner, memory instants",
         _append({"ph": "C", "name": "mem", "pid": 1, "ts": 100_000, "args": {"b": 3}}, {"ph": "b", "id": 7, "name": "a", "pid": 1, "ts": 100_000},
                 {"ph": "s", "id": 99, "cat": "ac2g", "name": "ac2g", "pid": 1, "tid": 1, "ts": 100_000},
                 {"ph": "i", "s": "t", "name": "[memory]", "pid": 1, "tid": 1, "ts": 100_000, "args": {"Bytes": 512}}), "clean"),
    Case("E09", "string pid and tid on device rows", _kernels(lambda _, k: k.update(pid="GPU 0", tid="stream 7")), "clean"),
    Case("E10", "ts and dur as strings", changed(lambda d: each_complete(d, lambda e: e.update(ts=str(e["ts"]), dur=str(e["dur"])))), "clean"),
    Case("E11", "negative durations", _kernels(lambda _, k: k.update(dur=-5.5), 3), "load", _ALL, ("event.negative_duration",)),
    Case("E12", "kernels of length 0", _kernels(lambda _, k: k.update(dur=0)), "clean"),
    Case("E13", "kernels at ts 0", changed(lambda d: (_absolute(d), [k.update(ts=0, dur=0) for k in kernels_of(d)[:4]])), "load", _ALL - 4,
         ("event.time_outside",)),
    Case("E14", "negative timestamps", _kernels(lambda _, k: k.update(ts=-k["ts"]), 3), "either", _ALL - 3),
    Case("E15", "one event a year ahead", _kernels(lambda _, k: k.update(ts=k["ts"] + 3.15e13), 1), "load", _ALL - 1, ("event.time_outside",)),
    Case("E16", "whole durations first, fractions after 150 rows",
         _append(*(complete("probe_kernel", "cpu_op", 106_000 + 8 * i, 4 if i < 150 else 4.4) for i in range(200))), "clean", _ALL + 200),
    Case("E17", "epoch microseconds with nanoseconds", _epoch_text, "clean"),
    Case("E18", "one rank old and absolute, one new and relative", _old_and_new, "clean", 2 * _ALL, ranks=(0, 1)),
    Case("E19", "ids above int64", changed(_ids), "clean"),
    Case("E19b", "ids above uint64", _kernels(lambda i, k: k["args"].update(correlation=(1 << 64) + i)), "load", _ALL,
         ("event.id_out_of_range", "event.number_out_of_range")),
    Case("E20", "huge and negative pid and tid", changed(lambda d: each_complete(d, lambda e: e.update(pid=1 << 40, tid=-(1 << 63)), every=3)), "clean"),
    Case("E21", "kernels overlapping by 27 ns", _kernels(lambda _, k: k.update(dur=150.027)), "clean"),
    Case("E22", "a kernel that runs 1.6 s past its successors", _kernels(lambda _, k: k.update(dur=1_600_000), 1), "load", _ALL, ("device.late_end",)),
    Case("E23", "every event twice", changed(lambda d: d["traceEvents"].extend(copy.deepcopy(d["traceEvents"]))), "load", _ALL, ("event.duplicates",)),
    Case("E23b", "every kernel twice, moved by rounding", changed(_again_moved), "load", _ALL, ("event.duplicates",)),
    Case("E24", "steps on host and device rows",
         changed(lambda d: d["traceEvents"].extend([e | {"cat": "gpu_user_annotation", "pid": 0} for e in d["traceEvents"] if "Step" in e["name"]])),
         "clean", _ALL + 2),
    Case("E25", "kernels without correlation", _kernels(lambda _, k: [k["args"].pop(x, None) for x in ("correlation", "External id")]), "clean"),
    Case("E26", "one correlation for all kernels", _kernels(lambda _, k: k["args"].update(correlation=1)), "clean"),
    Case("E27", "kernels launched outside the window", _only(lambda e: e.get("cat") != "cuda_runtime" or e["ts"] > 102_000), "load", 45,
         ("device.no_launch",)),
    Case("E28", "no communication metadata", changed(_strip_collective), "load", _ALL, ("comm.no_metadata",)),
    *(Case(i, f"communication named {n}", _renamed(n), "clean") for i, n in (
        ("E29", "ncclKernel_AllReduce_RING_LL_Sum_float"), ("E30", "ncclDevKernel_Generic"),
        ("E30b", "ncclSymkDevKernel_AllGather_STMC"), ("E30c", "nccldevkernel_allgather_ring_ll"))),
    Case("E31", "a collective done by the copy engine",
         changed(lambda d: [k.update(name="Memcpy PtoP", cat="gpu_memcpy") for k in _communication(d)]), "clean"),
    Case("E32", "host events only", _only(lambda e: e.get("cat") not in ("kernel", "cuda_runtime")), "load", 25, ("device.only_named",)),
    Case("E33", "XPU rows without stream", _kernels(lambda _, k: (k["args"].pop("stream"), k["args"].update({"sycl queue": "0x1"}))), "clean"),
    Case("E33b", "unknown device categories", _kernels(lambda _, k: k.update(cat="npu_blorp"), 4), "load", _ALL, ("event.unknown_category",)),
    Case("E34", "title-case categories", changed(lambda d: each_complete(d, _old_spelling)), "clean"),
    Case("E35", "no ProfilerStep", _only(lambda e: "Step" not in e["name"]), "load", _ALL - 2, ("step.none",)),
    Case("E36", "the last step cut off: its range ends early, its later kernels are missing", changed(_cut_last_step), "load", 47),
    Case("E37", "a step of length 0", changed(lambda d: [e.update(dur=0) for e in d["traceEvents"] if e["name"] == "ProfilerStep#1"]), "load", _ALL,
         ("step.overlapping",)),
    Case("E38", "a step number twice", changed(lambda d: [e.update(name="ProfilerStep#0") for e in d["traceEvents"] if "Step" in e["name"]]), "load",
         _ALL, ("step.overlapping",)),
    Case("E39", "no events", _top(traceEvents=[]), "error"),
    Case("E40", "metadata events only", _only(lambda e: e["ph"] == "M"), "error"),
    Case("E41", "no device events", _only(_no_gpu), "load", 45, ("device.no_kernels",)),
    Case("E42", "kernels only", _only(lambda e: e.get("cat") == "kernel"), "load", NUM_KERNELS, ("step.none",)),
    Case("E43", "args of other types", changed(lambda d: [e.update(args=a) for e, a in zip(d["traceEvents"][2:7], [None, [1, {"a": 2}], "x", 3, 2.5], strict=True)]),
         "load", _ALL, ("event.args_not_object",)),
    Case("E44", "wrong types inside collective arguments", changed(lambda d: [k["args"].update({"In msg nelems": "x", "stream": [1], "correlation": {}}) for k in _communication(d)]), "either", _ALL),
    Case("E45", "names of other types", changed(lambda d: [e.update(name=n) for e, n in zip(d["traceEvents"][2:7], [3, [1, 2], None, "", 1.5], strict=True)]),
         "load", _ALL, ("event.name_not_text", "event.no_name")),
    Case("E46", "everything renamed unknown", _kernels(lambda _, k: k.update(name="unknown")), "load", _ALL, ("event.name_unknown",)),
    Case("E47", "coalesced p2p without metadata", changed(lambda d: (_strip_collective(d), [k.update(name="ncclDevKernel_SendRecv") for k in _communication(d)])),
         "load", _ALL, ("comm.no_metadata",)),
    Case("E48", "two groups of one name", changed(_groups), "load", _ALL, ("comm.group_conflict",)),
    Case("E49", "events in another order", changed(_shuffled), "clean"),
    Case("E49r", "events in reverse order", changed(lambda d: d["traceEvents"].reverse()), "clean"),
    Case("E50a", "base time as a string", _top(baseTimeNanoseconds=str(BASE_NS)), "clean"),
    *(Case(i, f"base time {v!r}", _top(baseTimeNanoseconds=v), "load", _ALL, ("time.base_invalid",)) for i, v in
        (("E50b", -5), ("E50c", None), ("E50d", 1e300))),
    Case("E51", "an unknown schemaVersion", _top(schemaVersion=999), "load", _ALL, ("file.schema_version",)),
    Case("E52", "2,000 threads", _append(*(complete("x", "cpu_op", 100_000 + i, 1, tid=10_000 + i) for i in range(2000))), "clean", _ALL + 2000),
    Case("E53", "ranges that cross without nesting", _append(*(complete("x", "cpu_op", 104_500 + 6 * i, 10, tid=9) for i in range(10))), "load", _ALL + 10,
         ("event.crossing",)),
    Case("E54", "digits below a nanosecond", changed(lambda d: each_complete(d, lambda e: e.update(dur=e["dur"] + 0.00003))), "load", _ALL, ("time.rounded",)),
]  # fmt: skip
"""Every case of this kind."""
