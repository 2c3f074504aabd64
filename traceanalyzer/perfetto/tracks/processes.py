"""A run as processes: the job, the ideal schedule, and every rank, made one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import polars as pl

from traceanalyzer.perfetto.source import Source, ranks_of
from traceanalyzer.perfetto.timeline import Process, Track
from traceanalyzer.perfetto.tracks import accounts, recorded, schedule
from traceanalyzer.perfetto.tracks.operations import Operations, operations
from traceanalyzer.perfetto.window import Choice, Window, window


@dataclass
class Remarks:
    """What a reader must know of a timeline beside what it shows."""

    notes: list[str] = field(default_factory=list[str])
    num_flows: int = 0


def processes(source: Source, choice: Choice, remarks: Remarks, *, cpu: bool) -> Iterator[Process]:
    """Everything that is drawn of the chosen part; recorded work of one rank is in memory at a time.

    `cpu` asks for the host's threads. Raises `UsageError` if nothing was chosen.
    """
    chosen = window(choice, ranks_of(source), source.whole("steps"))
    drawn = _with_owners(source, chosen, remarks)
    found = operations(source, chosen, drawn)
    remarks.num_flows = found.num_flows
    idle = accounts.idle(source)
    if idle.is_empty() and not source.whole("bubble").is_empty():
        remarks.notes.append(
            "the bubble is not drawn: this result does not say what each action waited for; give the traces"
        )
    if source.recorded is None and source.table("kernels").head(1).collect().height:
        remarks.notes.append("kernels do not have recorded arguments: no trace is at hand (--traces CAPTURE)")
    top = max(chosen.ranks) + 2
    yield Process(top, "job", (), [*accounts.ranks_idle(idle, chosen), *accounts.blame_counters(source, chosen)])
    yield Process(top + 1, "ideal schedule", list(schedule.ideal(source, chosen)))
    for rank in chosen.ranks:
        yield _rank(rank, source, chosen, found, idle, cpu=cpu, with_owners=rank in drawn)


def _with_owners(source: Source, chosen: Window, remarks: Remarks) -> list[int]:
    """Ranks whose owners are known."""
    if source.has_main_threads:
        return list(chosen.ranks)
    on_device = set(source.table("kernels").select(pl.col("rank").unique()).collect()["rank"])
    without = [rank for rank in chosen.ranks if rank not in on_device]
    if without:
        remarks.notes.append(
            f"{len(without)} of {len(chosen.ranks)} ranks have no device and so no accounting here: this result was kept "
            "without their main threads; make it again, or give the traces"
        )
    return [rank for rank in chosen.ranks if rank in on_device]


def _rank(
    rank: int,
    source: Source,
    chosen: Window,
    found: Operations,
    idle: pl.DataFrame,
    *,
    cpu: bool,
    with_owners: bool,
) -> Process:
    waiting, curves = accounts.bubble(rank, idle, chosen)
    owned = accounts.owners(rank, source, chosen, found.owners) if with_owners else None
    tracks = [
        schedule.findings(rank, source, chosen),
        schedule.steps(rank, source, chosen),
        *([] if owned is None else [owned]),
        schedule.actions(rank, found.actions),
        *waiting,
        found.waits(rank),
        *accounts.blame_of_waiter(rank, source, chosen),
        *found.communication(rank),
        *_recorded(rank, source, chosen, cpu=cpu),
    ]
    return Process(rank + 1, _name(rank, source), [track for track in tracks if track.slices.height], curves)


def _recorded(rank: int, source: Source, chosen: Window, *, cpu: bool) -> Iterator[Track]:
    kernels = chosen.kept(source.of_rank("kernels", rank))
    events = source.events(rank)
    calls = None
    if events is not None:
        ends = (pl.col("start_ns") + pl.col("duration_ns").fill_null(0)).alias("end_ns")
        events = chosen.kept(events.with_columns(ends))
        calls = recorded.launch_flows(rank, kernels, events) if cpu else None
    yield from recorded.streams(rank, kernels, events, calls=calls)
    if events is not None and calls is not None:
        yield from recorded.threads(events, calls)


def _name(rank: int, source: Source) -> str:
    places = source.of_rank("ranks", rank)
    host = next(iter(places["host"].drop_nulls()), None)
    stages = source.of_rank("actions", rank)["stage"].drop_nulls().unique().sort().to_list()
    stage = f", stage {' and '.join(map(str, stages))}" if stages else ""
    return f"rank {rank}{stage}{f' on {host}' if host else ''}"
