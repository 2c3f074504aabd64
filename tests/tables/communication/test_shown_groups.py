"""Groups of gloo's collectives, which name none."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest

from traceanalyzer.job import Job
from traceanalyzer.layout import Layout
from traceanalyzer.schema import RANKS, conform
from traceanalyzer.tables.communication.shown_groups import with_shown_group

WORLD = "0,1,2,3,4,5"
STAGES, COLUMNS = [[0, 1, 2], [3, 4, 5]], [[0, 3], [1, 4], [2, 5]]


def ranks(meshes: dict[str, list[list[int]]]) -> pl.DataFrame:
    def groups(rank: int) -> str:
        held = [("default_pg", list(range(6)))]
        held += [(name, members) for name, parts in meshes.items() for members in parts if rank in members]
        listed = [
            {"pg_name": str(at), "pg_desc": desc, "ranks": members, "pg_size": len(members)}
            for at, (desc, members) in enumerate(held)
        ]
        return json.dumps(listed)

    rows = [{"rank": rank, "world_size": 6, "process_groups": groups(rank)} for rank in range(6)]
    return conform(pl.DataFrame(rows), RANKS)


def found(
    calls: list[tuple[int, str, int, int | None, list[int]]], meshes: dict[str, list[list[int]]]
) -> list[str | None]:
    """`calls`: rank, kind, bytes, layer and splits, in order of time, all in step 4 and taken for the whole job's."""
    rows = [
        {"rank": rank, "step": 4, "kind": kind, "layer": layer, "group": None if splits else WORLD, "send_bytes": size,
         "send_splits": splits, "start_ns": at}
        for at, (rank, kind, size, layer, splits) in enumerate(calls)
    ]  # fmt: skip
    schema = {
        "rank": pl.Int32,
        "step": pl.Int32,
        "layer": pl.Int32,
        "group": pl.String,
        "send_splits": pl.List(pl.Int64),
    }
    job = replace(Job.of(), layout=Layout(pp=2, dp=3, ep=3))
    return with_shown_group(pl.DataFrame(rows, schema_overrides=schema), ranks(meshes), job)["group"].to_list()


def reductions(sizes: list[int], kind: str = "all_reduce") -> list[tuple[int, str, int, int | None, list[int]]]:
    return [(rank, kind, size, None, []) for rank, size in enumerate(sizes)]


@pytest.mark.parametrize("kind", ["all_reduce", "reduce_scatter"])
def test_other_sizes_exclude_the_whole_job_and_leave_the_only_group_that_agrees(kind: str) -> None:
    stages = ["0,1,2"] * 3 + ["3,4,5"] * 3
    assert found(reductions([96, 96, 96, 80, 80, 80], kind), {"mesh_pp": COLUMNS, "mesh_dp": STAGES}) == stages


def test_equal_sizes_exclude_nothing() -> None:
    assert found(reductions([96] * 6), {"mesh_pp": COLUMNS, "mesh_dp": STAGES}) == [WORLD] * 6


@pytest.mark.parametrize("meshes", [{"mesh_pp": COLUMNS}, {"mesh_dp": STAGES, "mesh_fsdp": [[0, 1], [3, 4]]}])
def test_where_no_group_or_more_than_one_agrees_none_is_claimed(meshes: dict[str, list[list[int]]]) -> None:
    assert found(reductions([96, 96, 96, 80, 80, 80]), meshes)[0] is None


@pytest.mark.parametrize(
    ("layer", "splits", "expected"),
    [(1, [4, 2, 6], "0,1,2"), (1, [], "0,1,2"), (None, [4, 2, 6], None), (1, [4, 8], None), (None, [], WORLD)],
    ids=["rows", "counts", "outside of expert layers", "other splits", "another exchange of the whole job"],
)
def test_exchanges_of_expert_layers_are_the_expert_groups(layer: int | None, splits: list[int], expected: str) -> None:
    assert found([(0, "all_to_all", 96, layer, splits)], {"mesh_dp": STAGES}) == [expected]
