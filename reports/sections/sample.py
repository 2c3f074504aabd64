"""The section on a sample of ranks: what each says alone, its waits as ranges, and which ranks to profile next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.page.grids import NOTHING, Columns, record_grid
from reports.page.parts import Grid, Part, Terms
from reports.page.text import at, listed, number, quantity, records, safe_text

MAX_ROWS = 24
MAX_LISTED = 16
_SIDES = {"this": "this one, or none is slower", "upstream": "before it", "downstream": "behind it"}


def is_sample(review: Mapping[str, Any]) -> bool:
    """Whether ranks of the job are not here, so that the page needs this section."""
    return isinstance(at(review, "sample"), Mapping) and at(review, "sample", "coverage") != "all"


def parts(review: Mapping[str, Any]) -> list[Part | None]:
    """Next ranks, bounds of owners, ranks by their own traces, and waits; nothing where all ranks are here."""
    if not is_sample(review):
        return []
    return [_next(review), _ranks(review), _waits(review)]


def _next(review: Mapping[str, Any]) -> Terms:
    entries = [
        (
            title,
            ": ".join(text for text in (_listed(review, key), safe_text(at(review, "sample", why) or "", 300)) if text),
        )
        for title, key, why in (
            ("Profile next", "next_ranks", "next_reason"),
            ("A sample for everything", "recommended_ranks", "recommended_reason"),
        )
    ]
    entries += [
        (f"Share of time in {owner}", _range(at(review, "figures", f"accounting.owners.{owner}")))
        for owner in ("wait", "transfer")
    ]
    return Terms(title="What these ranks can tell", entries=tuple(entry for entry in entries if entry[1]), half=True)


def _listed(review: Mapping[str, Any], key: str) -> str:
    ranks = [f"{number(rank) or 0:.0f}" for rank in listed(review, "sample", key)]
    more = f", … ({len(ranks)})" if len(ranks) > MAX_LISTED else ""
    noun = "rank" if len(ranks) == 1 else "ranks"
    return f"{noun} {', '.join(ranks[:MAX_LISTED])}{more}" if ranks else ""


def _range(figure: object) -> str:
    low, high = number(at(figure, "low")), number(at(figure, "high"))
    if low is None or high is None or low == high:
        return ""
    return f"{quantity(low, 'share')} to {quantity(high, 'share')}, by the ranks' own durations"


def _ranks(review: Mapping[str, Any]) -> Grid | None:
    columns: Columns = (
        ("rank", "rank", "count"),
        ("stages", "stages", None),
        ("own time per microbatch", "own_ms", "ms"),
        ("pace", "pace_ms", "ms"),
        ("others cost it per step", "others_cost_ms", "ms"),
        ("between chunks", "between_chunks_share", "share"),
        ("with equal stages", "equal_stages_share", "share"),
        ("slowest stage", "side", None),
    )
    paced = [
        {**each, "stages": ", ".join(map(str, listed(each, "stages"))) or NOTHING, "side": _side(each)}
        for each in records(review, "sample", "ranks")
        if number(each.get("own_ms")) is not None
    ]
    return record_grid(
        {"sample_ranks": paced},
        ("sample_ranks",),
        columns,
        title="The pipeline as each rank sees it",
        note="Each row is one rank's own trace: medians over its steps. Between chunks is of its own window, not the job's bubble.",
        limit=MAX_ROWS,
    )


def _side(each: Mapping[str, Any]) -> str:
    return _SIDES.get(str(each.get("side"))) or f"cannot be told: {each.get('side_reason')}"


def _waits(review: Mapping[str, Any]) -> Grid | None:
    columns: Columns = (
        ("rank", "rank", "count"),
        ("mesh dimension", "role", None),
        ("inside communication", "duration_ms", "ms"),
        ("waiting, low estimate", "low_ms", "ms"),
        ("waiting, high estimate", "high_ms", "ms"),
        ("operations per step", "num_operations", "count"),
        ("bounded from below", "num_sampled", "count"),
    )
    rows = [
        {**wait, "rank": each.get("rank"), "role": wait.get("role") or "unknown"}
        for each in records(review, "sample", "ranks")
        for wait in records(each, "waits")
    ]
    return record_grid(
        {"sample_waits": rows},
        ("sample_waits",),
        columns,
        title="Waiting inside communication, per step",
        note="At least: duration less twice the shortest equal operation of the rank. At most: less bytes over the peak of its links. "
        "Time under computation counts too.",
        limit=MAX_ROWS,
    )
