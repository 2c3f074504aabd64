"""Roles of groups that nothing names, told by what they are used for."""

from __future__ import annotations

import polars as pl
import pytest

from traceanalyzer.tables.groups.listed import used_roles

GATHER, SCATTER, REDUCE = "all_gather", "reduce_scatter", "all_reduce"


def calls(*kinds: tuple[str, int, int]) -> pl.DataFrame:
    """Calls of ranks 0 and 1 in one step: kind, how many, bytes of the whole."""
    rows = [
        {"group": "0,1", "kind": kind, "rank": rank, "step": 1, "send_bytes": size, "receive_bytes": size}
        for kind, number, size in kinds
        for rank in (0, 1)
        for _ in range(number)
    ]
    return pl.DataFrame(rows, schema_overrides={"rank": pl.Int32, "step": pl.Int32})


# Eight layers and an embedding, gathered for forward and backward, the last layer kept between them.
SHARDED = [(GATHER, 15, 4096), (GATHER, 2, 9000), (SCATTER, 8, 4096), (SCATTER, 1, 9000)]
# Gradients are reduced in fp32: other sizes, as many of them.
MIXED = [(GATHER, 15, 4096), (GATHER, 2, 9000), (SCATTER, 8, 8192), (SCATTER, 1, 18000)]
# Eight layers, two gathers and two scatters each way of the same activation.
SEQUENCE = [(GATHER, 48, 4096), (SCATTER, 32, 4096)]


@pytest.mark.parametrize(
    ("used", "roles"),
    [
        (SHARDED, {GATHER: "dp", SCATTER: "dp"}),
        (MIXED, {GATHER: "dp", SCATTER: "dp"}),
        (SEQUENCE, {GATHER: "tp", SCATTER: "tp"}),
        ([*SEQUENCE, (REDUCE, 1, 64)], {GATHER: "tp", SCATTER: "tp", REDUCE: "dp"}),
        ([(GATHER, 2, 4096), (SCATTER, 2, 4096)], {}),  # too few to be a layer's
        ([(GATHER, 8, 4096), (SCATTER, 8, 4096), (SCATTER, 8, 64)], {}),  # neither
        ([(GATHER, 40, 4096)], {}),  # nothing is scattered: parameters or anything else
        ([(REDUCE, 40, 4096)], {}),  # activations, or buckets of gradients
        ([(REDUCE, 3, 4096)], {REDUCE: "dp"}),
    ],
)
def test_gathers_and_scatters_of_layers(used: list[tuple[str, int, int]], roles: dict[str, str]) -> None:
    found = used_roles(calls(*used), None)
    assert dict(found.select("kind", pl.col("role").cast(pl.String)).iter_rows()) == roles
    assert set(found["role_source"]) <= {"use"}


def test_without_sizes_nothing_is_claimed_about_layers() -> None:
    assert used_roles(calls(*SHARDED).drop("send_bytes", "receive_bytes"), None).is_empty()
