"""Process groups of a running job → its layout, and the ranks that are worth recording."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from traceanalyzer.errors import UsageError
from traceanalyzer.group_names import DEGREES, MESH, degrees_of, dimension_of
from traceanalyzer.layout import Layout

MAX_TRACED_RANKS = 64
"""Jobs up to this size are recorded on every rank unless the user says otherwise."""
_UNDESCRIBED = "nobody declared it, and no process group is described"


@dataclass(frozen=True, slots=True)
class Group:
    """A process group that a rank is in. What every rank tells all others must stay small in large jobs."""

    description: str
    members: tuple[int, ...] | range
    """In the order of their places; a range where they are evenly spaced."""


def own_groups() -> tuple[Group, ...]:
    """The groups of known dimensions that this rank is in; nothing without a process group."""
    if not dist.is_initialized():
        return ()
    listed: Mapping[dist.ProcessGroup, Mapping[int, int]] = dist.distributed_c10d._world.pg_group_ranks  # noqa: SLF001 - torch lists them nowhere else
    described = (
        (str(getattr(group, "group_desc", "") or ""), tuple(sorted(places, key=lambda rank: places[rank])))
        for group, places in listed.items()
    )
    found = dict.fromkeys((*described, *_mesh_lines()))
    return tuple(Group(text, even(members)) for text, members in found if dimension_of(text) is not None)


def _mesh_lines() -> Iterator[tuple[str, tuple[int, ...]]]:
    """This rank's line along every named dimension of the device meshes of this process, as torch describes groups.

    A dimension that spans the whole job runs over the default group, whose description says nothing.
    """
    for mesh in [found for found in gc.get_objects() if type(found) is DeviceMesh]:
        place = mesh.get_coordinate()
        if place is None:  # this rank is not in it
            continue
        for dimension, name in enumerate(mesh.mesh_dim_names or ()):
            at = tuple(slice(None) if number == dimension else index for number, index in enumerate(place))
            yield f"mesh_{name}", tuple(mesh.mesh[at].tolist())


def even(members: Sequence[int]) -> tuple[int, ...] | range:
    """Members as a range where they are one: thousands of ranks then take no more room than two."""
    if len(members) < 2 or members[1] == members[0]:
        return tuple(members)
    spaced = range(members[0], members[0] + (members[1] - members[0]) * len(members), members[1] - members[0])
    return spaced if tuple(spaced) == tuple(members) else tuple(members)


def layout_of(groups: Sequence[Sequence[Group]], num_ranks: int) -> tuple[Layout | None, str]:
    """The layout that the groups of all ranks (by rank) show, or None; and in words how it is known or why not.

    It is a layout only where the degrees multiply to the number of ranks and every group holds the ranks that the layout's
    numbering gives it.
    """
    sizes: dict[str, set[int]] = {}
    names: dict[str, str] = {}
    for group in (each for of_rank in groups for each in of_rank):
        dimension = dimension_of(group.description)
        if dimension is not None:
            sizes.setdefault(dimension, set()).add(len(group.members))
            names[dimension] = group.description
    if not sizes:
        return None, _UNDESCRIBED
    names_text = ", ".join(sorted(names.values()))
    if any(len(found) > 1 for found in sizes.values()):
        return None, f"the groups {names_text} have different sizes on different ranks"
    degrees = degrees_of({dimension: found.pop() for dimension, found in sizes.items()})
    if prod(degrees.get(name, 1) for name in MESH) != num_ranks:
        return None, f"the sizes of the groups {names_text} do not multiply to {num_ranks} ranks"
    try:
        layout = Layout(**{name: degrees.get(name, 1) for name in DEGREES})
    except UsageError as error:
        return None, f"the groups {names_text}: {error.message}"
    if not _is_numbered(layout, groups):
        return None, f"the groups {names_text} number the ranks in another order than pipeline, data, context, tensor"
    return layout, f"process groups {names_text}"


def _is_numbered(layout: Layout, groups: Sequence[Sequence[Group]]) -> bool:
    places = {
        "pp": layout.pipeline,
        "dp": layout.replicas,
        "tp": layout.tensor_group,
        "cp": layout.context_group,
        "ep": layout.expert_group,
    }
    return all(
        tuple(group.members) == places[dimension](rank)
        for rank, of_rank in enumerate(groups)
        for group in of_rank
        if (dimension := dimension_of(group.description)) in places
    )


def check_declared(layout: Layout, groups: Iterable[Group]) -> None:
    """Raise `UsageError` where a rank's pipeline, tensor, context or expert group has another size than was declared."""
    sizes = {"pp": layout.pp, "tp": layout.tp, "cp": layout.cp, "ep": layout.ep}
    for group in groups:
        dimension = dimension_of(group.description)
        if dimension in sizes and len(group.members) != sizes[dimension]:
            raise UsageError(
                f"the job declares {dimension}={sizes[dimension]}, and the process group "
                f"{group.description} has {len(group.members)} ranks",
                "correct the declared degrees, or leave them out: the recorder reads the groups",
            )


def chosen_ranks(
    layout: Layout | None, num_ranks: int, groups_of_first: Iterable[Group] = (), ranks_per_node: int | None = None
) -> tuple[tuple[int, ...], str]:
    """Ranks worth recording, and in words which these are.

    All of a job up to `MAX_TRACED_RANKS`; else the pipeline and the expert group of rank 0, by the layout or else by its
    groups; where neither is known the ranks of the first node.
    """
    if num_ranks <= MAX_TRACED_RANKS:
        return tuple(range(num_ranks)), "all ranks"
    if layout is not None:
        found = {*layout.pipeline(0), *layout.expert_group(0)}
    else:
        found = {
            rank
            for group in groups_of_first
            if dimension_of(group.description) in {"pp", "ep"}
            for rank in group.members
        }
    if len(found) > 1:
        return tuple(sorted({0, *found})), "one pipeline and one expert group"
    per_node = min(ranks_per_node or 1, MAX_TRACED_RANKS)
    if layout is not None and per_node == 1:  # replicas alone: some to compare
        per_node = 8
    return tuple(range(min(per_node, num_ranks))), "the first ranks: no pipeline and no expert group is known"
