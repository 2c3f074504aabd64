"""One file, several ranks or several devices: which process or device is which rank.

A profiler records one process. A file in which several processes launched kernels was put together from the files of several
ranks; their correlation numbers and devices then mean different things in each. A file of one process that computes on
several devices, as a pipeline without distribution does, has a timeline for each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import polars as pl

MIN_MATCHED_SHARE = 0.9
"""Of a device's kernels: at least so many must have been launched, earlier, by the process that it is taken to belong to."""
MIN_DEVICE_SHARE = 0.05
"""Of a process's kernel time: a device with less was only touched."""
MAX_PROCESSES = 6
"""Processes that are tried in every order; of more, only their own order."""


def launching_processes(launched: pl.DataFrame, device: pl.DataFrame) -> list[str]:
    """Processes that launched kernels, in the order of their numbers.

    `launched` is as `launches` gives it, `device` has the `process` of device work. Where correlation numbers are of one
    count, and device work is of fewer processes, some launches only have a damaged process number: then it is one.
    """
    hosts = _names(launched)
    if len(hosts) < 2 or len(set(_names(device)) - set(hosts)) >= len(hosts):
        return hosts
    return hosts if launched["correlation"].is_duplicated().any() else hosts[:1]


def ranks_of_processes(launched: pl.DataFrame, device: pl.DataFrame) -> dict[str, int] | None:
    """The place of every process in the order of the launching ones, those of devices included; None if unknown.

    `device` has `process`, `correlation`, `start_ns` of device work. Where several pairings fit, that in the order of process
    numbers counts.
    """
    hosts = _names(launched)
    devices = [name for name in _names(device) if name not in hosts]
    if len(hosts) != len(devices):
        return None
    fits = {(host, name): _fits(launched, device, host, name) for host in hosts for name in devices}
    orders = permutations(devices) if len(hosts) <= MAX_PROCESSES else [tuple(devices)]
    for order in orders:
        if all(fits[pair] for pair in zip(hosts, order, strict=True)):
            return {name: place for names in (hosts, order) for place, name in enumerate(names)}
    return None


def computing_devices(device: pl.DataFrame) -> list[int]:
    """Devices on which a process computes, from the `device`, `category` and `duration_ns` of its device work."""
    kernels = device.filter((pl.col("category") == "kernel") & pl.col("device").is_not_null())
    time = kernels.group_by("device").agg(pl.col("duration_ns").sum())
    enough = pl.col("duration_ns") >= MIN_DEVICE_SHARE * pl.col("duration_ns").sum()
    return sorted(time.filter(enough)["device"].to_list())


def _fits(launched: pl.DataFrame, device: pl.DataFrame, host: str, name: str) -> bool:
    """Whether the process launched nearly all of what ran on the device, before it ran."""
    own = launched.filter(pl.col("process").cast(pl.String) == host).select(
        "correlation", pl.col("start_ns").alias("_launch_ns")
    )
    work = device.filter((pl.col("process").cast(pl.String) == name) & (pl.col("category") == "kernel"))
    found = work.join(own.unique("correlation", keep="first"), on="correlation")
    return found.filter(pl.col("_launch_ns") <= pl.col("start_ns")).height >= MIN_MATCHED_SHARE * work.height


def _names(rows: pl.DataFrame) -> list[str]:
    return _in_order(rows["process"].cast(pl.String).drop_nulls().unique().to_list()) if rows.height else []


def _in_order(names: Sequence[str]) -> list[str]:
    return sorted(names, key=lambda name: (0, int(name), name) if name.isdigit() else (1, 0, name))
