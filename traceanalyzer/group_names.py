"""What process groups are called by those who make them, and the parallel degrees that their sizes give."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod

BY_DESCRIPTION = {
    r"(mesh_)?pp|pipeline_(model_)?parallel(_group)?": "pp",
    r"(mesh_)?tp|tensor_(model_)?parallel(_group)?": "tp",
    r"(mesh_)?cp|context_parallel(_group)?": "cp",
    r"(mesh_)?ep|expert_(model_)?parallel(_group)?": "ep",
    r"(mesh_)?(dp|batch)|data_parallel(_group)?": "dp",
    r"mesh_(dp_cp|loss)|data_parallel_group_with_cp": "dp_cp",
    r"mesh_dp_replicate": "dp_replicate",
    r"mesh_dp_shard": "dp_shard",
    r"mesh_dp_shard_mod_ep": "dp_shard_mod_ep",
    r"mesh_dp_shard_in_ep": "dp_shard_in_ep",
}
"""A group's whole description, in lower case, by its dimension: torch's device mesh writes `mesh_<dimension>`, Megatron-LM
its own names. Megatron-LM makes many more groups (embeddings, tensor and data together): their sizes are not degrees."""
DEGREES = ("pp", "dp", "tp", "cp", "ep")
MESH = ("pp", "dp", "tp", "cp")
"""Degrees whose product is the number of ranks; experts are spread over them."""


def dimension_of(description: str) -> str | None:
    """The dimension of a group with this description; None if it tells none."""
    text = description.lower()
    return next((name for pattern, name in BY_DESCRIPTION.items() if re.fullmatch(pattern, text)), None)


def degrees_of(sizes: Mapping[str, int]) -> dict[str, int]:
    """Degrees from sizes of groups by dimension, of which several may be parts or products of a degree."""
    degrees = {name: sizes[name] for name in DEGREES if name in sizes}
    shards = sizes.get("dp_shard") or prod(sizes.get(name, 1) for name in ("dp_shard_mod_ep", "dp_shard_in_ep"))
    parts = {"dp_shard", "dp_replicate", "dp_shard_mod_ep", "dp_shard_in_ep"} & set(sizes)
    if "dp" not in degrees and parts:
        degrees["dp"] = shards * sizes.get("dp_replicate", 1)
    if "dp" not in degrees and "dp_cp" in sizes:
        degrees["dp"] = sizes["dp_cp"] // degrees.get("cp", 1)
    return degrees
