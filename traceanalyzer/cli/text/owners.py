"""Where the ranks' time went, by owner and phase of the step, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_PHASES = {
    "F": "F",
    "B": "B",
    "I": "I",
    "W": "W",
    "optimizer": "optimizer",
    "grad_sync": "grad sync",
    "before_chunks": "before",
    "between_chunks": "between",
    "other": "other",
}


def owner_lines(accounting: Mapping[str, Any], figures: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Owners with their share and time, and that time by phase: milliseconds per rank and step; bounds where not exact."""
    if not accounting["owners"]:
        return
    cells = {(each["owner"], each["phase"]): each["ms"] for each in accounting["phases"]}
    phases = [phase for phase in _PHASES if any(key[1] == phase for key in cells)]
    first = figures[f"accounting.owners.{accounting['owners'][0]['owner']}"]
    whole = first["num_ranks"] == first["num_ranks_expected"]
    of = (
        "the ranks"
        if whole
        else f"{first['num_ranks']:,} of {first['num_ranks_expected'] or 'an unknown number of'} ranks"
    )
    yield f"Where the time of {of} went (ms per rank and step; owners and phases sum to every step exactly)"
    yield f"  {'owner':<14}{'share':>8}{'ms':>11}  " + "".join(f"{_PHASES[phase]:>11}" for phase in phases)
    for row in accounting["owners"]:
        amounts = [cells.get((row["owner"], phase)) for phase in phases]
        parts = "".join(f"{'' if ms is None else f'{ms:.2f}':>11}" for ms in amounts)
        yield f"  {row['owner']:<14}{100 * row['share']:>7.2f}%{row['ms']:>11.2f}  {parts}".rstrip()
    for owner in ("wait", "transfer"):
        figure = figures.get(f"accounting.owners.{owner}", first)
        if figure["low"] is not None and figure["high"] is not None and figure["low"] < figure["high"]:
            yield f"  of it {owner} {100 * figure['low']:.1f}% to {100 * figure['high']:.1f}%, by the ranks' own durations"
