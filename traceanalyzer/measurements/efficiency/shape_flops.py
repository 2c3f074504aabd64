"""FLOPs of the operators a trace recorded, from their tensor shapes: a check of the FLOPs a job declares.

Needs a profiler with `record_shapes=True`. A multiply-add counts as two; what attention's backward recomputes is not
counted, as in every convention of model FLOPs. `flops` is to be compared with the declared job in the full-attention
convention, and with the hardware's FLOPs where layers are recomputed. One rank's operators are that rank's alone: a
stage says nothing of the others, so these figures are set against the declared job's stage and never scaled up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import polars as pl

from traceanalyzer.tables.computation.shapes import ELEMENT_BYTES, integer_list

SHAPE_FLOPS = pl.Schema(
    {
        "rank": pl.Int32,
        "cycle": pl.Int32,
        "index": pl.Int64,  # position of the event in its file
        "name": pl.String,
        "kind": pl.Enum(["gemm", "attention", "unread"]),
        "dtype": pl.String,  # of the first factor, as the profiler writes it
        "shape": pl.String,  # sizes of the factors, or of query, key and value: "3x5 5x7"
        "thread": pl.Categorical(),
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "flops": pl.Int64,  # every key read; null if unknown
        "bytes": pl.Int64,  # least traffic: every factor read and every result written once; null if unknown
        "causal_flops": pl.Int64,  # half of `flops` for fused attention marked causal, else the same
    }
)

FACTORS = {
    "aten::mm": 0,
    "aten::bmm": 0,
    "aten::addmm": 1,
    "aten::baddbmm": 1,
    "aten::_addmm_activation": 1,
    "aten::_scaled_mm": 0,
    "aten::_grouped_mm": 0,
    "aten::_scaled_grouped_mm": 0,
}
"""Matrix multiplications: position of the first factor among the inputs; the second follows it."""

ATTENTION = {
    "aten::_scaled_dot_product_flash_attention": (0, 4),
    "aten::_scaled_dot_product_flash_attention_for_cpu": (0, 4),
    "aten::_scaled_dot_product_efficient_attention": (0, 6),
    "aten::_scaled_dot_product_cudnn_attention": (0, 6),
    "aten::_scaled_dot_product_flash_attention_backward": (1, 11),
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": (1, 7),
    "aten::_scaled_dot_product_efficient_attention_backward": (1, 11),
    "aten::_scaled_dot_product_cudnn_attention_backward": (1, 14),
}
"""Attention of batch, heads, length, size: position of the query (key and value follow) and of `is_causal`.

From the operators' schemas in torch 2.13. The unfused `_math` form is made of `bmm`, which are counted by themselves.
"""

_UNREAD = (
    r"(?i)flash_attn|^triton_tem_|gemm|^(_Linear|_LayerNormLinear|_LayerNormMLP|_GroupedLinear|FusedAttnFunc)(Backward)?$"
    r"|LinearWithGradAccumulation|FlashAttn|^aten::(_?convolution|_flash_attention|_efficient_attention)"
)
"""Operators that multiply matrices in a way not read here: TransformerEngine, flash-attn, compiled templates, FP8."""
_NOT_OPERATORS = r"^(autograd::engine|triton_(poi|per|red)_)"


def shape_flops(events: pl.DataFrame) -> pl.DataFrame:
    """One row per recorded matrix multiplication or attention (`SHAPE_FLOPS`), by rank and start.

    `events` has the columns of `traceanalyzer.schema.EVENTS`. Rows of kind `unread` are operators that multiply
    matrices but whose FLOPs are unknown; where there are any, the sum is a lower bound.
    """
    name = pl.col("name").cast(pl.String)
    found = (
        events.filter((pl.col("category") == "cpu_op") & (pl.col("ph") == "X"))
        .with_columns(name, (pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns"))
        .filter(multiplies(name))
    )
    if found.is_empty():
        return pl.DataFrame(schema=SHAPE_FLOPS)
    read = pl.concat([_multiplications(found), _attention(found)], how="vertical")
    flops = found.join(read, on=["rank", "cycle", "index"], how="left").with_columns(pl.col("kind").fill_null("unread"))
    kept = _without_doubles(flops)
    return kept.select(pl.col(column).cast(dtype) for column, dtype in SHAPE_FLOPS.items()).sort("rank", "start_ns")


def multiplies(name: pl.Expr) -> pl.Expr:
    """Whether an operator called `name`, a text, multiplies matrices, in a way that is read here or not."""
    is_unread = name.str.contains(_UNREAD) & ~name.str.contains(_NOT_OPERATORS)
    return name.is_in([*FACTORS, *ATTENTION]) | is_unread


def in_steps(operators: pl.DataFrame, ranges: pl.DataFrame) -> pl.DataFrame:
    """Add `step`: the one of `STEP_RANGES` of its rank in which an operator starts; null outside all of them.

    A rank without step ranges has one step, 0, that holds all its operators.
    """
    placed = operators.sort("start_ns").join_asof(
        ranges.sort("range_start_ns"),
        left_on="start_ns",
        right_on="range_start_ns",
        by=["rank", "cycle"],
        check_sortedness=False,
    )
    is_marked = pl.col("rank").is_in(ranges["rank"].unique().to_list())
    is_inside = pl.col("start_ns") < pl.col("range_end_ns")
    step = pl.when(~is_marked).then(0).when(is_inside).then("step").cast(pl.Int32)
    return placed.select(*operators.columns, step.alias("step")).sort("rank", "start_ns")


def flops_by_step(operators: pl.DataFrame, ranges: pl.DataFrame) -> pl.DataFrame:
    """Sums per rank and step of `STEP_RANGES`: `rank`, `step`, `flops`, `causal_flops`, `num_operators`, `num_unread`.

    Steps are those of `in_steps`; operators outside of all steps are left out.
    """
    unread = pl.col("kind") == "unread"
    return (
        in_steps(operators, ranges)
        .filter(pl.col("step").is_not_null())
        .group_by("rank", "step")
        .agg(
            pl.col("flops").sum(),
            pl.col("causal_flops").sum(),
            (~unread).sum().cast(pl.Int32).alias("num_operators"),
            unread.sum().cast(pl.Int32).alias("num_unread"),
        )
        .sort("rank", "step")
    )


def _multiplications(found: pl.DataFrame) -> pl.DataFrame:
    """Twice the elements of the first factor times the columns of the second, by shape of grouped ones."""
    left, right = pl.col("size0"), pl.col("size1")
    rows = _elements(left) // left.list.last()
    result = rows * right.list.last()
    flops = 2 * _elements(left) * right.list.last()
    # With groups along the columns of a flat second factor, each group multiplies its own columns only. Where they run
    # along the shared size, every group has a result of its own, and how many there are is not recorded.
    is_grouped = pl.col("name").str.contains("grouped")
    ragged_columns = is_grouped & (left.list.len() == 3) & (right.list.len() == 2)
    ragged_shared = is_grouped & (left.list.len() == 2) & (right.list.len() == 2)
    per_group = pl.when(ragged_columns).then(left.list.first()).otherwise(1)
    results = pl.when(~ragged_shared).then(result // per_group)
    tables = [
        _sized(found, name, [position, position + 1], flops // per_group, results)
        for name, position in _present(FACTORS, found).items()
    ]
    return pl.concat([_NOTHING_SIZED, *tables]).with_columns(pl.lit("gemm").alias("kind"))


def _attention(found: pl.DataFrame) -> pl.DataFrame:
    """`2 * batch * heads * queries * keys * (key size + value size)` forward, twice that backward."""
    query, key, value = pl.col("size0"), pl.col("size1"), pl.col("size2")
    queries = _size(query, 0) * _size(query, 1) * _size(query, 2)
    forward = 2 * queries * _size(key, 2) * (_size(query, 3) + _size(value, 3))
    whole = pl.when(query.list.len() == 4).then(forward)
    result = queries * _size(value, 3)
    tables: list[pl.DataFrame] = []
    for name, (first, causal) in _present(ATTENTION, found).items():
        is_causal = pl.col("args").str.json_path_match(f'$["Concrete Inputs"][{causal}]') == "True"
        flops, written = (
            (2 * whole, _elements(query) + _elements(key) + _elements(value) + 2 * result) if first else (whole, result)
        )
        tables.append(_sized(found, name, [first, first + 1, first + 2], flops, written, is_causal))
    return pl.concat([_NOTHING_SIZED, *tables]).with_columns(pl.lit("attention").alias("kind"))


_Place = TypeVar("_Place")
_NOTHING_SIZED = pl.DataFrame(
    schema={
        "rank": pl.Int32,
        "cycle": pl.Int32,
        "index": pl.Int64,
        "dtype": pl.String,
        "shape": pl.String,
        "flops": pl.Int64,
        "bytes": pl.Int64,
        "causal_flops": pl.Int64,
    }
)


def _present(places: Mapping[str, _Place], found: pl.DataFrame) -> dict[str, _Place]:
    """Of operators by name those that the trace has: most have few of them."""
    names = set(found["name"].unique())
    return {name: place for name, place in places.items() if name in names}


def _size(sizes: pl.Expr, dimension: int) -> pl.Expr:
    return sizes.list.get(dimension, null_on_oob=True)


def _elements(sizes: pl.Expr) -> pl.Expr:
    return sizes.list.eval(pl.element().product()).list.first()


def _sized(
    found: pl.DataFrame,
    name: str,
    positions: list[int],
    flops: pl.Expr,
    results: pl.Expr,
    causal: pl.Expr | None = None,
) -> pl.DataFrame:
    """FLOPs and bytes of the operators called `name`; `size0`, `size1`, ... are the shapes of the inputs at `positions`.

    `results` counts the elements written (for a backward also the further ones read).
    """
    order = range(len(positions))
    widths = [pl.col(f"type{i}").replace_strict(ELEMENT_BYTES, default=None, return_dtype=pl.Int64) for i in order]
    written = pl.max_horizontal(widths[0], 2)  # results of fp8 are written in 16 bits
    traffic = sum((_elements(pl.col(f"size{i}")) * widths[i] for i in order), results * written)
    texts = [pl.col(f"size{i}").cast(pl.List(pl.String)).list.join("x") for i in order]
    is_known = pl.all_horizontal(pl.col(f"size{i}").list.len() >= 2 for i in order)
    return (
        _with_inputs(found.filter(pl.col("name") == name), positions)
        .with_columns((pl.lit(value=False) if causal is None else causal.fill_null(value=False)).alias("causal"))
        .filter(is_known.fill_null(value=False))
        .with_columns(flops.alias("flops"), traffic.alias("bytes"), pl.concat_str(texts, separator=" ").alias("shape"))
        .filter(pl.col("flops").is_not_null())
        .select(
            "rank",
            "cycle",
            "index",
            pl.col("type0").alias("dtype"),
            "shape",
            "flops",
            "bytes",
            pl.when("causal").then(pl.col("flops") // 2).otherwise("flops").alias("causal_flops"),
        )
    )


def _without_doubles(flops: pl.DataFrame) -> pl.DataFrame:
    """Keep the outermost of nested operators; an unread one around a readable one gives way to it."""
    place = ["rank", "cycle", "thread"]
    read, unread = (flops.filter((pl.col("kind") == "unread") == is_unread) for is_unread in (False, True))
    inside = read.select(*place, "start_ns", pl.col("start_ns").alias("inner_ns")).sort("start_ns")
    hollow = (
        unread.sort("start_ns")
        .join_asof(inside, on="start_ns", by=place, strategy="forward", check_sortedness=False)
        .filter(~(pl.col("inner_ns") < pl.col("end_ns")).fill_null(value=False))
        .drop("inner_ns")
    )
    ordered = pl.concat([read, hollow]).sort(*place, "start_ns", "end_ns", descending=[False] * 4 + [True])
    outer_end = pl.col("end_ns").cum_max().shift(1).over(place)
    return ordered.filter((pl.col("start_ns") >= outer_end).fill_null(value=True))


def _with_inputs(rows: pl.DataFrame, positions: list[int]) -> pl.DataFrame:
    """Add `size0`, `type0`, ... of the inputs at `positions`. Each different list of inputs is parsed once: there are few."""
    args = pl.col("args")
    noted = rows.with_columns(
        args.str.json_path_match('$["Input Dims"]').alias("dims"),
        args.str.json_path_match('$["Input type"]').alias("types"),
    )
    parsed = (
        noted.select("dims", "types")
        .unique()
        .with_columns(
            *(
                integer_list(pl.col("dims").str.json_path_match(f"$[{at}]")).alias(f"size{i}")
                for i, at in enumerate(positions)
            ),
            *(pl.col("types").str.json_path_match(f"$[{at}]").alias(f"type{i}") for i, at in enumerate(positions)),
        )
    )
    return noted.join(parsed, on=["dims", "types"], how="left", nulls_equal=True, maintain_order="left").drop(
        "dims", "types"
    )
