"""What members of a group must agree on when they call one collective, from flight-recorder dumps.

NCCL needs the same operation, type and number of elements; shapes may differ. Exchanges and gathers to one rank take sizes
of each member's own, so only their types are compared (torch/distributed/flight_recorder/components/types.py, `Op.match`).
"""

from __future__ import annotations

import math
import re

import polars as pl

_ANY_SIZE = re.compile(r"all_?to_?all|gather_?v|scatter_?v|scatter_v|^(all_gather|reduce_scatter)$")
_ROOT_ONLY = re.compile(r"^(gather|scatter)$")
_TENSOR = re.compile(r"(\w*)\[([\d×]*)\]")


def operation_name() -> pl.Expr:
    """`name` without its backend: all_reduce of nccl:all_reduce."""
    return pl.col("name").str.replace(r"^\w+:", "")


def not_ended() -> pl.Expr:
    """Whether a call of `FLIGHT` is known not to have ended; gloo leaves the state of calls that ended at `scheduled`."""
    open_states = pl.col("state").is_in(["scheduled", "started", "failed"])
    return (open_states & ~pl.col("retired").fill_null(value=False)).fill_null(value=False)


def calls_by_rank(flight: pl.DataFrame) -> pl.DataFrame:
    """Collectives of `FLIGHT`, one row per group, number and rank; calls that were coalesced are one.

    Columns `pg_name`, `group`, `pg_desc`, `sequence_number`, `rank`, `operation`, `exact` (with shapes), `agreed` (what must
    be equal), `shown` (words for its input), `whole` (and its output), `ended`, `state`, `created_ns`.
    """
    known = flight.filter(~pl.col("is_p2p").fill_null(value=False)).drop_nulls(
        ["rank", "pg_name", "name", "sequence_number"]
    )
    texts = known.select(operation_name().alias("operation"), "inputs", "outputs").unique()
    signed = texts.with_columns(
        pl.struct(texts.columns).map_elements(_exact, pl.String).alias("exact"),
        pl.struct(texts.columns).map_elements(_agreed, pl.String).alias("agreed"),
        pl.struct(texts.columns).map_elements(_shown, pl.String).alias("shown"),
        pl.struct(texts.columns).map_elements(_whole, pl.String).alias("whole"),
    )
    rows = known.with_columns(
        operation_name().alias("operation"),
        ~not_ended().alias("ended"),  # unknown states prove nothing
    )
    rows = rows.join(signed, on=["operation", "inputs", "outputs"], how="left", nulls_equal=True, maintain_order="left")
    return (
        rows.sort("record")
        .group_by("pg_name", "group", "sequence_number", "rank", maintain_order=True)
        .agg(
            pl.col("pg_desc").first(),
            pl.col("operation").first(),
            pl.col("exact").str.join("; "),
            pl.col("agreed").str.join("; "),
            pl.col("shown", "whole").first(),
            pl.col("ended").all(),
            pl.col("state").last(),
            pl.col("created_ns").min(),
        )
    )


def _sides(call: dict[str, str | None]) -> tuple[str, str]:
    """Inputs and outputs as far as members must agree on them: shapes, types alone, or nothing."""
    operation = str(call["operation"])
    sides = [call["inputs"] or "", call["outputs"] or ""]
    if _ROOT_ONLY.search(operation):
        return "", ""
    if not _ANY_SIZE.search(operation):
        return sides[0], sides[1]
    if operation in ("all_gather", "reduce_scatter"):  # lists of tensors: uneven ones are legal
        lists = sides[1] if operation == "all_gather" else sides[0]
        even = len(set(_TENSOR.findall(lists))) <= 1 and "…" not in lists
        return (sides[0], sides[1]) if even and len(_TENSOR.findall(lists)) != 1 else ("", lists)
    return " ".join(sorted({kind for kind, _ in _TENSOR.findall(" ".join(sides))})), ""


def _exact(call: dict[str, str | None]) -> str:
    return f"{call['operation']} {_sides(call)}"


def _agreed(call: dict[str, str | None]) -> str:
    return f"{call['operation']} {tuple(_TENSOR.sub(_elements, side) for side in _sides(call))}"


def _elements(tensor: re.Match[str]) -> str:
    return f"{tensor[1]}[{_count(tensor[2])}]"


def _count(shape: str) -> int:
    return math.prod(int(extent) for extent in shape.split("×") if extent)


def _shown(call: dict[str, str | None]) -> str:
    """`all_reduce of 1,024 elements BFloat16`."""
    words = _words(call["inputs"] or call["outputs"])
    return f"{call['operation']} of {words}" if words else str(call["operation"])


def _whole(call: dict[str, str | None]) -> str:
    """`all_gather of 64 elements Float into 256 elements Float`."""
    into = _words(call["outputs"]) if call["inputs"] else ""
    return f"{_shown(call)} into {into}" if into else _shown(call)


def _words(side: str | None) -> str:
    """The elements of tensors and their types; as recorded where that is not known."""
    tensors = _TENSOR.findall(side or "")
    if not side or not tensors or "…" in side:
        return side or ""
    count = sum(_count(shape) for _, shape in tensors)
    kinds = " and ".join(dict.fromkeys(kind for kind, _ in tensors if kind))
    return f"{count:,} element{'' if count == 1 else 's'}{f' {kinds}' if kinds else ''}"
