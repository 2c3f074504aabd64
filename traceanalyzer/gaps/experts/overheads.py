"""What routing and padding cost besides the experts' work on tokens, in the review's words."""

from __future__ import annotations

from typing import Any

import polars as pl

from traceanalyzer.measurements.experts.traffic import unreadable_splits


def overheads(chain: pl.DataFrame, exchanges: pl.DataFrame, routed: pl.DataFrame) -> dict[str, Any]:
    """Per step, summed over ranks; null if the ranges or the side file that tell it are missing.

    `chain` is `EXPERT_CHAIN`, `exchanges` are the all-to-alls of `COLLECTIVE_SPLITS`, `routed` is `ROUTING`.
    """
    num_steps = max(chain["step"].n_unique(), 1)
    found: dict[str, Any] = {
        f"{name}_ms": _total(chain, f"{name}_ns", 1e6 * num_steps)
        for name in ("router", "permutation", "count_exchange")
    }
    dropped, padded, computed = (_total(chain, name, 1) for name in ("dropped_tokens", "padded_rows", "computed_rows"))
    tokens = int(routed.filter(pl.col("source") == "side_file")["tokens"].sum())
    if dropped is not None:
        found |= {"dropped_tokens": int(dropped), "dropped_share": dropped / max(tokens + dropped, 1)}
    if padded is not None and computed:
        found |= {"padded_rows": round(padded / num_steps), "padded_share": padded / computed}
        found["padding_ms"] = _padding_ms(chain, num_steps)
    return found | {"num_unreadable_splits": unreadable_splits(exchanges)}


def _padding_ms(chain: pl.DataFrame, num_steps: int) -> float | None:
    """The part of the expert time that padded rows are of all rows."""
    both = pl.sum_horizontal("experts_ns", "experts_backward_ns")
    known = chain.filter((pl.col("computed_rows") > 0) & pl.col("experts_ns").is_not_null())
    if known.is_empty():
        return None
    spent = known.select((both * pl.col("padded_rows") / pl.col("computed_rows")).sum()).item()
    return float(spent) / num_steps / 1e6


def _total(chain: pl.DataFrame, column: str, divisor: float) -> float | None:
    recorded = chain[column].drop_nulls()
    return None if recorded.is_empty() else float(recorded.sum()) / divisor
