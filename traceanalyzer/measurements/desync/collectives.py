"""Where the calls of a group's members come apart: who did not call what, from flight-recorder dumps.

Numbers count the calls of a group on each rank. Under one number every member must have called the same. A rank whose ring
buffer begins later has forgotten a call, which proves nothing; a call that ended somewhere, and ends only with all members, was
made by all of them, so that a dump without it is older than the others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from traceanalyzer.measurements.desync.signatures import calls_by_rank

_ENDS_WITH_ALL = re.compile(r"all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|barrier", re.IGNORECASE)
_MAX_SHIFT = 8
_SLACK_NS = 1_000_000_000
"""Clocks of hosts may differ by so much when the reach of two ring buffers is compared."""


@dataclass(frozen=True, slots=True)
class Apart:
    """One place where members of a group come apart."""

    kind: str
    """skipped, repeated, differs, missing, old_dump, no_dump, not_started, shapes, all_called; nobody can be named: unlisted,
    forgotten, left_out"""
    group: str
    description: str | None
    size: int | None
    sequence: int
    operation: str
    ranks: tuple[int, ...]
    """Who stands out; empty if no majority tells."""
    others: tuple[int, ...]
    calls: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """What was called, and by whom."""
    shift: int = 0
    """Calls skipped or made too many."""
    num_compared: int = 0
    """Calls that prove it."""


@dataclass(frozen=True, slots=True)
class _Call:
    agreed: str
    exact: str
    shown: str
    whole: str
    operation: str
    ended: bool
    state: str | None
    created_ns: int | None


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    description: str | None
    members: tuple[int, ...] | None
    """Where a dump lists them."""
    calls: Mapping[int, Mapping[int, _Call]]
    """By rank and number."""

    def under(self, number: int) -> dict[int, _Call]:
        return {rank: calls[number] for rank, calls in self.calls.items() if number in calls}

    def possible(self, present: set[int]) -> set[int]:
        """Its members, as far as known: listed, seen to call, or all ranks where it is the default group."""
        if self.members is not None:
            return set(self.members)
        return set(self.calls) | (present if self.description == "default_pg" else set())

    def made_since(self, rank: int, number: int) -> bool:
        """Whether a rank's dump holds later calls alone, so that it made this one, too."""
        own = self.calls.get(rank)
        return bool(own) and min(own) > number

    def apart(self, kind: str, number: int, ranks: Sequence[int], others: Sequence[int]) -> Apart:
        called = self.under(number)
        alike = len({call.shown for call in called.values()}) < len({call.agreed for call in called.values()})
        said: dict[str, list[int]] = {}
        for rank, call in sorted(called.items()):
            words = call.whole if alike else call.shown
            said.setdefault(call.exact if kind == "shapes" else words, []).append(rank)
        named = next((call.operation for rank, call in sorted(called.items()) if rank in others), None)
        return Apart(
            kind, self.name, self.description, len(self.members) if self.members else None, number,
            named or next(iter(called.values())).operation, tuple(sorted(ranks)), tuple(sorted(others)),
            tuple((what, tuple(who)) for what, who in said.items()),
        )  # fmt: skip


def collectives_apart(flight: pl.DataFrame, dumps: pl.DataFrame, *, all_dumps: bool = True) -> list[Apart]:
    """The first place of every group where its members come apart. `flight` is `FLIGHT`, `dumps` is `DUMPS`.

    `all_dumps`: dumps were not left out by choice, so that a rank without one is worth a word.
    """
    present = set(dumps["rank"].drop_nulls().to_list())
    reach = _reach(flight)
    found: list[Apart] = []
    for group in _groups(flight, dumps):
        apart = _first_difference(group) or _who_is_missing(group, present, reach, all_dumps=all_dumps)
        found += [apart] if apart is not None else []
    return found


def _groups(flight: pl.DataFrame, dumps: pl.DataFrame) -> list[_Group]:
    """Groups that hold something amiss: differing calls or calls that have not ended."""
    calls = calls_by_rank(flight)
    listed = {
        str(name): tuple(map(int, members.split(",")))
        for name, members in dumps.select("pg_name", "group").drop_nulls().unique(maintain_order=True).iter_rows()
    }
    under = ["pg_name", "group", "sequence_number"]
    amiss = (pl.col("exact").n_unique().over(under) > 1) | ~pl.col("ended")
    number = pl.col("sequence_number")
    from_then = number + 1 >= number.filter(amiss).min().over("pg_name", "group")
    reach = number == number.min().over("pg_name", "group", "rank")  # tells how far back the rank's dump goes
    kept = calls.filter(amiss.any().over("pg_name", "group") & (from_then | reach))
    groups: list[_Group] = []
    for (name, group), rows in kept.group_by("pg_name", "group", maintain_order=True):
        by_rank: dict[int, dict[int, _Call]] = {}
        for row in rows.iter_rows(named=True):
            by_rank.setdefault(row["rank"], {})[row["sequence_number"]] = _Call(
                row["agreed"], row["exact"], row["shown"], row["whole"], row["operation"], row["ended"], row["state"], row["created_ns"]
            )  # fmt: skip
        members = tuple(map(int, str(group).split(","))) if group is not None else listed.get(str(name))
        groups.append(_Group(str(name), rows["pg_desc"].drop_nulls().first(), members, by_rank))  # pyright: ignore[reportArgumentType]
    return groups


def _reach(flight: pl.DataFrame) -> dict[int, int | None]:
    """Since when a rank's dump knows everything, by rank; None: since its process began."""
    rows = flight.drop_nulls("rank").group_by("rank").agg(pl.col("record").min(), pl.col("created_ns").min())
    return {
        rank: None if record is not None and record <= 1 else (created or 1 << 62)
        for rank, record, created in rows.iter_rows()
    }


def _first_difference(group: _Group) -> Apart | None:
    """The first number under which members did not call the same."""
    numbers = sorted({number for calls in group.calls.values() for number in calls})
    shapes: Apart | None = None
    for number in numbers:
        called = group.under(number)
        agreed = Counter(call.agreed for call in called.values())
        if len(agreed) > 1:
            return _difference(group, number, called, agreed)
        if shapes is None and len({call.exact for call in called.values()}) > 1:
            most, count = Counter(call.exact for call in called.values()).most_common(1)[0]
            odd = [rank for rank, call in called.items() if call.exact != most] if 2 * count > len(called) else []
            shapes = group.apart("shapes", number, odd, [rank for rank in called if rank not in odd])
    return shapes


def _difference(group: _Group, number: int, called: dict[int, _Call], agreed: Counter[str]) -> Apart:
    most, count = agreed.most_common(1)[0]
    if 2 * count <= len(called):  # no majority
        return group.apart("differs", number, [], list(called))
    odd = [rank for rank, call in called.items() if call.agreed != most]
    usual = [rank for rank in called if rank not in odd]
    apart = group.apart("differs", number, odd, usual)
    shifts = {_shift(group, rank, number, usual) for rank in odd}
    known = next(iter(shifts)) if len(shifts) == 1 else None
    if known is None:
        return apart
    by, compared = known
    return replace(apart, kind="skipped" if by > 0 else "repeated", shift=abs(by), num_compared=compared)


def _shift(group: _Group, rank: int, number: int, usual: list[int]) -> tuple[int, int] | None:
    """By how many calls a rank is ahead (more than 0) or behind from `number` on, and how many calls prove it.

    None if no shift fits, or one ahead and one behind fit alike.
    """
    own = group.calls[rank]
    reference: dict[int, str] = {}
    for other in usual:
        reference |= {n: call.agreed for n, call in group.calls[other].items() if n not in reference}
    later = [n for n in own if n >= number]
    unshifted = [own[n].agreed == reference[n] for n in later if n > number and n in reference]
    if unshifted and all(unshifted):
        return None  # one call differs, and all after it agree
    fits: dict[int, int] = {}
    for by in range(1, _MAX_SHIFT + 1):
        ahead = [own[n].agreed == reference[n + by] for n in later if n + by in reference]
        behind = [own[n + by].agreed == reference[n] for n in reference if n >= number and n + by in own]
        fits |= {sign * by: len(same) for sign, same in ((1, ahead), (-1, behind)) if same and all(same)}
    if not fits or (any(by > 0 for by in fits) and any(by < 0 for by in fits)):
        return None
    nearest = min(fits, key=abs)
    return nearest, fits[nearest]


def _who_is_missing(
    group: _Group, present: set[int], reach: Mapping[int, int | None], *, all_dumps: bool
) -> Apart | None:
    """Who did not make the first call that has not ended, or why nothing tells."""
    for number in sorted({n for calls in group.calls.values() for n, call in calls.items() if not call.ended}):
        called = group.under(number)
        waiting = [rank for rank, call in called.items() if not call.ended]
        operation = called[waiting[0]].operation
        if len(waiting) < len(called) and _ENDS_WITH_ALL.search(operation):
            continue  # it ended elsewhere: all were there, and this dump is older
        return _unexplained(group, number, present, reach, all_dumps=all_dumps) or _not_started(group, number, called)
    return None


def _unexplained(
    group: _Group, number: int, present: set[int], reach: Mapping[int, int | None], *, all_dumps: bool
) -> Apart | None:
    """Which members are not known to have made a call; None if all made it."""
    called, members = group.under(number), group.possible(present)
    waiting = [rank for rank, call in called.items() if not call.ended]
    made = [call.created_ns for call in called.values() if call.created_ns is not None]
    silent = sorted(rank for rank in members & present - set(called) if not group.made_since(rank, number))
    absent = [rank for rank in silent if _knows(group, rank, reach, min(made, default=None))]
    old = sorted(_older(group, number, absent))
    gone = sorted(members - present)
    found: list[tuple[str, list[int]]] = [
        ("missing", [rank for rank in absent if rank not in old]),
        ("old_dump", old),
        ("no_dump" if all_dumps else "left_out", gone),
        ("forgotten", silent),
    ]
    for kind, ranks in found:
        if ranks:
            return group.apart(kind, number, ranks, waiting)
    return group.apart("unlisted", number, [], waiting) if group.members is None else None


def _older(group: _Group, number: int, absent: Sequence[int]) -> set[int]:
    """Ranks whose dumps lack even the call before, which ended with all members: they were written earlier."""
    before = group.under(number - 1)
    ended = any(call.ended and _ENDS_WITH_ALL.search(call.operation) for call in before.values())
    return {rank for rank in absent if ended and rank not in before}


def _knows(group: _Group, rank: int, reach: Mapping[int, int | None], made_ns: int | None) -> bool:
    """Whether the dump of a rank would hold its call, which others made at `made_ns`."""
    if group.calls.get(rank) or rank not in reach:  # its calls in the group end before; or it called nothing at all
        return True
    since = reach[rank]
    return since is None or (made_ns is not None and since + _SLACK_NS < made_ns)


def _not_started(group: _Group, number: int, called: dict[int, _Call]) -> Apart:
    """All members called it and not all have ended it: some devices may not have begun."""
    idle = [rank for rank, call in called.items() if call.state == "scheduled"]
    begun = [rank for rank, call in called.items() if call.state == "started"]
    if idle and begun:
        return group.apart("not_started", number, idle, begun)
    return group.apart("all_called", number, [], [rank for rank, call in called.items() if not call.ended])
