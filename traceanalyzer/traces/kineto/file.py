"""One stream of bytes to settled frames and the facts about it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl

from traceanalyzer.traces.decoding.document import NotATraceError
from traceanalyzer.traces.decoding.settle import Settling
from traceanalyzer.traces.defects import DefectLog
from traceanalyzer.traces.formats import format_of
from traceanalyzer.traces.input.codecs import Peeked, Reader
from traceanalyzer.traces.input.limits import Limits
from traceanalyzer.traces.kineto.checks import Checks
from traceanalyzer.traces.kineto.facts import (
    FileFacts,
    base_time,
    check_version,
    distributed_info,
    group_conflicts,
    json_text,
    other_metadata,
    recorded_rank,
    recorder_note,
    text_of,
)
from traceanalyzer.traces.kineto.merged import computing_devices, launching_processes, ranks_of_processes
from traceanalyzer.traces.kineto.ranks.names import rank_in_name
from traceanalyzer.traces.kineto.ranks.sources import EventRanks
from traceanalyzer.traces.tally import Tally

Sink = Callable[[pl.DataFrame], None]
"""Takes frames of `ROW_SCHEMA` in order."""


class _Hashing:
    """Hashes what is read in a thread of its own: hashing releases the interpreter's lock."""

    __slots__ = ("_digest", "_inner", "_last", "_pool")

    def __init__(self, inner: Reader) -> None:
        self._inner = inner
        self._digest = hashlib.blake2b(digest_size=16)
        self._pool = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def read(self, size: int) -> bytes:
        data = self._inner.read(size)
        if self._last is not None:
            self._last.result()  # one piece at a time, so that what waits is bounded
        self._last = self._pool.submit(self._digest.update, data)
        return data

    def hexdigest(self) -> str:
        """Of everything that was read; nothing can be read afterwards."""
        self._pool.shutdown()
        return self._digest.hexdigest()


def read_document(
    stream: Peeked, file: str, *, limits: Limits, log: DefectLog, sink: Sink, run_folder: str | None = None
) -> FileFacts:
    """Read one trace document of any of `FORMATS`, hand its frames to `sink` and return its facts.

    Raises `NotATraceError` if the bytes hold no events at all.
    """
    hashing, tally = _Hashing(stream), Tally()
    document = format_of(stream.head).opened(hashing, file, limits, tally, log)
    settling, checks, ranks, num_events = Settling(tally, log), Checks(), EventRanks(), 0
    for decoded in document.frames():
        frame = settling.settle(decoded.frame)
        for receive in (checks.add, ranks.add, sink):
            receive(frame)
        num_events += frame.height
    settling.finish()
    bounds = checks.time_bounds()
    outside = bounds[2] if bounds else 0
    _drop_outside(outside, tally, log)
    repeated = checks.repeated(bounds)
    _drop_repeated(len(repeated), tally, log)
    tally.events_kept = num_events + settling.num_pairs - outside - len(repeated)
    counts = tally.counts()
    if not checks.num_complete:
        raise NotATraceError(_why_nothing(counts.events_seen, log))
    parts = _ranks_inside(checks, ranks.found() if document.ranks is None else document.ranks)
    checks.judge(log)
    metadata, info = document.metadata, distributed_info(document.metadata)
    check_version(metadata, log)
    if conflicts := group_conflicts(info):
        log.add("comm.group_conflict", events=conflicts)
    note = recorder_note(metadata)
    rank, world = recorded_rank(info if "rank" in info else note, log)
    return FileFacts(
        file=file,
        run_folder=run_folder,
        digest=hashing.hexdigest(),
        recorded_rank=rank,
        process_ranks=dict(parts.processes),
        device_ranks=parts.devices,
        processes_unclear=parts.unclear,
        name_rank=rank_in_name(file),
        world_size=world,
        backend=info.get("backend") if isinstance(info.get("backend"), str) else None,
        host=text_of(metadata, "host_name"),
        main_process=checks.main_process(),
        base_ns=base_time(metadata, log),
        num_events=num_events - outside - len(repeated),
        start_ns=checks.span(bounds)[0],
        end_ns=checks.span(bounds)[1],
        time_from_ns=bounds[0] if bounds else None,
        time_to_ns=bounds[1] if bounds else None,
        repeated=repeated,
        job_id=note["job_id"] if isinstance(note.get("job_id"), str) else None,
        process_groups=json_text(info.get("pg_config")),
        devices=metadata["deviceProperties"].decode("utf-8", "replace") if "deviceProperties" in metadata else None,
        metadata=other_metadata(metadata),
        counts=counts,
        defects=tuple(log.rows()),
    )


@dataclass(frozen=True, slots=True)
class _Inside:
    """Ranks in one file."""

    processes: Mapping[str, int]
    devices: dict[int, int]
    unclear: int = 0


def _ranks_inside(checks: Checks, recorded: Mapping[str, int]) -> _Inside:
    """Ranks that events tell by process, else those of several launching processes, else of one that uses several devices."""
    launched, work = checks.launched(), checks.device_work()
    if len(set(recorded.values())) > 1 or not launched.height or not work.height:
        return _Inside(recorded, {})
    processes = launching_processes(launched, work)
    if len(processes) > 1:
        found = ranks_of_processes(launched, work)
        return _Inside(recorded, {}, len(processes)) if found is None else _Inside(found, {})
    devices = computing_devices(work)
    return _Inside(recorded, {device: place for place, device in enumerate(devices)} if len(devices) > 1 else {})


def credible(frame: pl.DataFrame, facts: FileFacts) -> pl.DataFrame:
    """The rows whose time can be right (`time_from_ns` to `time_to_ns`), each once."""
    if facts.repeated:
        again = pl.Series(facts.repeated, dtype=pl.Int64).implode()
        frame = frame.filter(~pl.col("index").is_in(again))
    if facts.time_from_ns is None or facts.time_to_ns is None:
        return frame
    return frame.filter(
        (pl.col("ph") != "X") | pl.col("start_ns").is_between(facts.time_from_ns, facts.time_to_ns, closed="left")
    )


def _drop_repeated(number: int, tally: Tally, log: DefectLog) -> None:
    if number:
        tally.drop_events("duplicate", number, seen=False)
        log.add("event.duplicates", events=number)


def _drop_outside(num_events: int, tally: Tally, log: DefectLog) -> None:
    """Count events whose times cannot be the trace's."""
    if num_events:
        tally.drop_events("time_outside", num_events, seen=False)
        log.add("event.time_outside", events=num_events)


def _why_nothing(num_seen: int, log: DefectLog) -> str:
    if "codec.truncated" in log or "json.truncated" in log:
        return "it ends before its first complete event"
    return "it has no complete event" if num_seen else "its event array is empty"
