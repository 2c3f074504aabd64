"""Figures of device traces from their JSON alone, by the definitions of `docs/definitions.md`; imports nothing of the package."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

COMMUNICATION = re.compile(r"nccl|rccl|::(?:internode|intranode)::(?:dispatch|combine)\b", re.IGNORECASE)
BARRIER = re.compile(r"::notify_dispatch|::cached_notify")
MULTIPLICATION = re.compile(
    r"gemm|nvjet|xmma|Cijk_|splitK|gemv|cublas|volta_s|matmul|^fc-|^aten::(?:mm|bmm|addmm|linear)|cutlass"
    r"|conv2d|[wd]grad|winograd|scudnn|^XXT_|^ba_plus_cAA",
    re.IGNORECASE,
)
NO_MULTIPLICATION = re.compile(r"flash|fmha|attention|attn|transpose<|reduction::kernel", re.IGNORECASE)
DEVICE = ("kernel", "gpu_memcpy", "gpu_memset", "mtia_ccp_events")
LAUNCH = ("cuda_runtime", "cuda_driver", "hip_runtime", "mtia_runtime")
MAX_GAP = 10_000
Spans = list[tuple[int, int]]


@dataclass
class Kernel:
    """What ran on the device; times in nanoseconds."""

    name: str
    kind: str
    start: int
    end: int
    stream: str
    launch: tuple[int, int] | None
    step: str = ""


@dataclass
class Rank:
    """One trace; `unsure` is how far off its device's clock may be."""

    rank: int
    kernels: list[Kernel]
    windows: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    unsure: int = 0


def nanoseconds(microseconds: str) -> int:
    return int((Decimal(microseconds) * 1000).to_integral_value())


def union(spans: Iterable[tuple[int, int]]) -> Spans:
    merged: Spans = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        elif end > start:
            merged.append((start, end))
    return merged


def length(spans: Spans) -> int:
    return sum(end - start for start, end in spans)


def without(spans: Spans, other: Spans) -> Spans:
    left: Spans = []
    for begin, end in spans:
        start = begin
        for first, last in other:
            if last <= start or first >= end:
                continue
            if first > start:
                left.append((start, first))
            start = max(start, last)
        if start < end:
            left.append((start, end))
    return left


def events_of(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Complete events with exact decimals, and the rank."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as text:
        document = json.load(text, parse_float=str, parse_int=str)
    if isinstance(document, list):
        return document, 0
    info = document.get("distributedInfo") or {}
    return document["traceEvents"], int(info.get("rank", 0))


def kind_of(name: str, category: str) -> str:
    if category not in ("kernel", "mtia_ccp_events") or name == "dma_request":
        return "copy"
    if BARRIER.search(name):
        return "barrier"
    if COMMUNICATION.search(name):
        return "communication"
    if MULTIPLICATION.search(name) and not NO_MULTIPLICATION.search(name):
        return "gemm"
    return "other"


def ascend(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events of an Ascend trace with the device's as kernels, each launched where its flow starts."""
    names = {e["pid"]: e["args"].get("name") for e in events if e.get("ph") == "M" and e["name"] == "process_name"}
    if "Ascend Hardware" not in names.values():
        return events
    flows = [e for e in events if e.get("cat") == "HostToDevice"]
    into = {(e["pid"], e["tid"], e["ts"]): e["id"] for e in flows if e["ph"] == "f"}
    work = [e for e in events if e.get("ph") == "X" and names.get(e["pid"]) == "Ascend Hardware"]
    found = [
        {**e, "cat": "kernel", "args": {"stream": e["tid"], "correlation": into.get((e["pid"], e["tid"], e["ts"]))}}
        for e in work
    ]
    starts = [flow for flow in flows if flow["ph"] == "s"]
    found += [{**e, "ph": "X", "cat": "cuda_runtime", "dur": "0", "args": {"correlation": e["id"]}} for e in starts]
    return found


def read_rank(path: Path) -> Rank:
    events, number = events_of(path)
    events = [event for event in ascend(events) if event.get("ph") == "X"]
    launches: dict[str, tuple[int, int]] = {}
    steps: dict[str, tuple[int, int]] = {}
    for event in events:
        start, arguments = nanoseconds(event["ts"]), event.get("args") or {}
        end = start + nanoseconds(event.get("dur", "0"))
        if event.get("cat") in LAUNCH and arguments.get("correlation") is not None:
            launches.setdefault(arguments["correlation"], (start, end))
        elif event.get("cat") == "user_annotation" and event["name"].startswith("ProfilerStep"):
            steps[event["name"]] = (start, end)
    kernels: list[Kernel] = []
    for event in events:
        if event.get("cat") not in DEVICE:
            continue
        start, arguments = nanoseconds(event["ts"]), event.get("args") or {}
        key = arguments.get("correlation")
        row = Kernel(
            event["name"], kind_of(event["name"], event["cat"]), start, start + nanoseconds(event.get("dur", "0")),
            str(arguments.get("stream")), launches.get(key) if key is not None else None,
        )  # fmt: skip
        row.step = (
            next((n for n, (a, b) in steps.items() if row.launch and a <= row.launch[0] < b), "") if steps else "0"
        )
        kernels.append(row)
    return with_windows(on_host_clock(Rank(number, sorted(kernels, key=lambda each: each.start))))


def on_host_clock(rank: Rank) -> Rank:
    """Device times later where nearly all kernels start before their launch; else how far off the clock may be."""
    early = [
        each.launch[0] - each.start for each in rank.kernels if each.launch and each.launch[0] - each.start > 2_000
    ]
    launched = sum(each.launch is not None for each in rank.kernels)
    if len(early) > launched / 2:
        for each in rank.kernels:
            each.start, each.end = each.start + max(early), each.end + max(early)
    elif len(early) >= max(3, 0.01 * launched):
        rank.unsure = max(early)
    return rank


def with_windows(rank: Rank) -> Rank:
    computing = [each for each in rank.kernels if each.kind in ("gemm", "other")]
    busy: Counter[str] = Counter()
    for each in computing:
        busy[each.stream] += each.end - each.start
    stream = busy.most_common(1)[0][0]
    names = list(
        dict.fromkeys(each.step for each in sorted(rank.kernels, key=lambda k: k.launch or (0, 0)) if each.step)
    )
    first = min(each.start for each in rank.kernels if each.step)
    tail = [each.end for each in computing if not each.step and each.start < first]
    begin = (
        max(tail)
        if tail
        else min(each.start for each in rank.kernels if each.step and (each.kind != "copy" or len(names) > 1))
    )
    for at, name in enumerate(names):
        own = [each for each in rank.kernels if each.step == name]
        last = at == len(names) - 1
        end = max(each.end for each in own if last or each.stream == stream)
        rank.windows[name], begin = (begin, end), end
    return rank


def account(rank: Rank, step: str) -> Counter[str]:
    """Nanoseconds of one window by owner."""
    low, high = rank.windows[step]

    def of(*kinds: str) -> Spans:
        inside = ((max(k.start, low), min(k.end, high)) for k in rank.kernels if k.kind in kinds)
        return union((start, end) for start, end in inside if end > start)

    compute, moved = of("gemm", "other"), of("communication")
    held = of("communication", "barrier")
    found: Counter[str] = Counter(
        window=high - low, compute=length(compute), communication=length(moved), exposed=length(without(moved, compute))
    )
    starts: defaultdict[int, list[int]] = defaultdict(list)
    for each in rank.kernels:
        if each.launch:
            starts[each.start].append(each.launch[1])
    before = low
    for start, end in [*union([*compute, *held, *of("copy")]), (high, high)]:
        if start > before and starts[start]:
            late = max(0, min(start, min(starts[start]) - rank.unsure) - before)
            found["host"] += late
            if start - before - late > MAX_GAP + rank.unsure:
                found["queued"] += start - before - late
        before = max(before, end)
    return found


def typical(ranks: Sequence[Rank]) -> list[str]:
    """Fewer than 8 steps: all but a first one that is a quarter longer."""
    names = list(ranks[0].windows)
    longest = {name: max(r.windows[name][1] - r.windows[name][0] for r in ranks) for name in names}
    if len(names) > 2 and longest[names[0]] > 1.25 * median(longest[name] for name in names[1:]):
        return names[1:]
    return names


def of_traces(paths: Sequence[Path]) -> dict[str, float]:
    """Figures of a folder of traces, in milliseconds and shares."""
    ranks = sorted((read_rank(path) for path in paths), key=lambda each: each.rank)
    steps = typical(ranks)
    unmarked = {"unmarked": 1.0} if steps == ["0"] else {}
    longest = sorted(max(r.windows[s][1] - r.windows[s][0] for r in ranks) for s in steps)
    whole = sum((account(r, s) for r in ranks for s in steps), Counter[str]())
    found = {"step ms": longest[(len(longest) - 1) // 2] / 1e6, "computing": whole["compute"] / whole["window"]}
    found |= unmarked
    found["mean window ms"] = whole["window"] / len(ranks) / len(steps) / 1e6
    if whole["communication"]:
        found["exposed"] = whole["exposed"] / whole["window"]
        found["hidden"] = 1 - whole["exposed"] / whole["communication"]
    found |= {"host": whole["host"] / whole["window"], "queued": whole["queued"] / whole["window"]}
    sums: Counter[str] = Counter()
    for rank in ranks:
        for each in rank.kernels:
            if each.step in steps:
                sums["all"] += each.end - each.start
                sums[each.kind] += each.end - each.start
                sums[f"name {each.name}"] += each.end - each.start
    found["gemm ms"] = sums["gemm"] / len(ranks) / len(steps) / 1e6
    top = max((name for name in sums if name.startswith("name ")), key=lambda name: sums[name])
    found["longest name ms"] = sums[top] / len(ranks) / len(steps) / 1e6
    return found | (late_rank(ranks, steps) if len(ranks) > 1 else {})


def late_rank(ranks: Sequence[Rank], steps: Sequence[str]) -> dict[str, float]:
    """Who comes last, with what the longest waiting rank waits per step; operations matched in order, the first left out."""
    waits: Counter[int] = Counter()
    for name in steps:
        own = [[k for k in r.kernels if k.kind == "communication" and k.step == name] for r in ranks]
        for at, members in enumerate(zip(*own, strict=True)):
            lasting = [k.end - k.start for k in members]
            if at or name != next(iter(ranks[0].windows)):
                waits[ranks[lasting.index(min(lasting))].rank] += max(lasting) - min(lasting)
    rank, waited = waits.most_common(1)[0]
    return {"late rank": rank, "others wait ms": waited / len(steps) / 1e6}
