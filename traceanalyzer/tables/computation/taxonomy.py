"""What a kernel does, by its name: `data/kernels.csv` holds the rules and their sources."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import polars as pl

from traceanalyzer.errors import InputError
from traceanalyzer.schema import KERNEL_KIND

_OPERATIONS = (
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "broadcast",
    "reduce",
    "send_recv",
    "barrier",
    "unknown",
)
_COLUMNS = ("pattern", "kind", "operation")
UNKNOWN_SHARE = 0.05
"""Share of kernel time in names that no rule knows, above which a reader must know it first."""


@dataclass(frozen=True, slots=True)
class KernelRule:
    """What a kernel does whose name holds `pattern`, a regular expression in any case."""

    pattern: str
    kind: str
    operation: str | None
    """Of communication and barriers."""


@cache
def _rules() -> tuple[KernelRule, ...]:
    """The rules that come with the package, in order."""
    text = resources.files("traceanalyzer").joinpath("data/kernels.csv").read_text(encoding="utf-8")
    return parse_kernel_rules(text.splitlines(), "data/kernels.csv")


def parse_kernel_rules(lines: Iterable[str], source: str) -> tuple[KernelRule, ...]:
    """Rules of a CSV with the columns `pattern`, `kind`, `operation`; lines that begin with # are skipped.

    Raises `InputError` if a row is not a rule.
    """
    reader = csv.DictReader(line for line in lines if line.strip() and not line.startswith("#"))
    if not set(_COLUMNS) <= set(reader.fieldnames or ()):
        raise InputError(f"{source}: not a table of kernel rules", f"give a CSV with the columns {', '.join(_COLUMNS)}")
    return tuple(_rule(row, f"{source}, rule {number}") for number, row in enumerate(reader, 1))


def _rule(row: dict[str, str | None], place: str) -> KernelRule:
    pattern, kind, operation = ((row[name] or "").strip() for name in _COLUMNS)
    if not pattern or not _is_expression(pattern):
        raise InputError(f"{place}: '{pattern}' is not a regular expression", "correct the pattern")
    kinds = KERNEL_KIND.categories.to_list()
    if kind not in kinds:
        raise InputError(f"{place}: there is no kind called '{kind}'", f"kinds: {', '.join(kinds)}")
    exchanges = kind in ("communication", "barrier")
    if exchanges and operation not in _OPERATIONS:
        raise InputError(
            f"{place}: there is no operation called '{operation}'", f"operations: {', '.join(_OPERATIONS)}"
        )
    return KernelRule(f"(?i){pattern}", kind, operation if exchanges else None)


def _is_expression(pattern: str) -> bool:
    try:
        pl.Series([""]).str.contains(pattern, strict=True)
    except pl.exceptions.ComputeError:
        return False
    return True


def classify(names: pl.Series, first: Sequence[KernelRule] = ()) -> pl.DataFrame:
    """Kind and operation of every distinct name; the rules `first` are tried before those of the package.

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
    known = (*first, *_rules())
    number = pl.coalesce(
        *[pl.when(pl.col("name").str.contains(rule.pattern)).then(i) for i, rule in enumerate(known)]
    ).alias("rule")
    rules = pl.DataFrame(
        {
            "rule": list(range(len(known))),
            "kind": [rule.kind for rule in known],
            "operation": [rule.operation for rule in known],
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


def unmatched_kernels(times: pl.DataFrame, first: Sequence[KernelRule] = ()) -> pl.DataFrame:
    """Device time of kernels that no rule knows, longest first: `name`, `num_kernels`, `duration_ns`.

    `times` is `KERNEL_TIMES`. They count as computation; a communication kernel among them would be miscounted.
    """
    known = classify(times["name"], first).filter("matched").select("name")
    return times.join(known, on="name", how="anti").sort(["duration_ns", "name"], descending=[True, False])


def unknown_names(kernels: pl.DataFrame) -> str | None:
    """What must be known of names without a rule, from `KERNELS`; None if they take little of the kernels' time."""
    timed = kernels.filter(pl.col("kind") != "copy").select(
        "name", "matched", (pl.col("end_ns") - pl.col("start_ns")).alias("duration_ns")
    )
    total = int(timed["duration_ns"].sum())
    unknown = (
        timed.filter(~pl.col("matched"))
        .group_by("name")
        .agg(pl.col("duration_ns").sum())
        .with_columns(pl.col("name").cast(pl.String))
        .sort(["duration_ns", "name"], descending=[True, False])
    )
    lost = int(unknown["duration_ns"].sum())
    if not total or lost <= UNKNOWN_SHARE * total:
        return None
    shown = [f"{name[:80]} {ns / total:.1%}" for name, ns in unknown.head(3).iter_rows()]
    more = f" and {unknown.height - 3} more" if unknown.height > 3 else ""
    return (
        f"{lost / total:.1%} of the kernels' time is in kernels whose names match no rule; they count as computation: "
        f"{', '.join(shown)}{more}. If any of them communicates, say so (--kernel-rules FILE)."
    )
