"""Sizes of recorded tensors, read from an event's `args` text (needs `record_shapes=True`)."""

from __future__ import annotations

import polars as pl

ELEMENT_BYTES = {
    "double": 8,
    "float": 4,
    "c10::Half": 2,
    "c10::BFloat16": 2,
    "c10::Float8_e4m3fn": 1,
    "c10::Float8_e5m2": 1,
    "long int": 8,
    "long": 8,
    "int": 4,
    "short": 2,
    "signed char": 1,
    "unsigned char": 1,
    "bool": 1,
}
"""Bytes per element by the type name that Kineto writes in `Input type`."""


def tensor_bytes(args: pl.Expr, position: int) -> pl.Expr:
    """Bytes of input tensor `position`; null if shape or type were not recorded."""
    dims = args.str.json_path_match(f'$["Input Dims"][{position}]')
    dtype = args.str.json_path_match(f'$["Input type"][{position}]')
    is_flat = dims.str.contains(r"^\[\s*\d+(\s*,\s*\d+)*\s*\]$")
    sizes = dims.str.extract_all(r"\d+").list.eval(pl.element().cast(pl.Int64, strict=False))
    num_elements = pl.when(is_flat).then(sizes.list.eval(pl.element().product()).list.first())
    return num_elements * dtype.replace_strict(ELEMENT_BYTES, default=None, return_dtype=pl.Int64)


def integer_list(text: pl.Expr) -> pl.Expr:
    """A list of integers from its JSON text, for example `[3, 4]`.

    Null for other text, and for a list that Kineto cut (`[1, 2, ..., 9]`): cut is cut, never data.
    """
    is_list = text.str.contains(r"^\[\s*(-?\d+(\s*,\s*-?\d+)*)?\s*\]$")
    return pl.when(is_list).then(text.str.extract_all(r"-?\d+")).list.eval(pl.element().cast(pl.Int64, strict=False))
