"""Who did not call what, in words: the sentence that leads a page of flight-recorder dumps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from traceanalyzer.measurements.desync.collectives import Apart, collectives_apart
from traceanalyzer.measurements.desync.messages import MessageApart, messages_apart
from traceanalyzer.review import Desync
from traceanalyzer.traces.nccl.records import Records

_FEW = 8
_KINDS = {
    "skipped": 0, "repeated": 0, "differs": 0, "size": 0, "both_send": 0, "both_receive": 0, "missing": 1, "not_sent": 1,
    "not_received": 1, "no_dump": 2, "old_dump": 2, "not_started": 3, "versions": 4, "all_called": 5, "shapes": 6,
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
    waits = f"{_wait(a.others)} in {a.operation} number {a.sequence} of {_group(a)}"
    if a.size is not None and 2 * len(a.ranks) > a.size:
        return (
            f"{waits[0].upper()}{waits[1:]}; {len(a.ranks):,} of its {a.size:,} members left no dump, so it is unknown who "
            "did not come: give the dumps of all ranks."
        )
    suspect = "it is the suspect" if len(a.ranks) == 1 else "they are the suspects"
    return f"{_ranks(a.ranks, start=True)} left no dump, and {waits}: {suspect}."


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
    return (
        f"All members of {_group(a)} called {a.operation} number {a.sequence} and none had ended it when the dumps were written: "
        "no rank is missing from it."
    )


_SENTENCES: Mapping[str, Callable[[Apart], str]] = {
    "skipped": _skipped, "repeated": _skipped, "differs": _differs, "shapes": _shapes, "missing": _missing,
    "old_dump": _old_dump, "no_dump": _no_dump, "not_started": _not_started, "all_called": _all_called,
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
    return (
        f"A message from rank {m.source} to rank {m.target} has not ended, and one of the two left no dump.",
        set(),
        set(),
    )


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


def _wait(ranks: Iterable[int]) -> str:
    some = list(ranks)
    return f"{_ranks(some)} {'waits' if len(some) == 1 else 'wait'}"


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
