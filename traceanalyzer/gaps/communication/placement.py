"""Which dimensions of the mesh send between hosts, and how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.measurements.communication.placed_bytes import hosts_of_groups, placed_bytes
from traceanalyzer.review import DimensionBytes, Withheld
from traceanalyzer.tables import Tables


@dataclass(frozen=True, slots=True)
class PlacementGap(SubjectPart):
    """Bytes by dimension and place."""

    figures: tuple[DimensionBytes, ...]
    withheld: tuple[Withheld, ...]
    table: pl.DataFrame

    @property
    def sections(self) -> Mapping[str, object]:
        """Fields of the review."""
        return {"dimension_bytes": list(self.figures)}

    @property
    def tables(self) -> Mapping[str, pl.DataFrame]:
        """`placed_bytes`."""
        return {"placed_bytes": self.table}


def placement_gap(tables: Tables, collectives: pl.DataFrame, messages: pl.DataFrame) -> PlacementGap:
    """Bytes within and between hosts of every dimension that communicates in the steps."""
    table = placed_bytes(collectives, messages, tables.ranks)
    groups = pl.concat([frame.select(pl.col("role").cast(pl.String), "group") for frame in (collectives, messages)])
    hosts = dict(tables.ranks.select("rank", "host").iter_rows())
    return PlacementGap(tuple(_figures(table, groups.unique().drop_nulls(), hosts)), (), table)


def _figures(table: pl.DataFrame, groups: pl.DataFrame, hosts: Mapping[int, str | None]) -> list[DimensionBytes]:
    """One row per dimension, in the order of the bytes that leave a host."""
    found: list[DimensionBytes] = []
    for (role,), rows in table.filter(pl.col("role").is_not_null()).group_by(pl.col("role").cast(pl.String)):
        named = groups.filter(pl.col("role") == role)["group"]
        placed = hosts_of_groups(named, hosts)
        crossing = sorted(group for group, found_hosts in placed.items() if len(found_hosts - {None}) > 1)
        is_known = all(None not in found_hosts or group in crossing for group, found_hosts in placed.items())
        found.append(
            DimensionBytes(
                dimension=str(role),
                num_groups=len(placed),
                num_crossing=len(crossing) if is_known else None,
                example=[int(rank) for rank in crossing[0].split(",")] if crossing and is_known else [],
                num_ranks=rows.height,
                within_bytes=_mean(rows["within_bytes"]),
                between_bytes=_mean(rows["between_bytes"]),
                unplaced_bytes=_mean(rows["unplaced_bytes"]),
                num_unknown=int(rows["num_unknown"].sum()),
            )
        )
    return sorted(found, key=lambda each: (-each.between_bytes, each.dimension))


def _mean(values: pl.Series) -> float:
    mean = values.mean()
    return float(mean) if isinstance(mean, float) else 0.0
