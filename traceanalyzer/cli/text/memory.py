"""Memory of a review as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_SHOWN = 16


def memory_lines(memory: Mapping[str, Any] | None) -> Iterator[str]:
    """What ranks hold for backward beside what theory says."""
    if memory is None:
        return
    yield "Held for backward (most at once)       microbatches in flight        MiB of activations"
    yield "  rank  stages                            held      theory            held    theory    held ÷ theory"
    for row in memory["stages"][:_SHOWN]:
        stages = " ".join(map(str, row["stage"]))
        held, theory = row["peak_bytes"], row["predicted_bytes"]
        ratio = f"{held / theory:.3f}" if held and theory else "-"
        yield (
            f"  {row['rank']:>4}  {stages:<26}{row['in_flight']:>12}{row['predicted_in_flight']:>12}"
            f"{_mebibytes(held):>16}{_mebibytes(theory):>10}{ratio:>17}"
        )
    if len(memory["stages"]) > _SHOWN:
        yield f"  {len(memory['stages']) - _SHOWN} further ranks are in review.json"


def _mebibytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 2**20:.3f}"
