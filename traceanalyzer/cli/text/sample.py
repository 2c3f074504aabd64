"""What a sample of ranks tells, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SHOWN = 8


def sample_lines(captured: Mapping[str, Any] | None) -> Iterator[str]:
    """Bounds of the waits of every captured rank and, beside them, its pace; nothing where all ranks are here."""
    if captured is None or captured["coverage"] == "all":
        return
    ranks = captured["ranks"]
    if any(rank["waits"] for rank in ranks):
        yield "Waiting inside communication, ms per step: at least, at most (estimates from a rank's own durations)"
        for rank in ranks[:_SHOWN]:
            yield from _waits(rank)
    paced = [rank for rank in ranks if rank["own_ms"] is not None]
    if paced:
        yield "Ranks of the pipeline by their own traces"
        yield "   rank  stages      own ms  pace ms  between chunks  equal stages  slowest stage"
    for rank in paced[:_SHOWN]:
        yield _paced(rank)


def _waits(rank: Mapping[str, Any]) -> Iterator[str]:
    for each in rank["waits"]:
        sampled = f"{each['num_sampled']:.0f} of {each['num_operations']:.0f} operations bounded from below"
        yield (
            f"  rank {rank['rank']:>4}  {each['role'] or 'unknown':<8}{each['low_ms']:>10.2f} –{each['high_ms']:>9.2f}"
            f"  of {each['duration_ms']:.2f} ms; {sampled}"
        )


def _paced(rank: Mapping[str, Any]) -> str:
    cells = [_number(rank["own_ms"]), _number(rank["pace_ms"]), *map(_share, _shares(rank))]
    side = {"this": "this one, or none is slower", "upstream": "before it", "downstream": "behind it"}
    return (
        f"  {rank['rank']:>5}  {','.join(map(str, rank['stages'])):<8}{cells[0]:>10}{cells[1]:>9}{cells[2]:>16}{cells[3]:>14}"
        f"  {side.get(rank['side']) or 'cannot be told: ' + str(rank['side_reason'])}"
    )


def _shares(rank: Mapping[str, Any]) -> Sequence[float | None]:
    return rank["between_chunks_share"], rank["equal_stages_share"]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}%"
