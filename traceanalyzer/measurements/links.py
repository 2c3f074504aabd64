"""What the ranks' links can carry, from the devices that their traces name."""

from __future__ import annotations

import msgspec
import polars as pl

from traceanalyzer.errors import UsageError
from traceanalyzer.hardware import find_device


class _Device(msgspec.Struct):
    """What is needed of an entry of `deviceProperties`, in its own spelling."""

    name: str = ""
    numSms: int | None = None  # noqa: N815 - Kineto's key


_DEVICES = msgspec.json.Decoder(list[_Device])


def links(ranks: pl.DataFrame) -> pl.DataFrame:
    """Host and peak of the scale-up links of every rank: `rank`, `host`, `link_bytes_per_second`, from `RANKS`.

    One direction, all links of the device together; null where the device or its links are not known.
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
        names = {(device.name, device.numSms) for device in _DEVICES.decode(devices or "[]")}
        if len(names) != 1:
            return None
        name, num_units = names.pop()
        return find_device(name, num_units).link_bytes_per_second
    except (UsageError, msgspec.MsgspecError):
        return None
