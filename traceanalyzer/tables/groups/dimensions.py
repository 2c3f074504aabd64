"""Process groups → the job's parallel degrees, and the place of every captured rank: often from one trace of thousands.

A trace lists the groups that its rank is in, with what they were made for: torch's device mesh writes `mesh_<dimension>`,
Megatron-LM its own names. A group's size is a degree; the rank's place in the group of its pipeline is its stage. A group
that nothing describes is recognised by use alone: messages make a pipeline, all-to-alls an expert group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import polars as pl

from traceanalyzer.group_names import BY_DESCRIPTION, DEGREES, MESH, degrees_of
from traceanalyzer.tables.groups.listed import listed_groups

_SURE, _DERIVED, _BY_USE = 0.95, 0.7, 0.6


@dataclass(frozen=True, slots=True)
class Dimensions:
    """How the job is laid out."""

    degrees: Mapping[str, int]
    """By name: `pp`, `dp`, `tp`, `cp`, `ep`; an unknown dimension is absent."""
    confidence: float
    """0 to 1: 0.95 where names tell every degree and their product is the job's size."""
    basis: str
    """In words: which groups said so."""
    places: pl.DataFrame
    """`rank`, `place` (along its pipeline), `num_places`; only ranks whose place is known."""


def dimensions(ranks: pl.DataFrame, collectives: pl.DataFrame, messages: pl.DataFrame) -> Dimensions | None:
    """The layout from `RANKS`, and where descriptions are silent from the roles in `COLLECTIVES` and `P2P`.

    None if nothing shows a degree, or degrees contradict each other or the job's size.
    """
    named = _described(listed_groups(ranks))
    sizes, names = _sizes(named)
    used = _used(collectives, messages)
    by_use = {role: size for role, size in used.items() if role not in sizes}
    found = degrees_of({**by_use, **sizes})
    world = _world(ranks)
    if not found or any(size == 0 for size in found.values()):
        return None
    complete = _completed(found, world)
    if complete is None:
        return None
    degrees, derived = complete
    checked = not derived and prod(degrees.get(name, 1) for name in MESH) == world
    confidence = _BY_USE if by_use else _SURE if checked else _DERIVED
    basis = _basis(names, by_use, derived, world)
    return Dimensions(degrees, confidence, basis, _places(named, messages, ranks, degrees, world))


def _world(ranks: pl.DataFrame) -> int | None:
    sizes = ranks["world_size"].drop_nulls().unique().to_list()
    return int(sizes[0]) if len(sizes) == 1 and sizes[0] > 0 else None


def _described(groups: pl.DataFrame) -> pl.DataFrame:
    """Groups of a known dimension: columns of `listed_groups` and `dimension`."""
    text = pl.col("pg_desc").str.to_lowercase()
    named = [
        pl.when(text.str.contains(f"^({pattern})$")).then(pl.lit(name)) for pattern, name in BY_DESCRIPTION.items()
    ]
    return groups.with_columns(pl.coalesce(named).alias("dimension")).drop_nulls("dimension")


def _sizes(named: pl.DataFrame) -> tuple[dict[str, int], list[str]]:
    """Size by dimension (0 if ranks disagree), and the descriptions that give it."""
    rows = named.group_by("dimension").agg(
        pl.col("size").n_unique().alias("num"), pl.col("size").first(), pl.col("pg_desc").first()
    )
    sizes = {name: size if num == 1 else 0 for name, num, size, _ in rows.iter_rows()}
    return sizes, sorted(rows["pg_desc"])


def _used(collectives: pl.DataFrame, messages: pl.DataFrame) -> dict[str, int]:
    """Sizes of groups whose role was shown by use; a role with groups of several sizes is left out."""
    rows = pl.concat([frame.select("group", "role", "role_source") for frame in (collectives, messages)])
    sizes = (
        rows.filter((pl.col("role_source") == "use") & pl.col("group").is_not_null())
        .with_columns(pl.col("group").str.count_matches(",").cast(pl.Int64).alias("size") + 1)
        .group_by(pl.col("role").cast(pl.String))
        .agg(pl.col("size").n_unique().alias("num"), pl.col("size").first())
        .filter((pl.col("num") == 1) & pl.col("role").is_in(["pp", "ep", "dp"]))
    )
    return {role: size for role, _, size in sizes.iter_rows()}


def _completed(found: Mapping[str, int], world: int | None) -> tuple[dict[str, int], list[str]] | None:
    """Every degree (`ep` lies inside the others) and the names of those that follow from the job's size alone.

    None if the product is not the job's size.
    """
    known = prod(found.get(name, 1) for name in MESH)
    if world is None:
        return dict(found), []
    if world % known or (known != world and set(MESH) <= set(found)):
        return None
    if known == world:
        return {name: found.get(name, 1) for name in DEGREES}, []
    if "dp" in found:
        return dict(found), []  # a dimension without a described group is left open
    return {name: found.get(name, world // known if name == "dp" else 1) for name in DEGREES}, ["dp"]


def _basis(names: list[str], by_use: Mapping[str, int], derived: list[str], world: int | None) -> str:
    parts = [f"groups described as {', '.join(names)}"] if names else []
    parts += [f"groups used as {', '.join(sorted(by_use))}"] if by_use else []
    parts += [f"{name} is what is left of {world} ranks" for name in derived]
    return "; ".join(parts)


def _places(
    named: pl.DataFrame, messages: pl.DataFrame, ranks: pl.DataFrame, degrees: Mapping[str, int], world: int | None
) -> pl.DataFrame:
    """Where every captured rank stands along its pipeline: by its group's members, else by the numbering.

    Where the member list was cut, ranks are taken to be numbered with the pipeline outermost, as Megatron-LM and
    torchtitan do.
    """
    listed = named.filter((pl.col("dimension") == "pp") & pl.col("group").is_not_null()).select("rank", "group")
    used = messages.filter((pl.col("role") == "pp") & pl.col("group").is_not_null()).select(
        pl.col("rank").cast(pl.Int32), "group"
    )
    members = pl.col("group").str.split(",").cast(pl.List(pl.Int64))
    both = pl.concat([listed, used]).unique("rank", keep="first", maintain_order=True)
    stated = (
        both.select("rank", members.alias("members"), members.list.len().alias("size"))
        .explode("members")
        .with_columns(pl.int_range(pl.len(), dtype=pl.Int32).over("rank").alias("place"))
        .filter(pl.col("members") == pl.col("rank"))
        .select("rank", "place", pl.col("size").cast(pl.Int32).alias("num_places"))
    )
    pipeline = degrees.get("pp", 1)
    if world is None or pipeline < 2 or world % pipeline:
        return stated.sort("rank")
    rest = ranks.select("rank").unique().join(stated, on="rank", how="anti")
    numbered = rest.select(
        "rank",
        (pl.col("rank") // (world // pipeline)).cast(pl.Int32).alias("place"),
        pl.lit(pipeline, pl.Int32).alias("num_places"),
    )
    return pl.concat([stated, numbered]).sort("rank")
