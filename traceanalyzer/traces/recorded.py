"""Events of a run, read by groups of ranks, so that those of a large capture need not be in memory together."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import polars.selectors as cs

from traceanalyzer.schema import EVENTS

Group = frozenset[int]
"""Ranks that are read together, for they share files."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The events of a run."""

    groups: tuple[Group, ...]
    """By their lowest rank; every rank is in one."""
    num_events: int
    read: Callable[[Group], pl.DataFrame]
    """`EVENTS` of the ranks of a group, sorted by rank, cycle, start and position. Raises `InputError`."""
    batches: tuple[Group, ...] = ()
    """Groups joined to what is read at once where all ranks are gone through: small ones cost more calls than data."""

    def parts(self) -> Iterator[pl.DataFrame]:
        """`EVENTS` batch by batch; one without events counts as well."""
        return map(self.read, self.batches or self.groups)

    def of_rank(self, rank: int) -> pl.DataFrame:
        """`EVENTS` of one rank; empty if it is not here."""
        of_it = (self.read(group) for group in self.groups if rank in group)
        return next(of_it, pl.DataFrame(schema=EVENTS)).filter(pl.col("rank") == rank)

    def collected(self, chosen: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
        """What `chosen` takes of the events of each batch, together; `chosen` must not look beyond a rank's files."""
        if len(self.batches or self.groups) <= 1:
            return chosen(next(self.parts(), pl.DataFrame(schema=EVENTS)))
        # `map` holds no part while it reads the next one; a loop's variable would
        return pl.concat(map(lambda part: apart(chosen(part)), self.parts()))  # noqa: C417

    def together(self) -> pl.DataFrame:
        """`EVENTS` of all ranks."""
        found = pl.concat(list(self.parts()) or [pl.DataFrame(schema=EVENTS)])
        return found if len(self.groups) <= 1 else in_order(found)


def in_memory(events: pl.DataFrame) -> Recorded:
    """Events that were read already, as one group."""
    group = frozenset[int](events["rank"].drop_nulls().unique())
    return Recorded((group,), events.height, lambda _: events)


def apart(frame: pl.DataFrame) -> pl.DataFrame:
    """The same rows with texts of their own. Texts of filtered rows share memory with all rows they were chosen from, and keep it."""
    texts = frame.select(cs.string())
    if texts.is_empty():
        return frame
    buffer = io.BytesIO()
    texts.write_ipc(buffer)
    own = pl.read_ipc(buffer.getvalue()).rechunk()
    return frame.rechunk().with_columns(own)  # where columns differ in chunks, every filter copies all of the frame


def in_order(events: pl.DataFrame) -> pl.DataFrame:
    """`EVENTS` sorted by rank, cycle, start and position; rows without a time come last."""
    return events.sort("rank", "cycle", "start_ns", "index", nulls_last=True)


def batched(groups: Sequence[Group], sizes: Mapping[Group, int], num_events: int) -> tuple[Group, ...]:
    """Neighbouring groups joined while they have at most `num_events`, which a single one may exceed."""
    batches: list[tuple[Group, int]] = []
    for group in groups:
        joined, size = batches[-1] if batches else (frozenset[int](), num_events)
        if size + sizes[group] <= num_events:
            batches[-1] = (joined | group, size + sizes[group])
        else:
            batches.append((group, sizes[group]))
    return tuple(batch for batch, _ in batches)


def sharing(files: list[list[int]]) -> tuple[Group, ...]:
    """Groups of ranks that share files, from the ranks of every file, by their lowest rank."""
    groups: list[set[int]] = []
    for ranks in files:
        joined, apart = set(ranks), list[set[int]]()
        for group in groups:
            if group & joined:
                joined |= group
            else:
                apart.append(group)
        groups = [*apart, joined]
    return tuple(sorted(map(frozenset[int], groups), key=min))
