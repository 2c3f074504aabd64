"""Process groups as the traces list them, and what each is for.

A group is the text of its member ranks joined by commas, in the order of their positions in the group: that is what
ranks share, whatever each of them calls it.
"""

from __future__ import annotations

from typing import cast

import msgspec
import polars as pl

from traceanalyzer.job import Job
from traceanalyzer.schema import ROLE
from traceanalyzer.tables.one_answer import OneAnswer
from traceanalyzer.traces.kineto.facts import whole_number

_BY_DESCRIPTION = {
    # torch's device mesh writes mesh_<dimension>, torchtitan's dimensions are pp, dp_shard, dp_replicate, cp, tp, ep, etp;
    # Megatron-LM names groups after its getters, for example PIPELINE_MODEL_PARALLEL_GROUP
    r"(^|_)pp($|_)|pipe|embedding_group": "pp",
    r"expert_data|expt_dp|(^|_)edp($|_)": "dp",
    r"expert_(model|tensor)|expert_parallel|(^|_)ep($|_)|expt": "ep",
    r"(^|_)e?tp($|_)|^tensor_(model_)?parallel": "tp",
    r"(^|_)dp($|_)|(^|_)(dp_shard|dp_replicate|fsdp|hsdp|ddp)|data_parallel": "dp",
    r"(^|_)cp($|_)|^context_parallel|hierarchical_context": "cp",
}
"""Pattern in a group's description, any case, to role; the first that is found counts."""


def process_groups(ranks: pl.DataFrame) -> pl.DataFrame:
    """Groups that hold each rank and whose members are known: `rank`, `pg_name`, `pg_desc`, `group`, `size`, from `RANKS`."""
    return listed_groups(ranks).drop_nulls("group")


def listed_groups(ranks: pl.DataFrame) -> pl.DataFrame:
    """Groups as the traces list them: `rank`, `pg_name`, `pg_desc`, `group`, `size`, from `RANKS`.

    `group` is null if the list was cut (`0, 1, ..., 63`): what is left of it is not a group. Some versions of torch list
    nothing for a group of all ranks. Entries that are none are left out.
    """
    return _asked(ranks)


def _listed_groups(ranks: pl.DataFrame) -> pl.DataFrame:
    rows: list[tuple[int, str | None, str | None, int | None, int]] = []
    known = _Members()
    columns = ("rank", "world_size", "process_groups")
    for rank, world, text in ranks.select(columns).unique(maintain_order=True).iter_rows():
        for entry in _entries(text):
            place, length = known.place(entry.get("ranks"))
            size = whole_number(_value(entry, "pg_size") or _value(entry, "group_size")) or (length or 0)
            if length == 0 and size == world:
                place, length = known.everyone(size), size
            if size > 0:
                rows.append(
                    (rank, _text(entry, "pg_name"), _text(entry, "pg_desc"), place if length == size else None, size)
                )
    listed = pl.DataFrame(rows, schema=_LISTED, orient="row")
    texts = pl.DataFrame({"_place": range(len(known.texts)), "group": known.texts}, schema=_TEXTS)
    return listed.join(texts, on="_place", how="left", maintain_order="left").select(
        "rank", "pg_name", "pg_desc", "group", "size"
    )


_LISTED = pl.Schema(
    {"rank": pl.Int32, "pg_name": pl.String, "pg_desc": pl.String, "_place": pl.Int64, "size": pl.Int64}
)
_TEXTS = pl.Schema({"_place": pl.Int64, "group": pl.String})
_asked = OneAnswer(_listed_groups)


class _Members:
    """Different lists of members, each read and written out once: every rank of a job lists the same long ones."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._places: dict[bytes, tuple[int | None, int | None]] = {}

    def place(self, raw: msgspec.Raw | None) -> tuple[int | None, int | None]:
        """Where the list's text is, and its length; None if it was cut or is none."""
        key = b"" if raw is None else bytes(raw)
        if key not in self._places:
            self._places[key] = self._put(_members(msgspec.json.decode(key) if key else None))
        return self._places[key]

    def everyone(self, size: int) -> int | None:
        """Where the text of all ranks of a job of that size is."""
        return self.place(msgspec.Raw(msgspec.json.encode(list(range(size)))))[0]

    def _put(self, members: list[int] | None) -> tuple[int | None, int | None]:
        if members is None:
            return None, None
        self.texts.append(",".join(map(str, members)))
        return len(self.texts) - 1, len(members)


def _entries(text: str | None) -> list[dict[str, msgspec.Raw]]:
    """The objects of a JSON list, values unread."""
    try:
        return _OBJECTS.decode(text) if text else []
    except (msgspec.MsgspecError, RecursionError):
        pass
    try:
        found: object = msgspec.json.decode(text or "")
    except (msgspec.MsgspecError, RecursionError):
        return []
    items = cast("list[object]", found) if isinstance(found, list) else []
    return [_OBJECTS.decode(msgspec.json.encode([item]))[0] for item in items if isinstance(item, dict)]


_OBJECTS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def _value(entry: dict[str, msgspec.Raw], name: str) -> object:
    return msgspec.json.decode(entry[name]) if name in entry else None


def _members(value: object) -> list[int] | None:
    """The ranks of a list, or of a list written as text; None if it was cut or is none."""
    if isinstance(value, str):
        value = [part.strip() for part in value.strip("[] ").split(",") if part.strip()]
    if not isinstance(value, list):
        return None
    members = [whole_number(item) for item in cast("list[object]", value)]
    whole = [rank for rank in members if rank is not None and 0 <= rank < 1 << 31]
    return whole if len(whole) == len(members) else None


def _text(entry: dict[str, msgspec.Raw], name: str) -> str | None:
    value = _value(entry, name)
    return None if value is None else str(value)


def world_group(ranks: pl.DataFrame) -> str | None:
    """All ranks of the job as a group; None if its size is not recorded."""
    sizes = ranks["world_size"].drop_nulls().unique().to_list()
    return ",".join(str(rank) for rank in range(sizes[0])) if len(sizes) == 1 and sizes[0] > 0 else None


def described_roles(groups: pl.DataFrame) -> pl.DataFrame:
    """Roles that descriptions give: `group`, `pg_name`, `role`, `role_source` (`description`).

    Two groups of the same ranks may have different roles, so the name is part of the key. The default group's
    description says nothing: everything may run over it.
    """
    description = pl.col("pg_desc").str.to_lowercase()
    named = pl.coalesce(
        *[pl.when(description.str.contains(pattern)).then(pl.lit(role)) for pattern, role in _BY_DESCRIPTION.items()]
    )
    return (
        groups.filter(pl.col("size") > 1)
        .with_columns(named.alias("role"))
        .filter(pl.col("role").is_not_null())
        .select("group", "pg_name", pl.col("role").cast(ROLE), pl.lit("description").alias("role_source"))
        .unique(["group", "pg_name"], keep="first", maintain_order=True)
    )


def job_roles(job: Job | None) -> pl.DataFrame:
    """Roles that the job's layout gives: `group`, `role`, `role_source` (`job`); groups of one rank have none."""
    rows: dict[tuple[int, ...], str] = {}
    if job is not None and job.layout is not None:
        layout = job.layout
        for rank in range(layout.world_size):
            groups = {"pp": layout.pipeline(rank), "ep": layout.expert_group(rank)}
            groups |= {"tp": layout.tensor_group(rank), "cp": layout.context_group(rank)}
            if rank == layout.replicas(rank)[0]:  # long in large jobs: each of these groups once
                groups["dp"] = layout.replicas(rank)
            for role, members in groups.items():
                if len(members) > 1:
                    rows.setdefault(members, role)
    return pl.DataFrame(
        [(",".join(map(str, members)), role, "job") for members, role in rows.items()],
        schema={"group": pl.String, "role": ROLE, "role_source": pl.String},
        orient="row",
    )


def with_expert_group(rows: pl.DataFrame, ranks: pl.DataFrame, job: Job | None) -> pl.DataFrame:
    """Rows (`LINKED`) with the `group` of all-to-all kernels that no call of the process group launched.

    Kernels of DeepEP, NVSHMEM and their kin name no group. A rank whose description or job shows exactly one expert group
    runs them in that one; on other ranks the group stays unknown.
    """
    listed = process_groups(ranks)
    described = listed.join(described_roles(listed).filter(pl.col("role") == "ep"), on=["group", "pg_name"], how="semi")
    layouts: dict[str, pl.Series] = {}
    layout = None if job is None else job.layout
    if layout is not None and layout.ep > 1:
        of_job = [",".join(map(str, layout.expert_group(rank))) for rank in range(layout.world_size)]
        layouts = {"rank": pl.Series(range(layout.world_size), dtype=pl.Int32), "group": pl.Series(of_job)}
    declared = pl.DataFrame(layouts, schema={"rank": pl.Int32, "group": pl.String})
    found = pl.concat([described.select("rank", "group"), declared]).unique()
    single = found.filter(pl.len().over("rank") == 1).rename({"group": "_expert_group"})
    nameless = pl.col("call").is_null() & pl.col("group").is_null() & (pl.col("operation") == "all_to_all")
    return (
        rows.join(single, on="rank", how="left", maintain_order="left")
        .with_columns(pl.when(nameless).then("_expert_group").otherwise("group").alias("group"))
        .drop("_expert_group")
    )


def used_roles(calls: pl.DataFrame, world: str | None) -> pl.DataFrame:
    """Roles by use alone: `group`, `kind`, `role`, `role_source` (`use`).

    `calls` has `group`, `kind`, `rank` and `step`, and `send_bytes`, `receive_bytes` where they are known. Point-to-point: pp.
    All-to-all: ep. Up to four reductions per step: dp, or `world` if the group is the whole job. Gathers and scatters serve
    layers: dp or tp as `_layer_roles` shows. More reductions than four are tensor parallelism or buckets of gradients,
    which use does not separate, so nothing is claimed.
    """
    per_step = pl.len() / pl.struct("rank", "step").n_unique()
    use = calls.filter(pl.col("group").is_not_null()).group_by("group", "kind").agg(per_step.alias("per_step"))
    closing = pl.when(pl.col("group") == pl.lit(world, pl.String)).then(pl.lit("world")).otherwise(pl.lit("dp"))
    role = (
        pl.when(pl.col("kind").is_in(["send", "receive"]))
        .then(pl.lit("pp"))
        .when(pl.col("kind") == "all_to_all")
        .then(pl.lit("ep"))
        .when((pl.col("kind") == "all_reduce") & (pl.col("per_step") <= _FEW))
        .then(closing)
    )
    by_count = use.with_columns(role.alias("role")).select("group", "kind", "role")
    return (
        pl.concat([by_count, _layer_roles(calls)])
        .filter(pl.col("role").is_not_null())
        .select("group", "kind", pl.col("role").cast(ROLE), pl.lit("use").alias("role_source"))
        .sort("group", "kind")
    )


def _layer_roles(calls: pl.DataFrame) -> pl.DataFrame:
    """Roles of groups that gather and scatter: `group`, `kind`, `role`.

    Sharded data parallelism (ZeRO-3, FSDP) gathers every unit's parameters for forward and again for backward and scatters
    its gradients once: 1.6 to 2.1 gathers per scatter (the last unit is often kept), of as many different sizes, one per
    kind of unit. Tensor parallelism with sequence parallelism gathers and scatters activations, all of one size, up to 1.5
    gathers per scatter, and more than `_FEW` of each. Anything else stays without a role.
    """
    empty = pl.DataFrame(schema={"group": pl.String, "kind": pl.String, "role": pl.String})
    if not {"send_bytes", "receive_bytes"} <= set(calls.columns):
        return empty
    whole = pl.max_horizontal("send_bytes", "receive_bytes")
    layers = calls.filter(pl.col("group").is_not_null() & pl.col("kind").is_in(_LAYER_KINDS))
    counts = layers.group_by("group").agg(
        *[(pl.col("kind") == kind).sum().alias(kind) for kind in _LAYER_KINDS],
        *[whole.filter(pl.col("kind") == kind).drop_nulls().n_unique().alias(f"{kind}_sizes") for kind in _LAYER_KINDS],
        pl.struct("rank", "step").n_unique().alias("num_steps"),
    )
    gathers, scatters = (pl.col(kind) for kind in _LAYER_KINDS)
    sizes = [pl.col(f"{kind}_sizes") for kind in _LAYER_KINDS]
    sharded = gathers.is_between(1.6 * scatters, 2.1 * scatters) & (sizes[0] >= 2) & (sizes[0] == sizes[1])
    sequence = (gathers <= 1.5 * scatters) & (scatters <= 1.5 * gathers) & (sizes[0] == 1) & (sizes[1] == 1)
    often = pl.min_horizontal(gathers, scatters) > _FEW * pl.col("num_steps")
    role = pl.when(sharded).then(pl.lit("dp")).when(sequence & often).then(pl.lit("tp"))
    known = counts.filter(scatters > 0).select("group", role.alias("role"))
    return pl.concat([empty, *(known.select("group", pl.lit(kind).alias("kind"), "role") for kind in _LAYER_KINDS)])


_LAYER_KINDS = ["all_gather", "reduce_scatter"]
_FEW = 4
"""All-reduces per step up to which a group closes a step rather than serves layers."""


def with_role(rows: pl.DataFrame, ranks: pl.DataFrame, job: Job | None) -> pl.DataFrame:
    """Add `role` and `role_source` to rows with `group`, `pg_name`, `kind`, `rank`, `step`: description, job, use."""
    world = world_group(ranks)
    sources = [
        (described_roles(process_groups(ranks)), ["group", "pg_name"]),
        (job_roles(job), ["group"]),
        (used_roles(rows, world), ["group", "kind"]),
    ]
    result = rows
    for number, (table, keys) in enumerate(sources):
        named = table.rename({"role": f"_role{number}", "role_source": f"_source{number}"})
        result = result.join(named, on=keys, how="left", maintain_order="left")
    return result.with_columns(
        pl.coalesce("_role0", "_role1", "_role2").alias("role"),
        pl.coalesce("_source0", "_source1", "_source2").alias("role_source"),
    ).drop([f"_{part}{number}" for number in range(3) for part in ("role", "source")])
