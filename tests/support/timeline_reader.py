"""Reads timelines as a trace viewer does, from the published formats alone; imports nothing from the code under test.

Perfetto: packets are sorted by time, those of one time stay in the file's order; names are looked up in what their sequence
interned before; begins and ends of one track are a stack; a flow joins the slices that carry its number in order of time and
points from the one that starts earlier. Chrome's JSON: complete events of one thread must nest; `s` and `f` bind to the
innermost slice that is open.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from perfetto.protos.perfetto.trace import perfetto_trace_pb2


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
    tracks: dict[int, Any] = {}
    events: list[tuple[int, Any, dict[str, Any]]] = []
    interned: dict[tuple[int, str, int], str] = {}
    valid: set[int] = set()
    for packet in perfetto_trace_pb2.Trace.FromString(data).packet:
        _intern(packet, interned, valid)
        if packet.HasField("track_descriptor"):
            assert packet.track_descriptor.uuid not in tracks
            tracks[packet.track_descriptor.uuid] = packet.track_descriptor
        if packet.HasField("track_event"):
            assert packet.sequence_flags & 2
            events.append((packet.timestamp, packet.track_event, _names(packet, interned)))
    processes = [track.process for track in tracks.values() if track.HasField("process")]
    assert len({process.pid for process in processes} | {0}) == len(processes) + 1
    timeline = Timeline(processes=[process.process_name for process in processes])
    _play(sorted(events, key=lambda each: each[0]), tracks, timeline)
    return timeline


def _intern(packet: Any, interned: dict[tuple[int, str, int], str], valid: set[int]) -> None:
    """Take up the names that a packet brings; forget those of its sequence where it says so."""
    sequence = packet.trusted_packet_sequence_id
    assert sequence > 0
    if packet.sequence_flags & 1:
        assert sequence not in valid, "one process is one sequence here"
        valid.add(sequence)
    assert sequence in valid, "incremental state used before it was cleared"
    for kind in ("event_names", "event_categories", "debug_annotation_names"):
        for each in getattr(packet.interned_data, kind):
            assert each.iid > 0
            assert (sequence, kind, each.iid) not in interned
            interned[sequence, kind, each.iid] = each.name


def _names(packet: Any, interned: dict[tuple[int, str, int], str]) -> dict[str, Any]:
    sequence, event = packet.trusted_packet_sequence_id, packet.track_event
    return {
        "name": interned[sequence, "event_names", event.name_iid] if event.name_iid else event.name,
        "categories": tuple(interned[sequence, "event_categories", iid] for iid in event.category_iids),
        "args": {
            interned[sequence, "debug_annotation_names", each.name_iid]: json.loads(each.legacy_json_value)
            for each in event.debug_annotations
        }.get("args", {}),
    }


def _play(events: list[tuple[int, Any, dict[str, Any]]], tracks: dict[int, Any], timeline: Timeline) -> None:
    stacks: dict[int, list[Slice]] = defaultdict(list)
    carried: dict[int, list[Slice]] = defaultdict(list)
    for at, event, names in events:
        track = tracks[event.track_uuid]
        process = tracks[track.parent_uuid].process.process_name
        stack = stacks[event.track_uuid]
        if event.type == event.TYPE_COUNTER:
            assert track.HasField("counter")
            timeline.counters[process, track.name].append((at, event.double_counter_value))
        elif event.type == event.TYPE_SLICE_BEGIN:
            made = Slice(process, track.name, start_ns=at, end_ns=-1, depth=len(stack), **names)
            timeline.slices.append(made)
            stack.append(made)
        else:
            assert event.type == event.TYPE_SLICE_END
            made = stack.pop()
            made.end_ns = at
        for flow in event.flow_ids:
            carried[flow].append(made)
    assert not any(stacks.values()), "a slice has no end"
    for ends in carried.values():
        timeline.dangling += len(ends) == 1
        for first, second in pairwise(ends):
            timeline.flows.append((second, first) if first.start_ns > second.start_ns else (first, second))


class _Chrome:
    """Events of one JSON document, taken one after the other."""

    def __init__(self, zero_ns: int) -> None:
        self.zero_ns = zero_ns
        self.timeline = Timeline()
        self.processes: dict[int, str] = {}
        self.threads: dict[tuple[int, int], str] = {}
        self.rows: dict[tuple[int, int], list[Slice]] = defaultdict(list)
        self.ends: dict[str, dict[str, tuple[tuple[int, int], int]]] = defaultdict(dict)

    def take(self, event: dict[str, Any]) -> None:
        place = (event["pid"], event["tid"])
        kind = event["ph"]
        if kind == "M":
            self._named(event, place)
        elif kind == "X":
            self._slice(event, place)
        elif kind == "C":
            self.timeline.counters[self.processes[place[0]], event["name"]].append(
                (self._at(event), event["args"]["value"])
            )
        else:
            assert kind in {"s", "f"}
            assert kind not in self.ends[event["id"]]
            self.ends[event["id"]][kind] = (place, self._at(event))

    def _named(self, event: dict[str, Any], place: tuple[int, int]) -> None:
        if event["name"] == "process_name":
            self.processes[place[0]] = event["args"]["name"]
            self.timeline.processes.append(event["args"]["name"])
        elif event["name"] == "thread_name":
            self.threads[place] = event["args"]["name"]

    def _slice(self, event: dict[str, Any], place: tuple[int, int]) -> None:
        start = self._at(event)
        made = Slice(
            process=self.processes[place[0]],
            track=re.sub(r" \(\d+\)$", "", self.threads[place]),
            name=event["name"],
            categories=tuple(event["cat"].split(",")) if event["cat"] else (),
            start_ns=start,
            end_ns=start + round(event["dur"] * 1000),
            args=event.get("args", {}),
        )
        self.rows[place].append(made)
        self.timeline.slices.append(made)

    def _at(self, event: dict[str, Any]) -> int:
        return self.zero_ns + round(event["ts"] * 1000)


def _chrome(data: bytes) -> Timeline:
    document = json.loads(data)
    taken = _Chrome(document["baseTimeNanoseconds"])
    for event in document["traceEvents"]:
        taken.take(event)
    for lane in taken.rows.values():
        _nest(lane)
    for both in taken.ends.values():
        if len(both) < 2:
            taken.timeline.dangling += 1
        else:
            ends = (_open_at(taken.rows, *both[way]) for way in ("s", "f"))
            taken.timeline.flows.append(tuple(ends))  # type: ignore[arg-type]
    return taken.timeline


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
