"""Degrees and places from the groups that one trace of many lists."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceanalyzer.job import Job
from traceanalyzer.layout import Layout
from traceanalyzer.model import ModelShape
from traceanalyzer.schema import COLLECTIVES, P2P, RANKS, empty
from traceanalyzer.tables.groups.dimensions import Dimensions, dimensions
from traceanalyzer.tables.groups.listed import job_roles, process_groups
from traceanalyzer.traces.defects import DefectLog
from traceanalyzer.traces.kineto.facts import MAX_WORLD, recorded_rank

NO_MODEL = ModelShape(num_layers=0, hidden_size=0, num_heads=0, num_kv_heads=0, head_size=0, ffn_size=0, vocab_size=0)
MEGATRON = {
    "tp": "TENSOR_MODEL_PARALLEL_GROUP",
    "cp": "CONTEXT_PARALLEL_GROUP",
    "dp": "DATA_PARALLEL_GROUP",
    "pp": "PIPELINE_MODEL_PARALLEL_GROUP",
    "ep": "EXPERT_MODEL_PARALLEL_GROUP",
}
TORCHTITAN = {"tp": "mesh_tp", "cp": "mesh_cp", "dp": "mesh_dp_shard", "pp": "mesh_pp", "ep": "mesh_ep"}


def coordinates(rank: int, sizes: dict[str, int]) -> dict[str, int]:
    """Megatron-LM's order: tensor innermost, then context, data, pipeline."""
    found = {}
    for name in ("tp", "cp", "dp", "pp"):
        found[name] = rank % sizes[name]
        rank //= sizes[name]
    return found


def members(rank: int, dimension: str, sizes: dict[str, int]) -> list[int]:
    world = sizes["tp"] * sizes["cp"] * sizes["dp"] * sizes["pp"]
    own = coordinates(rank, sizes)
    if dimension == "ep":
        stage = members(rank, "dp", sizes)
        first = stage.index(rank) // sizes["ep"] * sizes["ep"]
        return stage[first : first + sizes["ep"]]
    alike = [r for r in range(world) if all(v == own[k] for k, v in coordinates(r, sizes).items() if k != dimension)]
    assert len(alike) == sizes[dimension]
    return alike


def group(name: int, description: str | None, ranks: Any, size: int | None = None) -> dict[str, Any]:
    entry = {"pg_name": str(name), "pg_desc": description, "ranks": ranks}
    return entry | ({"pg_size": size} if size is not None else {})


def ranks_table(*rows: tuple[int, int, Any]) -> pl.DataFrame:
    """Rank, world size, groups."""
    return pl.DataFrame(
        [
            {"rank": r, "cycle": 0, "world_size": w, "process_groups": g if isinstance(g, str) else json.dumps(g)}
            for r, w, g in rows
        ],
        schema_overrides={"rank": pl.Int32, "world_size": pl.Int32},
    ).select(
        (pl.col(name) if name in ("rank", "cycle", "world_size", "process_groups") else pl.lit(None).alias(name)).cast(
            dtype
        )
        for name, dtype in RANKS.items()
    )


def found_of(ranks: pl.DataFrame) -> Dimensions | None:
    return dimensions(ranks, empty(COLLECTIVES), empty(P2P))


@pytest.mark.parametrize("names", [MEGATRON, TORCHTITAN], ids=["Megatron-LM", "torchtitan"])
@pytest.mark.parametrize("rank", [0, 12, 517, 1023])
def test_one_rank_of_1024_shows_every_degree_and_its_stage(names: dict[str, str], rank: int) -> None:
    sizes = {"tp": 4, "cp": 2, "dp": 16, "pp": 8, "ep": 8}
    groups = [group(i, names[name], members(rank, name, sizes)) for i, name in enumerate(sizes)]
    layout = found_of(ranks_table((rank, 1024, [*groups, group(9, "default_pg", list(range(1024)))])))
    assert layout is not None
    assert dict(layout.degrees) == sizes
    assert layout.confidence > 0.9
    assert layout.places.rows() == [(rank, coordinates(rank, sizes)["pp"], 8)]


@given(
    st.fixed_dictionaries({name: st.sampled_from([1, 2, 3, 4]) for name in ("tp", "cp", "dp", "pp")}),
    st.data(),
    st.sampled_from([MEGATRON, TORCHTITAN]),
)
def test_groups_of_any_mesh_give_it_back(sizes: dict[str, int], data: st.DataObject, names: dict[str, str]) -> None:
    world = sizes["tp"] * sizes["cp"] * sizes["dp"] * sizes["pp"]
    rank = data.draw(st.integers(0, world - 1))
    sizes["ep"] = data.draw(st.sampled_from([d for d in range(1, 5) if sizes["dp"] % d == 0]))
    listed = [name for name in sizes if sizes[name] > 1 or data.draw(st.booleans())]
    groups = [group(i, names[name], members(rank, name, sizes)) for i, name in enumerate(listed)]
    layout = found_of(ranks_table((rank, world, groups)))
    if not listed:
        assert layout is None
        return
    assert layout is not None
    assert dict(layout.degrees) == sizes
    if sizes["pp"] > 1:
        assert layout.places["place"].to_list() == [coordinates(rank, sizes)["pp"]]


@pytest.mark.parametrize(
    "cut", ["[0, 128, 256, ..., 896]", [0, 128, 256], [0, 128, "...", 896], "[0, 128", {"0": 1}, [[0], [1]], [0, -1]]
)
def test_a_list_that_was_cut_is_no_group(cut: Any) -> None:
    ranks = ranks_table((300, 1024, [group(1, "mesh_pp", cut, 8), group(2, "mesh_dp", "[0, 1, ..., 127]", 128)]))
    assert process_groups(ranks).is_empty()
    layout = found_of(ranks)
    assert layout is not None
    assert dict(layout.degrees) == {"pp": 8, "dp": 128, "tp": 1, "cp": 1, "ep": 1}
    assert layout.places.rows() == [(300, 2, 8)]  # by the numbering: 300 // 128


def test_members_written_as_text_are_members() -> None:
    ranks = ranks_table((1, 4, [group(1, "mesh_pp", "[1, 3]", 2)]))
    assert process_groups(ranks)["group"].to_list() == ["1,3"]


def test_a_group_of_all_ranks_may_be_listed_empty() -> None:
    ranks = ranks_table((3, 4, [{"pg_name": "0", "pg_desc": "mesh_pp", "ranks": [], "group_size": 4}]))
    assert process_groups(ranks)["group"].to_list() == ["0,1,2,3"]
    layout = found_of(ranks)
    assert layout is not None
    assert layout.places.rows() == [(3, 3, 4)]


@pytest.mark.parametrize(
    "text", ["{", "[1, 2]", '"x"', "{}", "null", '[{"ranks": 5}]', "[" * 5000, '[{"pg_desc": 7, "ranks": [0]}]']
)
def test_groups_that_are_none_show_nothing(text: str) -> None:
    assert found_of(ranks_table((0, 4, text))) is None


def test_degrees_that_contradict_the_size_of_the_job_are_not_reported() -> None:
    assert found_of(ranks_table((0, 6, [group(1, "mesh_pp", [0, 1, 2, 3])]))) is None
    all_four = [group(i, f"mesh_{name}", [0, 1]) for i, name in enumerate(("pp", "dp", "tp", "cp"))]
    assert found_of(ranks_table((0, 32, all_four))) is None


def test_ranks_that_disagree_show_nothing() -> None:
    rows = [(rank, 8, [group(1, "mesh_pp", list(range(size)))]) for rank, size in ((0, 2), (1, 4))]
    assert found_of(ranks_table(*rows)) is None


def test_what_is_left_of_the_job_is_data_parallel_and_less_sure() -> None:
    layout = found_of(ranks_table((5, 16, [group(1, "mesh_pp", [1, 5, 9, 13])])))
    assert layout is not None
    assert dict(layout.degrees) == {"pp": 4, "dp": 4, "tp": 1, "cp": 1, "ep": 1}
    assert layout.confidence < 0.9
    assert "dp is what is left of 16 ranks" in layout.basis


def test_groups_of_embeddings_and_of_whole_models_are_no_degree() -> None:
    groups = [group(1, "EMBEDDING_GROUP", [0, 3]), group(2, "MODEL_PARALLEL_GROUP", [0, 1, 2, 3])]
    assert found_of(ranks_table((0, 4, groups))) is None


@pytest.mark.parametrize(("role", "kind"), [("pp", "send"), ("ep", "all_to_all")])
def test_groups_that_nothing_describes_are_recognised_by_use(role: str, kind: str) -> None:
    rows = pl.DataFrame({"rank": [1], "group": ["1,3,5,7"], "role": [role], "role_source": ["use"], "kind": [kind]})
    collectives, messages = (
        pl.concat(
            [empty(schema), rows.select(pl.col(n).cast(schema[n]) for n in rows.columns if n in schema)], how="diagonal"
        )
        for schema in (COLLECTIVES, P2P)
    )
    layout = dimensions(ranks_table((1, 8, [])), collectives, messages)
    assert layout is not None
    assert layout.degrees[role] == 4
    assert layout.confidence < 0.7


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2))
def test_roles_of_a_declared_layout_are_those_of_the_mesh(pp: int, per_group: int, tp: int, ep: int) -> None:
    layout = Layout(pp=pp, dp=per_group * ep, tp=tp, ep=ep)
    job = Job(
        kind="x",
        layout=layout,
        model=NO_MODEL,
        compute_mode="real",
        backend="nccl",
        dtype="bfloat16",
        tokens_per_step=0,
        sequence_length=0,
        ranks=(),
        status="completed",
    )
    sizes = {"tp": tp, "cp": 1, "dp": layout.dp, "pp": pp, "ep": ep}
    expected: dict[str, str] = {}
    for rank in range(layout.world_size):
        for role in ("pp", "ep", "tp", "dp"):
            ranks = members(rank, role, sizes)
            if len(ranks) > 1:
                expected.setdefault(",".join(map(str, ranks)), role)
    found = job_roles(job)
    assert {group: str(role) for group, role in found.select("group", "role").iter_rows()} == expected


def test_a_world_that_no_job_has_is_not_believed() -> None:
    """Groups are lists of their ranks: a trace that claims billions must not fill the memory."""
    for claimed, world in ((MAX_WORLD, MAX_WORLD), (MAX_WORLD + 1, None), ((1 << 31) - 1, None)):
        assert recorded_rank({"rank": 3, "world_size": claimed}, DefectLog("t.json")) == (3, world)
