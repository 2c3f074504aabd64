"""Whom the others wait for at all-to-alls, as a figure and in words."""

from __future__ import annotations

from traceanalyzer.review.sections.experts import AllToAll
from traceanalyzer.review.words import percent


def waited_share(all_to_all: AllToAll) -> float | None:
    """The share of all waiting at all-to-alls that is for `slowest_rank`; None where it is not known."""
    whole = sum(each.ms for each in all_to_all.blame)
    if all_to_all.slowest_rank is None or whole <= 0:
        return None
    return sum(each.ms for each in all_to_all.blame if each.culprit == all_to_all.slowest_rank) / whole


def waited_for(all_to_all: AllToAll, waiting: str = "") -> str:
    """`mostly for rank 3` where more than half of the waiting is for it; empty where waits are not known.

    With `waiting`, a name of all of it, this is a clause of its own: `27% of the waiting is for rank 3, more than for any other`.
    """
    rank, share = all_to_all.slowest_rank, waited_share(all_to_all)
    if rank is None or all_to_all.wait_share is None:
        return ""
    if share is None:
        return f"{f'{waiting} is ' if waiting else ''}for rank {rank} more than for any other"
    if share > 0.5:
        return f"{f'{waiting} is ' if waiting else ''}mostly for rank {rank}"
    return f"{percent(share)} of {f'{waiting} is' if waiting else 'it'} for rank {rank}, more than for any other"
