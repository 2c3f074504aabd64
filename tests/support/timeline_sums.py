"""What a timeline shows against the tables that it is made of: nothing lost, nothing twice, sums equal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

import polars as pl
from timeline_reader import Slice, Timeline

_SPAN = ("start_ns", "end_ns")


def check_timeline(
    timeline: Timeline, tables: Mapping[str, pl.DataFrame], *, owners: bool = True, bubble: bool = True
) -> None:
    """Raise where the whole run's timeline differs from its tables. `owners`, `bubble`: whether they are drawn at all."""
    assert timeline.dangling == 0, "a flow has one end"
    ranks = sorted(set(tables["ranks"]["rank"].to_list()))
    assert len(timeline.processes) == len(ranks) + 2
    for rank in ranks:
        own = {name: frame.filter(pl.col("rank") == rank) for name, frame in tables.items() if "rank" in frame.columns}
        of_rank = f"rank {rank}"
        _check_kernels(timeline, of_rank, own["kernels"])
        _check_actions(timeline, of_rank, own["actions"])
        _check_operations(timeline, of_rank, own)
        steps = own["steps"].select("step", *_SPAN).rows()
        assert sorted((s.args["step"], s.start_ns, s.end_ns) for s in timeline.of(of_rank, "steps")) == sorted(steps)
        if owners:
            _check_owners(timeline, of_rank, own["accounting"])
        if bubble:
            _check_bubble(timeline, of_rank, own["bubble"])
        _check_blame(timeline, of_rank, tables["blame"].filter(pl.col("waiter") == rank))
    _check_ideal(timeline, tables)
    _check_counters(timeline, tables, bubble=bubble)


def _check_kernels(timeline: Timeline, of_rank: str, kernels: pl.DataFrame) -> None:
    drawn = [
        (track.removeprefix("stream ").removeprefix("kernels"), s.start_ns, s.end_ns, s.name)
        for track in timeline.tracks(of_rank)
        if track.startswith("stream ") or track == "kernels"
        for s in timeline.of(of_rank, track)
    ]
    listed = kernels.select(
        pl.col("stream").cast(pl.String).fill_null(""), *_SPAN, pl.col("name").cast(pl.String)
    ).rows()
    assert Counter(drawn) == Counter(listed)


def _check_actions(timeline: Timeline, of_rank: str, actions: pl.DataFrame) -> None:
    drawn = [
        (s.args["step"], s.args.get("stage"), s.args["phase"], s.args.get("microbatch"), s.start_ns, s.end_ns)
        for s in timeline.of(of_rank, "actions")
    ]
    listed = actions.select("step", "stage", pl.col("phase").cast(pl.String), "microbatch", *_SPAN).rows()
    assert Counter(drawn) == Counter(listed)


def _check_operations(timeline: Timeline, of_rank: str, own: Mapping[str, pl.DataFrame]) -> None:
    """One slice per collective, per kernel of messages, and per message of the host; and every wait."""
    begun = pl.col("start_ns").is_not_null()
    messages, on_device = own["p2p"].filter(begun), pl.col("index").is_not_null()
    kernels = messages.filter(on_device).unique(["cycle", "index"])
    host = messages.filter(~on_device)
    collectives = own["collectives"].filter(begun)
    drawn = [
        s
        for track in timeline.tracks(of_rank)
        if track.startswith("communication")
        for s in timeline.of(of_rank, track)
    ]
    whole = [s for s in drawn if s.categories == ("communication",)]
    assert len(whole) == len(collectives) + len(kernels) + len(host)
    ends = pl.concat([frame.select(*_SPAN) for frame in (collectives, kernels, host)])
    expected = sum((end if end is not None else start) - start for start, end in ends.rows())
    assert sum(s.ns for s in whole) == expected
    p2p = own["communications"].filter(pl.col("kind") == "p2p")
    waits = [w for frame in (collectives, p2p, host) for w in frame["wait_ns"].to_list() if w is not None and w > 0]
    shown = [s for s in timeline.of(of_rank, "waits") if s.categories == ("wait",)]
    assert sorted(s.ns for s in shown) == sorted(waits)


def _check_owners(timeline: Timeline, of_rank: str, accounting: pl.DataFrame) -> None:
    drawn: Counter[tuple[int, str]] = Counter()
    for each in timeline.of(of_rank, "accounting"):
        drawn[each.args["step"], each.name] += each.ns
    listed: Counter[tuple[int, str]] = Counter()
    for step, owner, cause, ns in accounting.select(
        "step", pl.col("owner").cast(pl.String), "cause", "duration_ns"
    ).rows():
        listed[step, f"{owner}: {cause}"] += ns
    assert +drawn == +listed


_PARTS = {
    "dependency: warm-up": "warmup_ns",
    "dependency: steady": "steady_ns",
    "dependency: drain": "drain_ns",
    "transfer": "transfer_ns",
    "overhead": "overhead_ns",
    "exposed DP wait": "dp_wait_ns",
    "exposed DP transfer": "dp_transfer_ns",
}


def _check_bubble(timeline: Timeline, of_rank: str, bubble: pl.DataFrame) -> None:
    drawn: Counter[tuple[int, int, str]] = Counter()
    for each in timeline.of(of_rank, "bubble"):
        drawn[each.args["pipeline"], each.args["step"], _PARTS[each.name]] += each.ns
    listed: Counter[tuple[int, int, str]] = Counter()
    for row in bubble.iter_rows(named=True):
        for part in _PARTS.values():
            listed[row["pipeline"], row["step"], part] += row[part] or 0
    assert +drawn == +listed


def _check_blame(timeline: Timeline, of_rank: str, blame: pl.DataFrame) -> None:
    drawn = Counter((s.args["step"], s.args["duration_ns"]) for s in timeline.of(of_rank, "blame"))
    assert drawn == Counter(blame.select("step", "duration_ns").rows())
    for each in timeline.of(of_rank, "blame"):
        assert each.ns == max(0, each.args["duration_ns"])


def _check_ideal(timeline: Timeline, tables: Mapping[str, pl.DataFrame]) -> None:
    ideal, bubble = tables["ideal_actions"], tables["bubble"]
    drawn = [s for s in timeline.slices if s.process == "ideal schedule"]
    steps = dict(bubble.group_by("rank").len().rows())
    assert len(drawn) == sum(steps.get(rank, 0) for rank in ideal["rank"].to_list())
    lengths: Counter[str] = Counter()
    for rank, start, end in ideal.select("rank", *_SPAN).rows():
        lengths[f"ideal, rank {rank}"] += (end - start) * steps.get(rank, 0)
    shown: Counter[str] = Counter()
    for each in drawn:
        shown[each.track] += each.ns
    assert +shown == +lengths


def _check_counters(timeline: Timeline, tables: Mapping[str, pl.DataFrame], *, bubble: bool) -> None:
    dependency = pl.sum_horizontal("warmup_ns", "steady_ns", "drain_ns")
    listed = dict(tables["bubble"].group_by("pipeline").agg(dependency.sum()).rows())
    drawn = {name: points for (process, name), points in timeline.counters.items() if process == "job"}
    for pipeline, expected in listed.items() if bubble else ():
        points = next(v for k, v in drawn.items() if k.split(" (")[0] == f"ranks in the bubble, pipeline {pipeline}")
        assert points[-1][1] == 0
        area = sum(value * (after - at) for (at, value), (after, _) in pairwise(points))
        assert area == expected
    blamed = sum(value for name, points in drawn.items() if name.startswith("blame on ") for _, value in points)
    total = tables["blame"].join(tables["bubble"].select("pipeline", "step").unique(), on=["pipeline", "step"])[
        "duration_ns"
    ]
    assert abs(blamed - total.sum() / 1e6) < 1e-6 * (1 + abs(total).sum() / 1e6)


def same(first: Timeline, second: Timeline) -> bool:
    """Whether two formats show the same slices."""

    def key(each: Slice) -> tuple[str, str, str, int, int]:
        return (each.process, each.track, each.name, each.start_ns, each.end_ns)

    return Counter(map(key, first.slices)) == Counter(map(key, second.slices))
