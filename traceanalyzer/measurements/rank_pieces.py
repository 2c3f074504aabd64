"""Device ranks as pieces of own work between communications: what a rank did, in the order in which it could do it.

The compute kernels of a rank (all streams together) are cut into *pieces* wherever a communication hangs on them:

* where one was *posted*: it starts after the last compute kernel launched before it, and after the one before it on its
  stream. A communication that started earlier than that kernel ended did not wait for it; then the last compute kernel
  that had ended counts;
* where one *released* the next kernel: it ended while no compute kernel ran. That idle time belongs to no piece;
* where one is *awaited*: the next kernel launched after it never starts before it ended, for all operations of its kind.

Idle time inside a piece, between a release and the piece, and between being able to start a communication and starting it
is `host` until the launching call of what follows returned, with the launch's own latency after a late one; else `idle`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from traceanalyzer.measurements.device_accounting import COMPUTE_KINDS, MAX_LAUNCH_GAP_NS, MAX_RELEASE_NS

Vector = npt.NDArray[np.int64]
ROUNDING_NS = 2_000
"""Two times of one rank that differ by no more are the same."""
NO_LAUNCH = np.iinfo(np.int64).min
_KERNEL = ["rank", "cycle", "index"]


@dataclass(frozen=True, slots=True)
class Operations:
    """Communication kernels of one rank by start; one entry of every vector for each."""

    index: Vector
    """Of the kernel."""
    start_ns: Vector
    end_ns: Vector
    post: Vector
    """The piece at whose end it could start, or -1."""
    previous: Vector
    """The operation before it on its stream, or -1."""
    after: Vector
    """The operation of another stream that it followed at once, and so waited for; or -1."""
    host_ns: Vector
    """Starting later than possible: the part before its launch returned."""
    idle_ns: Vector
    """The rest of it."""


@dataclass(frozen=True, slots=True)
class RankPieces:
    """One rank. Pieces follow each other; one entry of every vector for each."""

    rank: int
    origin_ns: int
    """Start of the first step."""
    start_ns: Vector
    end_ns: Vector
    computing_ns: Vector
    host_ns: Vector
    idle_ns: Vector
    released_by: dict[int, list[int]]
    """Operations that released a piece."""
    operations: Operations
    kernel_piece: Vector
    """Of every compute kernel by start: the piece in which it ends."""
    kernel_ns: Vector
    """Its duration."""
    kernel_names: pl.Series = field(repr=False)
    stalls: pl.DataFrame = field(repr=False)
    """Idle time that is the host's: `rank`, `start_ns`, `end_ns` (the launch returned), `thread`, and whether a compute
    kernel followed (`computes`) or a communication."""


@dataclass(frozen=True, slots=True)
class _Work:
    """Compute kernels of a rank by start."""

    start: Vector
    end: Vector
    launched: Vector
    """Start and end of the launching call, `NO_LAUNCH` where not recorded."""
    returned: Vector
    reach: Vector
    """Latest end of this and all earlier kernels."""
    threads: list[str | None]
    names: pl.Series


def rank_pieces(
    kernels: pl.DataFrame,
    communications: pl.DataFrame,
    messages: pl.DataFrame,
    windows: pl.DataFrame,
    consumers: Mapping[tuple[int, int], int] | None = None,
) -> list[RankPieces]:
    """Pieces of every device rank from `KERNELS`, `COMMUNICATIONS`, `P2P` and `STEPS`; only what lies inside windows.

    `consumers` tells when the work started that needs what a communication kernel (rank and index) brings, where known.
    """
    bounds = windows.group_by("rank").agg(pl.col("start_ns").min().alias("_from"), pl.col("end_ns").max().alias("_to"))
    inside = kernels.join(bounds, on="rank").filter(
        (pl.col("end_ns") > pl.col("_from")) & (pl.col("start_ns") < pl.col("_to"))
    )
    ways = messages.filter(pl.col("index").is_not_null()).group_by(_KERNEL).agg(
        pl.col("direction").cast(pl.String).unique().sort().str.join("+").alias("way")
    )  # fmt: skip
    use = pl.concat_str(pl.col("kind"), pl.col("role").cast(pl.String), "way", separator="/", ignore_nulls=True)
    known = (
        communications.join(ways, on=_KERNEL, how="left")
        .select(*_KERNEL, use.alias("use"))
        .unique(_KERNEL, keep="first", maintain_order=True)
    )
    found: list[RankPieces] = []
    for (rank,), rows in sorted(inside.partition_by("rank", as_dict=True).items()):
        work = _work(rows.filter(pl.col("kind").is_in(COMPUTE_KINDS)))
        exchanged = rows.join(known, on=_KERNEL, how="inner").sort("start_ns", "end_ns", "index")
        marks = windows.filter(pl.col("rank") == rank)
        found.append(_pieces(int(str(rank)), work, exchanged, marks, consumers or {}))
    return found


def _work(rows: pl.DataFrame) -> _Work:
    ordered = rows.sort("start_ns", "end_ns", "index")
    start, end = (ordered[name].to_numpy().astype(np.int64) for name in ("start_ns", "end_ns"))
    launched, returned = (
        ordered[name].fill_null(NO_LAUNCH).to_numpy().astype(np.int64) for name in ("launch_start_ns", "launch_end_ns")
    )
    reach = np.maximum.accumulate(end) if len(end) else end
    return _Work(start, end, launched, returned, reach, ordered["launch_thread"].cast(pl.String).to_list(), ordered["name"])


def _pieces(
    rank: int, work: _Work, exchanged: pl.DataFrame, marks: pl.DataFrame, consumers: Mapping[tuple[int, int], int]
) -> RankPieces:
    starts, ends = (exchanged[name].to_numpy().astype(np.int64) for name in ("start_ns", "end_ns"))
    origin = int(marks["start_ns"].to_numpy().min())
    gaps = np.flatnonzero(work.start[1:] > work.reach[:-1]) + 1
    gap_from, gap_to = work.reach[gaps - 1], work.start[gaps]
    if len(work.start) and work.start[0] > origin:  # before the first kernel
        gaps = np.concatenate([[0], gaps])
        gap_from, gap_to = np.concatenate([[origin], gap_from]), np.concatenate([[work.start[0]], gap_to])
    releasing = _releasing(gap_from, gap_to, ends)
    posts = _post_times(work, exchanged, starts)
    holes = sorted(releasing)
    awaited = _awaited(work, exchanged, ends)
    awaited |= {
        at: consumers[rank, index] for at, index in enumerate(exchanged["index"].to_list()) if (rank, index) in consumers
    }
    times = np.concatenate([posts[posts > NO_LAUNCH], np.array([*awaited.values()], np.int64), *_marks(marks)])
    span = (origin, int(work.reach[-1]) if len(work.end) else origin)
    piece_from, piece_to = _cuts(times, gap_from[holes], gap_to[holes], span)
    available = gap_from.copy()  # from when on the kernel after a gap could have run
    for gap, operations in releasing.items():
        available[gap] = min(max(int(gap_from[gap]), int(ends[operations].max())), int(gap_to[gap]))
    waited = gap_to - available
    host = _until_launched(available, gap_to, work.returned[gaps])
    of_gap = np.searchsorted(piece_from, np.where(np.isin(np.arange(len(gaps)), holes), gap_to, gap_from), "right") - 1
    host_ns, gap_ns = np.zeros(len(piece_from), np.int64), np.zeros(len(piece_from), np.int64)
    np.add.at(host_ns, of_gap, host)
    np.add.at(gap_ns, of_gap, waited)
    operations = _operations(exchanged, starts, ends, posts, piece_to, origin)
    length = piece_to - piece_from
    outside = np.zeros(len(piece_from), np.int64)
    np.add.at(outside, of_gap[holes], waited[holes])
    return RankPieces(
        rank=rank,
        origin_ns=origin,
        start_ns=piece_from,
        end_ns=piece_to,
        computing_ns=length - (gap_ns - outside),
        host_ns=host_ns,
        idle_ns=gap_ns - host_ns,
        released_by=_released_by({int(of_gap[gap]): found for gap, found in releasing.items()}, awaited, piece_from),
        operations=operations,
        kernel_piece=np.searchsorted(piece_to, work.end, "left").clip(0, max(len(piece_to) - 1, 0)),
        kernel_ns=work.end - work.start,
        kernel_names=work.names,
        stalls=pl.concat(
            [
                _stalls(rank, available, host, [work.threads[at] for at in gaps.tolist()], computes=True),
                _late_operations(rank, exchanged, operations),
            ]
        ).sort("start_ns"),
    )


def _releasing(gap_from: Vector, gap_to: Vector, ends: Vector) -> dict[int, list[int]]:
    """Of every gap the operations that ended in it."""
    at = np.searchsorted(gap_to, ends - ROUNDING_NS, "left")
    found: dict[int, list[int]] = {}
    for operation, gap in enumerate(at.tolist()):
        if gap < len(gap_to) and ends[operation] > gap_from[gap]:
            found.setdefault(gap, []).append(operation)
    return found


def _post_times(work: _Work, exchanged: pl.DataFrame, starts: Vector) -> Vector:
    """When the compute kernel ended that each operation had to wait for; `NO_LAUNCH` without one."""
    if not len(work.start):
        return np.full(len(starts), NO_LAUNCH)
    order = np.argsort(work.launched, kind="stable")
    by_launch, reached = work.launched[order], np.maximum.accumulate(work.end[order])
    posted = exchanged["launch_start_ns"].fill_null(NO_LAUNCH).to_numpy().astype(np.int64)
    at = np.searchsorted(by_launch, posted, "right") - 1
    needed = np.where((at >= 0) & (posted > NO_LAUNCH), reached[at.clip(0)], NO_LAUNCH)
    by_end = np.sort(work.end)
    before = np.searchsorted(by_end, starts + ROUNDING_NS, "right") - 1
    ended = np.where(before >= 0, by_end[before.clip(0)], NO_LAUNCH)
    return np.where((needed > NO_LAUNCH) & (needed <= starts + ROUNDING_NS), needed, ended)


def _awaited(work: _Work, exchanged: pl.DataFrame, ends: Vector) -> dict[int, int]:
    """Of operations the start of the kernel that waits for them: the next one launched, where none of their kind starts before it ends."""
    if not len(work.start) or exchanged.is_empty():
        return {}
    order = np.argsort(work.launched, kind="stable")
    posted = exchanged["launch_start_ns"].fill_null(NO_LAUNCH).to_numpy().astype(np.int64)
    at = np.searchsorted(work.launched[order], posted, "right")
    known = (at < len(order)) & (posted > NO_LAUNCH)
    following = order[at.clip(0, len(order) - 1)]
    overlaps = known & (work.start[following] < ends - ROUNDING_NS)
    uses = exchanged["use"].to_list()
    overlapped = {uses[operation] for operation in np.flatnonzero(overlaps).tolist()}
    waits = [operation for operation in np.flatnonzero(known).tolist() if uses[operation] not in overlapped]
    return {operation: int(work.start[following[operation]]) for operation in waits}


def _released_by(found: dict[int, list[int]], awaited: dict[int, int], piece_from: Vector) -> dict[int, list[int]]:
    """The operations that released each piece, or that its first kernel waits for."""
    for operation, start in awaited.items():
        piece = int(np.searchsorted(piece_from, start, "left"))
        if piece < len(piece_from) and piece_from[piece] == start:
            known = found.setdefault(piece, [])
            if operation not in known:
                known.append(operation)
    return found


def _marks(windows: pl.DataFrame) -> list[Vector]:
    return [windows[name].to_numpy().astype(np.int64) for name in ("start_ns", "end_ns")]


def _cuts(times: Vector, hole_from: Vector, hole_to: Vector, span: tuple[int, int]) -> tuple[Vector, Vector]:
    """Starts and ends of the pieces between all cuts, without the holes."""
    at = np.searchsorted(hole_from, times, "left") - 1  # cuts inside a hole mean its start
    times = np.where((at >= 0) & (times < hole_to[at.clip(0)]), hole_from[at.clip(0)], times) if len(hole_from) else times
    edges = np.unique(np.concatenate([times, hole_from, hole_to, np.array(span)]).clip(*span)).astype(np.int64)
    piece_from, piece_to = edges[:-1], edges[1:]
    kept = ~np.isin(piece_from, hole_from)
    return piece_from[kept], piece_to[kept]


def _operations(
    exchanged: pl.DataFrame, starts: Vector, ends: Vector, posts: Vector, piece_to: Vector, origin: int
) -> Operations:
    post = np.where(posts > NO_LAUNCH, np.searchsorted(piece_to, posts, "right") - 1, -1)
    previous = np.full(len(starts), -1)
    last: dict[int | None, int] = {}
    for at, stream in enumerate(exchanged["stream"].to_list()):
        before = last.get(stream, -1)
        if before >= 0 and ends[before] <= starts[at] + ROUNDING_NS:
            previous[at] = before
        last[stream] = at
    ready = np.maximum(np.where(post >= 0, posts, origin), np.where(previous >= 0, ends[previous], origin))
    after = _followed(starts, ends, ready)
    ready = np.maximum(ready, np.where(after >= 0, np.minimum(ends[after], starts), origin))
    late = (starts - ready).clip(0)
    returned = exchanged["launch_end_ns"].fill_null(NO_LAUNCH).to_numpy().astype(np.int64)
    host = _until_launched(starts - late, starts, returned)
    index = exchanged["index"].to_numpy().astype(np.int64)
    return Operations(index, starts, ends, post, previous, after, host, late - host)


def _until_launched(start: Vector, end: Vector, returned: Vector) -> Vector:
    """The host's part of idle time: until the launch returned, with what a launch onto an empty device takes to start."""
    waited = end - start
    host = np.clip(returned - start, 0, waited)
    return np.where((host > 0) & (waited - host <= MAX_LAUNCH_GAP_NS), waited, host)


def _followed(starts: Vector, ends: Vector, ready: Vector) -> Vector:
    """The operation that ended last within 20 µs before each one's start, if it could not have started before that."""
    if not len(starts):
        return np.full(0, -1)
    order = np.argsort(ends, kind="stable")
    at = np.searchsorted(ends[order], starts + ROUNDING_NS, "right") - 1
    last = order[at.clip(0)]
    waited = (at >= 0) & (ends[last] > ready + ROUNDING_NS) & (starts - ends[last] <= MAX_RELEASE_NS)
    return np.where(waited & (last < np.arange(len(starts))), last, -1)


def _stalls(rank: int, start: Vector, host: Vector, threads: list[str | None], *, computes: bool) -> pl.DataFrame:
    late = np.flatnonzero(host > 0)
    return pl.DataFrame(
        {
            "rank": pl.Series([rank] * len(late), dtype=pl.Int32),
            "start_ns": start[late],
            "end_ns": start[late] + host[late],
            "thread": pl.Series([threads[at] for at in late.tolist()], dtype=pl.String),
            "computes": pl.Series([computes] * len(late), dtype=pl.Boolean),
        }
    )


def _late_operations(rank: int, exchanged: pl.DataFrame, operations: Operations) -> pl.DataFrame:
    """Stalls before communications."""
    ready = operations.start_ns - operations.host_ns - operations.idle_ns
    threads = exchanged["launch_thread"].cast(pl.String).to_list()
    return _stalls(rank, ready, operations.host_ns, threads, computes=False)
