"""What a rank's own split sizes say of its expert group: where its tokens go, and what its experts get."""

from __future__ import annotations

import math

import polars as pl

from traceanalyzer.review import OwnRouting

_Z = 1.96
"""Standard errors of a 95% interval."""


def own_routing(exchanges: pl.DataFrame, rank: int) -> OwnRouting | None:
    """Token copies of `rank` by member, from the dispatches of `COLLECTIVE_SPLITS`; None without split sizes.

    Per layer, over all steps: with n copies sent to G members and p the largest part, `G·p` estimates the group's load
    ratio if all ranks route alike; its binomial standard error is `G·sqrt(p(1-p)/n)`. Layers are averaged.
    """
    sent = exchanges.filter(
        (pl.col("rank") == rank) & (pl.col("direction") == "dispatch") & (pl.col("send_splits").list.len() > 1)
    )
    complete = sent.filter(pl.col("send_splits").list.len() == pl.col("num_members"))
    if complete.is_empty():
        return None
    group = complete["group"][0]
    complete = complete.filter(pl.col("group") == group)
    layers: dict[int | None, list[int]] = {}
    for layer, splits in complete.select("layer", "send_splits").iter_rows():
        known = layers.setdefault(layer, [0] * len(splits))
        layers[layer] = [a + b for a, b in zip(known, splits, strict=True)]
    used = [counts for counts in layers.values() if sum(counts)]
    if not used:
        return None
    ratios, variances = zip(*(_ratio(counts) for counts in used), strict=True)
    value, error = sum(ratios) / len(used), math.sqrt(sum(variances)) / len(used)
    together = [sum(counts) for counts in zip(*used, strict=True)]
    received = sum(complete["receive_splits"].list.sum().drop_nulls())
    members = [int(member) for member in group.split(",")]
    return OwnRouting(
        num_layers=len(used),
        num_tokens=sum(together),
        hottest=members[together.index(max(together))],
        sent_max_over_mean=value,
        low=max(1.0, value - _Z * error),
        high=value + _Z * error,
        received_over_sent=received / sum(together) if received else None,
    )


def _ratio(counts: list[int]) -> tuple[float, float]:
    """Largest over mean part, and the variance of that."""
    total, size = sum(counts), len(counts)
    share = max(counts) / total
    return size * share, size**2 * share * (1 - share) / total
