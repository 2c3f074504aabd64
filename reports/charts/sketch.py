"""Timelines of schedules in letters, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from traceanalyzer.review.words import milliseconds, percent
from traceanalyzer.theory.prediction.comparison import Prediction

_COLORS = {"F": 34, "B": 33, "I": 36, "W": 35, "O": 32}
"""ANSI colours; a writer to something other than a terminal strips them."""
_IDLE = "·"
_PAIR = "O"
_MAX_RANKS = 16


def sketch(predictions: Sequence[Prediction], width: int) -> str:
    """Every schedule on one time axis, one row per rank and one letter per action."""
    columns = max(40, width - 8)
    longest = max((each.simulation.makespan_ns for each in predictions), default=0)
    if not longest:
        return ""
    pairs = f"{_PAIR} is an overlapped forward and backward; " if _has_pairs(predictions) else ""
    column = f"one column is {milliseconds(longest / columns / 1e6)}"
    lines = [f"{column}; small letters are odd microbatches; {pairs}{_IDLE} is idle"]
    for each in predictions:
        lines += [f"{each.title}: {percent(each.simulation.bubble_share)}", *_rows(each, columns, longest)]
    return "\n".join(lines)


def _has_pairs(predictions: Sequence[Prediction]) -> bool:
    nodes = (node for each in predictions for rank in each.simulation.program.actions for node in rank)
    return any(len(node) > 1 for node in nodes)


def _rows(prediction: Prediction, width: int, longest_ns: int) -> Iterator[str]:
    simulated = prediction.simulation
    shown = min(simulated.num_ranks, _MAX_RANKS)
    for rank in range(shown):
        yield f"{rank:>5} " + "".join(map(_colored, _cells(prediction, rank, width, longest_ns)))
    if shown < simulated.num_ranks:
        yield f"      and {simulated.num_ranks - shown} more ranks"


def _cells(prediction: Prediction, rank: int, width: int, longest_ns: int) -> list[str]:
    """A letter per column: of the action that covers most of it, if that is more than a quarter."""
    simulated = prediction.simulation
    end = -(-simulated.makespan_ns * width // longest_ns)
    cells, covered = [_IDLE] * end, [0.0] * end
    for actions, start, stop in zip(
        simulated.program.actions[rank], simulated.starts[rank], simulated.ends[rank], strict=True
    ):
        letter = actions[0].phase.value if len(actions) == 1 else _PAIR
        letter = letter if actions[0].microbatch % 2 == 0 else letter.lower()
        for column in range(start * width // longest_ns, min(end, -(-stop * width // longest_ns))):
            left, right = column * longest_ns / width, (column + 1) * longest_ns / width
            part = min(stop, right) - max(start, left)
            if part > covered[column] and part > 0.25 * (right - left):
                cells[column], covered[column] = letter, part
    return cells


def _colored(letter: str) -> str:
    color = _COLORS.get(letter.upper())
    return letter if color is None else f"\x1b[{color}m{letter}\x1b[0m"
