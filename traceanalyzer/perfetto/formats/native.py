"""Perfetto's own format: track events in protocol buffers, with names interned process by process.

Every process is a packet sequence of its own, so what its names need in a reader's memory ends with it. Times are
nanoseconds since the Unix epoch. Lanes of one track have one name and one parent, by which viewers show them as one.

A flow leaves a slice where it begins and enters one where it ends: of two slices that begin at one moment, a viewer points it
away from the one that it met first.
"""

from __future__ import annotations

import importlib
from typing import IO, Any

from traceanalyzer.errors import UsageError
from traceanalyzer.perfetto.timeline import Counter, Process, Track, lanes_of, marks

_ARGS = 1
"""Interned number of the one name of arguments."""
_CLEARED, _NEEDS = 1, 2
_BUFFER = 1 << 20


def protocol() -> Any:  # noqa: ANN401 - generated classes have no useful types
    """Perfetto's published message types. Raises `UsageError` if the package is not installed."""
    try:
        return importlib.import_module("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    except ImportError:
        raise UsageError(
            "Perfetto's format needs the package perfetto, which is not installed",
            'pip install "traceanalyzer-llm[perfetto]", or write Chrome\'s JSON, which needs nothing: --format json',
        ) from None


class NativeWriter:
    """Writes a timeline as a Perfetto trace."""

    def __init__(self, file: IO[bytes]) -> None:
        self._proto = protocol()
        self._file = file
        self._waiting = bytearray()
        self._sequence = 0
        self._names: dict[str, int] = {}
        self._categories: dict[str, int] = {}
        self._next_track = 0
        self.num_slices = 0

    def process(self, process: Process) -> None:
        """Write a process with all its tracks."""
        self._sequence += 1
        self._names, self._categories, self._next_track = {}, {}, 0
        self._begin_sequence()
        place = process.id << 32
        about = self._descriptor(place, process.name)
        about.track_descriptor.process.pid = process.id
        about.track_descriptor.process.process_name = process.name
        about.track_descriptor.child_ordering = self._proto.TrackDescriptor.EXPLICIT
        about.track_descriptor.sibling_order_rank = self._sequence
        self._write(about)
        for order, track in enumerate(process.tracks):
            self._track(track, place, order)
        for order, counter in enumerate(process.counters, len(process.tracks)):
            self._counter(counter, place, order)

    def close(self) -> None:
        """Write what waits."""
        self._file.write(self._waiting)
        self._waiting.clear()

    def _begin_sequence(self) -> None:
        packet = self._packet(_CLEARED)
        packet.incremental_state_cleared = True
        packet.first_packet_on_sequence = True
        packet.interned_data.debug_annotation_names.add(iid=_ARGS, name="args")
        self._write(packet)

    def _packet(self, flags: int = _NEEDS) -> Any:  # noqa: ANN401
        return self._proto.TracePacket(trusted_packet_sequence_id=self._sequence, sequence_flags=flags)

    def _descriptor(self, uuid: int, name: str) -> Any:  # noqa: ANN401
        packet = self._packet()
        packet.track_descriptor.uuid = uuid
        packet.track_descriptor.name = name
        return packet

    def _child(self, place: int, name: str, order: int, description: str) -> Any:  # noqa: ANN401
        self._next_track += 1
        packet = self._descriptor(place | self._next_track, name)
        packet.track_descriptor.parent_uuid = place
        packet.track_descriptor.sibling_order_rank = order
        if description:
            packet.track_descriptor.description = description
        return packet

    def _track(self, track: Track, place: int, order: int) -> None:
        for _, rows in lanes_of(track):
            described = self._child(place, track.name, order, track.description)
            uuid = described.track_descriptor.uuid
            self._write(described)
            self._slices(rows.to_dict(as_series=False), uuid)
            self.num_slices += rows.height

    def _slices(self, rows: dict[str, list[Any]], uuid: int) -> None:
        starts, ends = rows["start_ns"], rows["end_ns"]
        names, categories, args, out, into = (rows[key] for key in ("name", "category", "args", "out", "into"))
        packet_of, begin = self._proto.TracePacket, self._proto.TrackEvent.TYPE_SLICE_BEGIN
        end = packet_of(trusted_packet_sequence_id=self._sequence, sequence_flags=_NEEDS)
        end.track_event.type = self._proto.TrackEvent.TYPE_SLICE_END
        end.track_event.track_uuid = uuid
        for mark in marks(starts, ends):
            if not mark.begins:
                end.timestamp = mark.at_ns
                end.track_event.flow_ids[:] = into[mark.row]
                self._write(end)
                continue
            row = mark.row
            packet = packet_of(timestamp=mark.at_ns, trusted_packet_sequence_id=self._sequence, sequence_flags=_NEEDS)
            event = packet.track_event
            event.type = begin
            event.track_uuid = uuid
            event.name_iid = self._interned(packet, names[row])
            if categories[row]:
                event.category_iids.extend([self._category(packet, each) for each in categories[row].split(",")])
            if args[row] is not None:
                event.debug_annotations.add(name_iid=_ARGS, legacy_json_value=args[row])
            event.flow_ids.extend(out[row])
            self._write(packet)

    def _counter(self, counter: Counter, place: int, order: int) -> None:
        described = self._child(place, counter.name, order, counter.description)
        described.track_descriptor.counter.unit_name = counter.unit
        self._write(described)
        for at_ns, value in counter.points.iter_rows():
            packet = self._packet()
            packet.timestamp = at_ns
            packet.track_event.type = self._proto.TrackEvent.TYPE_COUNTER
            packet.track_event.track_uuid = described.track_descriptor.uuid
            packet.track_event.double_counter_value = value
            self._write(packet)

    def _interned(self, packet: Any, name: str) -> int:  # noqa: ANN401
        number = self._names.get(name)
        if number is None:
            number = self._names[name] = len(self._names) + 1
            packet.interned_data.event_names.add(iid=number, name=name)
        return number

    def _category(self, packet: Any, name: str) -> int:  # noqa: ANN401
        number = self._categories.get(name)
        if number is None:
            number = self._categories[name] = len(self._categories) + 1
            packet.interned_data.event_categories.add(iid=number, name=name)
        return number

    def _write(self, packet: Any) -> None:  # noqa: ANN401
        """A packet as a field of the message `Trace`: its number, the length, the bytes."""
        content: bytes = packet.SerializeToString()
        self._waiting.append(0x0A)
        length = len(content)
        while length > 0x7F:
            self._waiting.append((length & 0x7F) | 0x80)
            length >>= 7
        self._waiting.append(length)
        self._waiting += content
        if len(self._waiting) > _BUFFER:
            self.close()
