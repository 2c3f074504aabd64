"""Reads timelines as a trace viewer does, from the published formats alone; imports nothing from the code under test.

Perfetto: packets are sorted by time, those of one time stay in the file's order; names are looked up in what their sequence
interned before; begins and ends of one track are a stack; a flow joins the slices that carry its number in order of time and
points from the one that starts earlier. Chrome's JSON: complete events of one thread must nest; `s` and `f` bind to the
innermost slice that is open.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Slice:
    process: str
    track: str
    name: str
    categories: tuple[str, ...]
    start_ns: int
    end_ns: int
    args: dict[str, Any]
    depth: int = 0

    @property
    def ns(self) -> int:
        return self.end_ns - self.start_ns


@dataclass
class Timeline:
    slices: list[Slice] = field(default_factory=list)
    counters: dict[tuple[str, str], list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    flows: list[tuple[Slice, Slice]] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)
    dangling: int = 0
    """Flows with one end."""
    _index: dict[tuple[str, str], list[Slice]] = field(default_factory=lambda: defaultdict(list))

    def of(self, process: str, track: str) -> list[Slice]:
        """Slices of a track (of all its lanes) of the process whose name begins with `process`, up to a comma or space."""
        return self._placed().get((process, track), [])

    def tracks(self, process: str) -> set[str]:
        return {track for of, track in self._placed() if of == process}

    def _placed(self) -> dict[tuple[str, str], list[Slice]]:
        if not self._index:
            for each in self.slices:
                words = each.process.split(",")[0].split(" ")
                self._index[" ".join(words[:2]), each.track].append(each)
        return self._index


def read_timeline(path: Path) -> Timeline:
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    return _chrome(data) if data[:1] == b"{" else _perfetto(data)


def _perfetto(data: bytes) -> Timeline:
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as proto

    trace = proto.Trace.FromString(data)
    tracks: dict[int, Any] = {}
    interned: dict[tuple[int, str, int], str] = {}
    valid: set[int] = set()
    events = []
    for packet in trace.packet:
        sequence = packet.trusted_packet_sequence_id
        assert sequence > 0
        if packet.sequence_flags & 1 and sequence in valid:
            interned = {key: value for key, value in interned.items() if key[0] != sequence}
        if packet.sequence_flags & 1:
            valid.add(sequence)
        assert sequence in valid, "incremental state used before it was cleared"
        for kind in ("event_names", "event_categories", "debug_annotation_names"):
            for each in getattr(packet.interned_data, kind):
                key = (sequence, kind, each.iid)
                assert each.iid > 0
                assert interned.get(key, each.name) == each.name
                interned[key] = each.name
        if packet.HasField("track_descriptor"):
            assert packet.track_descriptor.uuid not in tracks
            tracks[packet.track_descriptor.uuid] = packet.track_descriptor
        if packet.HasField("track_event"):
            assert packet.sequence_flags & 2
            event = packet.track_event
            names = {
                "name": interned[sequence, "event_names", event.name_iid] if event.name_iid else event.name,
                "categories": tuple(interned[sequence, "event_categories", iid] for iid in event.category_iids),
                "args": {
                    interned[sequence, "debug_annotation_names", each.name_iid]: json.loads(each.legacy_json_value)
                    for each in event.debug_annotations
                },
            }
            events.append((packet.timestamp, event, names))
    events.sort(key=lambda each: each[0])
    timeline = Timeline(processes=[t.process.process_name for t in tracks.values() if t.HasField("process")])
    pids = [t.process.pid for t in tracks.values() if t.HasField("process")]
    assert len(set(pids)) == len(pids)
    assert 0 not in pids
    stacks: dict[int, list[Slice]] = defaultdict(list)
    carried: dict[int, list[Slice]] = defaultdict(list)
    for at, event, names in events:
        track = tracks[event.track_uuid]
        process = tracks[track.parent_uuid].process.process_name
        stack = stacks[event.track_uuid]
        if event.type == proto.TrackEvent.TYPE_COUNTER:
            assert track.HasField("counter")
            timeline.counters[process, track.name].append((at, event.double_counter_value))
        elif event.type == proto.TrackEvent.TYPE_SLICE_BEGIN:
            made = Slice(
                process,
                track.name,
                names["name"],
                names["categories"],
                at,
                -1,
                names["args"].get("args", {}),
                len(stack),
            )
            timeline.slices.append(made)
            stack.append(made)
            for flow in event.flow_ids:
                carried[flow].append(made)
        else:
            assert event.type == proto.TrackEvent.TYPE_SLICE_END
            stack.pop().end_ns = at
    assert not any(stacks.values()), "a slice has no end"
    for ends in carried.values():
        timeline.dangling += len(ends) == 1
        for first, second in zip(ends, ends[1:], strict=False):
            timeline.flows.append((second, first) if first.start_ns > second.start_ns else (first, second))
    return timeline


def _chrome(data: bytes) -> Timeline:
    document = json.loads(data)
    zero = document["baseTimeNanoseconds"]
    processes: dict[int, str] = {}
    threads: dict[tuple[int, int], str] = {}
    rows: dict[tuple[int, int], list[Slice]] = defaultdict(list)
    ends: dict[str, dict[str, tuple[tuple[int, int], int]]] = defaultdict(dict)
    timeline = Timeline()

    def ns(microseconds: float) -> int:
        return round(microseconds * 1000)

    for event in document["traceEvents"]:
        place = (event["pid"], event["tid"])
        if event["ph"] == "M":
            if event["name"] == "process_name":
                processes[event["pid"]] = event["args"]["name"]
                timeline.processes.append(event["args"]["name"])
            elif event["name"] == "thread_name":
                threads[place] = event["args"]["name"]
        elif event["ph"] == "X":
            start = zero + ns(event["ts"])
            categories = tuple(event["cat"].split(",")) if event["cat"] else ()
            track = threads[place].rsplit(" (", 1)[0] if threads[place].endswith(")") else threads[place]
            made = Slice(
                processes[place[0]],
                track,
                event["name"],
                categories,
                start,
                start + ns(event["dur"]),
                event.get("args", {}),
            )
            rows[place].append(made)
            timeline.slices.append(made)
        elif event["ph"] == "C":
            timeline.counters[processes[place[0]], event["name"]].append(
                (zero + ns(event["ts"]), event["args"]["value"])
            )
        else:
            assert event["ph"] in {"s", "f"}
            assert event["ph"] not in ends[event["id"]]
            ends[event["id"]][event["ph"]] = (place, zero + ns(event["ts"]))
    for lane in rows.values():
        _nest(lane)
    for both in ends.values():
        if len(both) < 2:
            timeline.dangling += 1
            continue
        timeline.flows.append((_open_at(rows, *both["s"]), _open_at(rows, *both["f"])))
    return timeline


def _nest(lane: list[Slice]) -> None:
    stack: list[Slice] = []
    for each in sorted(lane, key=lambda s: (s.start_ns, -s.end_ns)):
        while stack and stack[-1].end_ns <= each.start_ns:
            stack.pop()
        assert not stack or each.end_ns <= stack[-1].end_ns, f"{each} overlaps {stack[-1]}"
        each.depth = len(stack)
        stack.append(each)


def _open_at(rows: dict[tuple[int, int], list[Slice]], place: tuple[int, int], at: int) -> Slice:
    within = [s for s in rows[place] if s.start_ns <= at < max(s.end_ns, s.start_ns + 1)]
    return max(within, key=lambda s: s.depth)
