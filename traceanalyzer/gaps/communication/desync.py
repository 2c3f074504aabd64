"""Who did not call what, in words: the sentence that leads a page of flight-recorder dumps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from traceanalyzer.measurements.desync.collectives import Apart, collectives_apart
from traceanalyzer.measurements.desync.messages import MessageApart, messages_apart
from traceanalyzer.measurements.desync.signatures import not_ended
from traceanalyzer.review import Desync
from traceanalyzer.traces.nccl.records import Records

_FEW = 8
_BUFFER = "TORCH_FR_BUFFER_SIZE, formerly TORCH_NCCL_TRACE_BUFFER_SIZE"
_KINDS = {
    "skipped": 0, "repeated": 0, "differs": 0, "size": 0, "both_send": 0, "both_receive": 0, "missing": 1, "not_sent": 1,
    "not_received": 1, "no_dump": 2, "old_dump": 2, "not_started": 3, "versions": 4, "unlisted": 5, "forgotten": 5, "left_out": 5, "not_reached": 5, "all_called": 6,
    "under_way": 6, "shapes": 7,
}  # fmt: skip
"""Different calls come before calls that were not made: who called something else may be missing elsewhere for it."""


@dataclass(frozen=True, slots=True)
class _Stuck:
    """What is amiss, and who waits in it for whom."""

    desync: Desync
    suspects: frozenset[int]
    waiting: frozenset[int]


def desyncs(records: Records) -> list[Desync]:
    """Where the calls of ranks come apart, the one that explains others first; none if there are no dumps."""
    chosen = records.is_a_choice
    listed, flight = records.dumps, records.flight
    found = [_collective(apart) for apart in collectives_apart(flight, listed, all_dumps=not chosen)]
    found += _messages(messages_apart(flight, listed, all_dumps=not chosen))
    found += _versions(listed)
    waiting = frozenset(rank for stuck in found for rank in stuck.waiting)
    ordered = sorted(found, key=lambda stuck: _order(stuck, waiting))
    return [stuck.desync for stuck in ordered]


def agreement(records: Records) -> str:
    """What to say of dumps where `desyncs` finds nothing about a call: that all ended, or why nothing tells."""
    flight = records.flight
    known = flight.filter(pl.col("rank").is_not_null()).with_columns(not_ended().alias("open"))
    if flight.is_empty():
        return (
            f"The dumps hold no call that can be read, so who did not call what is unknown: record calls ({_BUFFER})."
        )
    if known.is_empty():
        return "The dumps do not state their ranks, so who did not call what is unknown: name each file by its rank."
    waiting = known.filter("open")
    alone = waiting.filter(
        pl.col("is_p2p") & (pl.col("group").is_null() | ~pl.col("name").str.contains(r"(send|recv) \d"))
    )
    if not alone.is_empty():
        return (
            f"{_ranks(alone['rank'].unique(), start=True)} had not ended {_calls(alone.height)} to send or receive, and the "
            "dumps do not show the peers: who did not call is unknown."
        )
    unknown = known.filter(pl.col("state").is_null() & ~pl.col("retired").fill_null(value=False)).height
    if unknown:
        return (
            f"The state of {unknown:,} of {_calls(known.height)} is none that is known: whether they ended is unknown."
        )
    if not waiting.is_empty():
        return (
            f"{_calls(waiting.height)} had not ended on {_ranks(waiting['rank'].unique())}, and others had ended the same: the dumps were "
            "written at different moments and show no rank that is missing."
        )
    number = "The only call" if known.height == 1 else f"All {known.height:,} calls"
    return f"{number} in these dumps had ended: they show no rank that others wait for."


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"


def _order(stuck: _Stuck, waiting: frozenset[int]) -> tuple[int, bool, int, str]:
    """A suspect that waits for nobody explains those who wait for it."""
    waits_too = bool(stuck.suspects & waiting)
    return (_KINDS[stuck.desync.kind], waits_too, stuck.desync.sequence or 0, stuck.desync.group)


def _collective(apart: Apart) -> _Stuck:
    sentence = _SENTENCES[apart.kind](apart)
    waits = apart.kind in ("missing", "no_dump", "not_started")
    desync = Desync(
        kind=apart.kind, group=apart.group, operation=apart.operation, sequence=apart.sequence, ranks=list(apart.ranks),
        others=list(apart.others), said=sentence,
    )  # fmt: skip
    return _Stuck(desync, frozenset(apart.ranks), frozenset(apart.others) if waits else frozenset())


def _skipped(a: Apart) -> str:
    made = f"{a.shift} call{'' if a.shift == 1 else 's'}"
    by_rank = ", ".join(f"{what} on {_ranks(who)}" for what, who in a.calls)
    ahead = "later" if a.kind == "skipped" else "earlier"
    verb = f"skipped {made}" if a.kind == "skipped" else f"made {made} too many"
    proof = f"{a.num_compared} call{'' if a.num_compared == 1 else 's'} compared"
    return (
        f"{_ranks(a.ranks, start=True)} {verb} in {_group(a)} at or before number {a.sequence} ({by_rank}): from there on "
        f"{'its' if len(a.ranks) == 1 else 'their'} calls are those of the others {a.shift} number{'' if a.shift == 1 else 's'} {ahead} ({proof})."
    )


def _differs(a: Apart) -> str:
    if not a.ranks:
        by_rank = "; ".join(f"{what} on {_ranks(who)}" for what, who in a.calls)
        return f"Members of {_group(a)} called different things as number {a.sequence}: {by_rank}."
    odd = "; ".join(f"{what}{_who(who, a.ranks)}" for what, who in a.calls if set(who) & set(a.ranks))
    usual = " or ".join(what for what, who in a.calls if not set(who) & set(a.ranks))
    return f"{_ranks(a.ranks, start=True)} called {odd} as number {a.sequence} of {_group(a)}, the others ({_ranks(a.others)}) {usual}."


def _shapes(a: Apart) -> str:
    return (
        f"Members of {_group(a)} gave tensors of different shapes to {a.operation} number {a.sequence}, with as many elements: "
        "the library does not mind, the model may."
    )


def _missing(a: Apart) -> str:
    return (
        f"{_ranks(a.ranks, start=True)} had not called {a.operation} number {a.sequence} of {_group(a)} when "
        f"{'its dump was' if len(a.ranks) == 1 else 'their dumps were'} written; {_wait(a.others)} in it."
    )


def _no_dump(a: Apart) -> str:
    where = f"in {a.operation} number {a.sequence} of {_group(a)}"
    if a.size is not None and 2 * len(a.ranks) > a.size:
        return (
            f"{_wait(a.others, start=True)} {where}; {len(a.ranks):,} of its {a.size:,} members left no dump, so it is unknown who "
            "did not come: give the dumps of all ranks."
        )
    suspect = "it is the suspect" if len(a.ranks) == 1 else "they are the suspects"
    return f"{_ranks(a.ranks, start=True)} left no dump, and {_wait(a.others)} {where}: {suspect}."


def _old_dump(a: Apart) -> str:
    lacks, they = ("lacks", "it") if len(a.ranks) == 1 else ("lack", "they")
    return (
        f"Whether {_ranks(a.ranks)} called {a.operation} number {a.sequence} of {_group(a)}, where {_wait(a.others)}, is not "
        f"known: {'its dump is' if len(a.ranks) == 1 else 'their dumps are'} older than the others' ({they} {lacks} number "
        f"{a.sequence - 1}, which ended); dump all ranks again."
    )


def _not_started(a: Apart) -> str:
    return (
        f"{_ranks(a.ranks, start=True)} called {a.operation} number {a.sequence} of {_group(a)} but "
        f"{'its device has' if len(a.ranks) == 1 else 'their devices have'} not begun it: earlier work there has not ended; "
        f"{_wait(a.others)} in it."
    )


def _all_called(a: Apart) -> str:
    ended = (
        "none had ended it"
        if len(a.others) == sum(len(who) for _, who in a.calls)
        else f"{_ranks(a.others)} had not ended it"
    )
    return (
        f"All members of {_group(a)} called {a.operation} number {a.sequence} and {ended} when the dumps were written: "
        "no rank is missing from it."
    )


def _unlisted(a: Apart) -> str:
    return (
        f"{_wait(a.others, start=True)} in {a.operation} number {a.sequence} of {_group(a)}; whether another rank did not come is "
        "not known, because no dump lists the members: give the dumps of all ranks."
    )


def _forgotten(a: Apart) -> str:
    begins = "dump begins" if len(a.ranks) == 1 else "dumps begin"
    return (
        f"Whether {_ranks(a.ranks)} called {a.operation} number {a.sequence} of {_group(a)}, where {_wait(a.others)}, is not known: "
        f"{'its' if len(a.ranks) == 1 else 'their'} {begins} later. Record more calls ({_BUFFER})."
    )


def _left_out(a: Apart) -> str:
    return (
        f"{_wait(a.others, start=True)} in {a.operation} number {a.sequence} of {_group(a)}; whether {_ranks(a.ranks)} came is not "
        f"known: {'its dump was left out. Read it' if len(a.ranks) == 1 else 'their dumps were left out. Read them'}, too."
    )


_SENTENCES: Mapping[str, Callable[[Apart], str]] = {
    "skipped": _skipped, "repeated": _skipped, "differs": _differs, "shapes": _shapes, "missing": _missing,
    "old_dump": _old_dump, "no_dump": _no_dump, "not_started": _not_started, "all_called": _all_called,
    "unlisted": _unlisted, "forgotten": _forgotten, "left_out": _left_out,
}  # fmt: skip


def _messages(found: Sequence[MessageApart]) -> list[_Stuck]:
    return [
        _Stuck(
            Desync(kind=m.kind, group=m.group, operation="message", sequence=None, ranks=sorted(suspects), others=sorted(waiting), said=said),
            frozenset(suspects), frozenset(waiting),
        )
        for m in found
        for said, suspects, waiting in [_message(m)]
    ]  # fmt: skip


def _message(m: MessageApart) -> tuple[str, set[int], set[int]]:
    """The sentence, whom it suspects and who waits."""
    both = f"Ranks {min(m.source, m.target)} and {max(m.source, m.target)}"
    sent, expected = f" ({m.size})" if m.size else "", f" ({m.expected})" if m.expected else ""
    if m.kind == "both_send":
        return f"{both} each send to the other and neither receives.", {m.source, m.target}, set()
    if m.kind == "both_receive":
        return f"{both} each wait to receive from the other and neither sends.", {m.source, m.target}, set()
    if m.kind == "size":
        said = f"Rank {m.source} sends {m.size} to rank {m.target}, which expects {m.expected}."
        return said, {m.source, m.target}, set()
    if m.kind == "not_received":
        said = f"Rank {m.target} had not called the receive of what rank {m.source} sends to it{sent} when its dump was written."
        return said, {m.target}, {m.source}
    if m.kind == "not_sent":
        said = f"Rank {m.source} had not called the send that rank {m.target} waits for{expected} when its dump was written."
        return said, {m.source}, {m.target}
    return _unnamed_message(m, sent), set(), set()


def _unnamed_message(m: MessageApart, sent: str) -> str:
    """What to say of a message that accuses nobody."""
    pair = f"a message from rank {m.source} to rank {m.target}"
    if m.kind == "under_way":
        return f"Both ends of {pair}{sent} were called, and none had ended when the dumps were written: no rank is missing from it."
    if m.kind == "not_reached":
        return (
            f"Whether both ends of {pair} were called is not known: one has not ended, and the dumps do not reach back to the first "
            f"one. Record more calls ({_BUFFER})."
        )
    if m.kind == "left_out":
        return f"A{pair[1:]} has not ended, and the dump of {_ranks(m.gone)} was left out: read it, too."
    return f"A{pair[1:]} has not ended, and {_ranks(m.gone)} left no dump: give it, too."


def _versions(dumps: pl.DataFrame) -> list[_Stuck]:
    """Ranks that run different versions of the library."""
    named = dumps.drop_nulls(["rank", "library"]).filter(pl.col("library") != "").unique("rank").sort("rank")
    by_version = named.group_by("library", maintain_order=True).agg("rank")
    if by_version.height < 2:
        return []
    usual = by_version.with_columns(pl.col("rank").list.len().alias("n")).sort(
        "n", descending=True, maintain_order=True
    )
    said = "; ".join(f"{version} on {_ranks(ranks)}" for version, ranks, _ in usual.iter_rows())
    odd = [rank for _, ranks, _ in usual.tail(-1).iter_rows() for rank in ranks]
    desync = Desync(
        kind="versions", group="", operation="", sequence=None, ranks=sorted(odd), others=list(usual["rank"][0]),
        said=f"Ranks run different versions of the communication library: {said}.",
    )  # fmt: skip
    return [_Stuck(desync, frozenset(), frozenset())]


def _wait(ranks: Iterable[int], *, start: bool = False) -> str:
    some = list(ranks)
    return f"{_ranks(some, start=start)} {'waits' if len(some) == 1 else 'wait'}"


def _who(who: Sequence[int], odd: Sequence[int]) -> str:
    """Which of several odd ranks; nothing where there is one call of all of them."""
    return "" if set(who) == set(odd) else f" ({_ranks(who)})"


def _ranks(ranks: Iterable[int], *, start: bool = False) -> str:
    """`ranks 0, 1 and 3`; many are a few and a number."""
    some = sorted(ranks)
    word = "rank" if len(some) == 1 else "ranks"
    shown = [str(rank) for rank in some[:_FEW]]
    if len(some) > _FEW:
        text = f"{', '.join(shown)} and {len(some) - _FEW:,} more"
    else:
        text = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
    return f"{word.capitalize() if start else word} {text}"


def _group(a: Apart) -> str:
    if a.description == "default_pg":
        return "the default group"
    known = a.description if a.description and a.description != "undefined" else ""
    return f"group {a.group}{f' ({known})' if known and known != a.group else ''}"
