"""What a run without pipeline takes for forward, backward and the rest of its step, and what recomputation would add.

Forward and backward grow with the tokens of a microbatch, the rest of the step (optimizer, data, main thread) does not. Full
recomputation runs the layers' forward again: its share of the forward is taken by FLOPs, since logits are not recomputed.
`torch.utils.checkpoint` without reentry stops as soon as all that backward needs is there, which is before the last matrix
multiply of an MLP; the operator is recorded, but does not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

import polars as pl

from traceanalyzer.errors import UsageError
from traceanalyzer.review import Review
from traceanalyzer.theory.model.flops import Recompute, flops_per_token

_NS_PER_MS = 1e6
_FORWARD, _BACKWARD = ("F",), ("B", "I", "W")
_FEWEST_STEPS = 4


def passes_ms(account: pl.DataFrame) -> tuple[float, float] | None:
    """Forward and backward of a step in ms, from `ACCOUNTING`: mean over ranks, median over steps; None without phases."""
    per_step = (
        account.with_columns(pl.col("phase").cast(pl.String))
        .group_by("step")
        .agg(
            *(
                (pl.col("duration_ns").filter(pl.col("phase").is_in(phases)).sum() / pl.col("rank").n_unique()).alias(
                    name
                )
                for name, phases in (("forward", _FORWARD), ("backward", _BACKWARD))
            )
        )
    )
    if per_step.is_empty():
        return None
    forward, backward = (median(per_step[name].to_list()) / _NS_PER_MS for name in ("forward", "backward"))
    return (forward, backward) if forward > 0 and backward > 0 else None


def recomputed_share(review: Review, policy: str, *, stops_early: bool) -> float:
    """What `policy` runs again, as a share of a forward. Raises `UsageError` where the model is not known."""
    shape, length = review.job.model, review.job.sequence_length
    if shape is None or length is None:
        raise UsageError(
            "what recomputation runs again is not known without the model",
            "analyze with --job FILE, and --sequence-length",
        )
    model = shape.value
    flops = flops_per_token(model, length.value, recompute=Recompute(policy))
    last = 2 * model.num_layers * model.hidden_size * model.ffn_size if stops_early else 0
    return max(0, flops.recomputed - last) / flops.forward


def held_out_error(steps_ms: Sequence[float]) -> float | None:
    """Mean relative distance of the second half of the steps from the median of the first; None of fewer than 4 steps."""
    if len(steps_ms) < _FEWEST_STEPS:
        return None
    half = (len(steps_ms) + 1) // 2
    taken = median(steps_ms[:half])
    return fmean(abs(step / taken - 1) for step in steps_ms[half:])
