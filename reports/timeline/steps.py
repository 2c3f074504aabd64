"""The steps that a reader may go to: pipeline phases where there are actions, else whole steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

_TIMED = ("actions", "steps", "collectives", "kernels")


@dataclass(frozen=True, slots=True)
class Step:
    """A captured step: its measured window and, where theory knows it, the length of its ideal pipeline phase; ns."""

    step: int
    start_ns: int
    end_ns: int
    ideal_ns: int | None


def timed_steps(tables: Mapping[str, pl.DataFrame]) -> tuple[Step, ...]:
    """Pipeline phases, else whole steps, else the time of collectives or kernels; none without any time."""
    for name in _TIMED:
        frame = tables.get(name)
        timed = frame.drop_nulls(["start_ns", "end_ns"]) if frame is not None else None
        if timed is None or timed.is_empty():
            continue
        numbered = timed.drop_nulls("step") if name != "kernels" else timed.with_columns(pl.col("step").fill_null(0))
        found = numbered.group_by("step").agg(pl.col("start_ns").min(), pl.col("end_ns").max()).sort("step")
        length = _ideal_ns(tables) if name == "actions" else None
        if not found.is_empty():
            return tuple(Step(*row, length) for row in found.iter_rows())
    return ()


def _ideal_ns(tables: Mapping[str, pl.DataFrame]) -> int | None:
    ideal = tables.get("ideal_actions")
    timed = ideal.drop_nulls(["start_ns", "end_ns"]) if ideal is not None else None
    if timed is None or timed.is_empty():
        return None
    return int(timed.select(pl.col("end_ns").max() - pl.col("start_ns").min()).item())


def shown(steps: Sequence[Step], apart: Collection[int] = ()) -> int:
    """The place of the step of lower median length, the most ordinary one; none set `apart` if others are here."""
    places = [i for i, step in enumerate(steps) if step.step not in apart] or list(range(len(steps)))
    order = sorted(places, key=lambda i: (steps[i].end_ns - steps[i].start_ns, steps[i].step))
    return order[(len(order) - 1) // 2]
