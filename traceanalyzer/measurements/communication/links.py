"""What the ranks' links can carry, from the devices that their traces name."""

from __future__ import annotations

import polars as pl

from traceanalyzer.errors import UsageError
from traceanalyzer.measurements.efficiency.devices import device_spec


def links(ranks: pl.DataFrame) -> pl.DataFrame:
    """Host and peak of the scale-up links of every rank: `rank`, `host`, `link_bytes_per_second`, from `RANKS`.

    One direction, all links of the device together; null if the device or its links are not known.
    """
    rows = [
        (row["rank"], row["host"], _link_peak(row["devices"]))
        for row in ranks.unique("rank", keep="first", maintain_order=True).iter_rows(named=True)
    ]
    return pl.DataFrame(
        rows, schema={"rank": pl.Int32, "host": pl.String, "link_bytes_per_second": pl.Float64}, orient="row"
    )


def _link_peak(devices: str | None) -> float | None:
    """Peak of the devices' links if all devices of the host are of one known type."""
    try:
        spec = device_spec(devices)
    except UsageError:
        return None
    return spec.link_bytes_per_second if spec else None
