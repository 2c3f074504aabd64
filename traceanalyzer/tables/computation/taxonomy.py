"""What a kernel does, by its name: `data/kernels.csv` holds the rules and their sources."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

import polars as pl

from traceanalyzer.schema import KERNEL_KIND


@cache
def _rules() -> tuple[tuple[str, str, str], ...]:
    """Pattern, kind and operation of every rule, in order."""
    text = resources.files("traceanalyzer").joinpath("data/kernels.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple((f"(?i){row['pattern']}", row["kind"], row["operation"]) for row in rows)


def classify(names: pl.Series) -> pl.DataFrame:
    """Kind and operation of every distinct name.

    Returns `name` (String), `kind` (`KERNEL_KIND`), `operation` (of communication; else null) and `matched`: whether a
    rule knows the name.
    """
    distinct = names.cast(pl.String).unique().drop_nulls().sort().alias("name").to_frame()
    if distinct.is_empty():
        return distinct.with_columns(
            pl.lit(None, KERNEL_KIND).alias("kind"),
            pl.lit(None, pl.String).alias("operation"),
            pl.lit(None, pl.Boolean).alias("matched"),
        )
    number = pl.coalesce(
        *[pl.when(pl.col("name").str.contains(pattern)).then(i) for i, (pattern, _, _) in enumerate(_rules())]
    ).alias("rule")
    rules = pl.DataFrame(
        {
            "rule": list(range(len(_rules()))),
            "kind": [kind for _, kind, _ in _rules()],
            "operation": [operation or None for _, _, operation in _rules()],
        },
        schema={"rule": pl.Int32, "kind": pl.String, "operation": pl.String},
    )
    return (
        distinct.with_columns(number)
        .join(rules, on="rule", how="left", maintain_order="left")
        .select(
            "name",
            pl.coalesce("kind", pl.lit("other")).cast(KERNEL_KIND).alias("kind"),
            "operation",
            pl.col("rule").is_not_null().alias("matched"),
        )
    )


def unmatched_kernels(times: pl.DataFrame) -> pl.DataFrame:
    """Device time of kernels that no rule knows, longest first: `name`, `num_kernels`, `duration_ns`.

    `times` is `KERNEL_TIMES`. They count as computation; a communication kernel among them would be miscounted.
    """
    known = classify(times["name"]).filter("matched").select("name")
    return times.join(known, on="name", how="anti").sort(["duration_ns", "name"], descending=[True, False])
