"""What is known of the job, and how, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

_DEGREES = ("pp", "dp", "tp", "cp", "ep")
_MOST_PLACES = 8


def job_lines(job: Mapping[str, Any]) -> Iterator[str]:
    """One line per property; what a run's own description says is left to it."""
    shown = {name: fact for name, fact in job.items() if fact["basis"] != "run.json" and _value(name, fact["value"])}
    if not shown:
        return
    yield "Job"
    for name, fact in shown.items():
        sure = f" {fact['confidence']:.2f}" if fact["source"] == "inferred" else ""
        basis = f": {fact['basis']}" if fact["basis"] else ""
        yield f"  {name.replace('_', ' '):<18}{_value(name, fact['value'])}  ({fact['source']}{sure}{basis})"


def _value(name: str, value: Any) -> str:  # noqa: ANN401 - a fact is JSON
    if value is None:
        return ""
    if name == "layout":
        return " ".join(f"{degree.upper()}={value[degree]}" for degree in _DEGREES if degree in value)
    if name == "places":
        few = [f"rank {row['rank']} is {row['pipeline_rank']} of {row['of']}" for row in value[:_MOST_PLACES]]
        return ", ".join(few) + (", ..." if len(value) > _MOST_PLACES else "")
    if isinstance(value, Mapping):
        parts = cast("Mapping[str, object]", value)
        return ", ".join(f"{key} {part}" for key, part in parts.items() if part not in (None, False, 0))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)
