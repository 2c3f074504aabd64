"""Described clusters, and where the ranks of a group lie in them.

Three levels: a domain whose devices reach each other at NVLink speed (near), what leaves it through one network port per
device (far), and pods above which the network is oversubscribed. Ranks are numbered so that neighbours share a domain.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources

from traceanalyzer.errors import UsageError
from traceanalyzer.hardware import DeviceSpec, find_device
from traceanalyzer.spelling import names_hint

_GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One row of `data/clusters.csv`, whose head says what the columns mean; rates in bytes per second."""

    name: str
    device: str
    domain: int
    near: float
    near_share: float
    far: float
    far_share: float
    pod: int
    oversubscription: float
    gemm: float
    attention: float
    attention_backward: float
    memory: float
    units: int
    source: str = ""
    note: str = ""

    @property
    def spec(self) -> DeviceSpec:
        """Peaks of its device."""
        return _device(self.device)

    @property
    def near_rate(self) -> float:
        """Bytes per second that large messages reach within a domain, one device, one direction."""
        return self.near * self.near_share

    def far_rate(self, span: int) -> float:
        """Likewise between domains, for a group whose ranks lie within `span` consecutive devices."""
        crossing = self.oversubscription if 0 < self.pod < span else 1.0
        return self.far * self.far_share / crossing


@dataclass(frozen=True, slots=True)
class Group:
    """Ranks that exchange: how many, how many of them share a domain, and how many devices they are spread over."""

    size: int
    per_domain: int
    span: int

    @property
    def num_domains(self) -> int:
        """Domains that it touches."""
        return -(-self.size // self.per_domain)


@cache
def clusters() -> dict[str, Cluster]:
    """Every described cluster by name."""
    text = resources.files("traceanalyzer").joinpath("data/clusters.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {row["name"]: _cluster(row) for row in rows}


def find_cluster(name: str) -> Cluster:
    """The cluster of this name, or the one with this device, whatever case, dashes or blanks. Raises `UsageError`."""
    wanted = _key(name)
    for cluster in clusters().values():
        if wanted in (_key(cluster.name), _key(cluster.device)):
            return cluster
    raise UsageError(
        f"there is no cluster called '{name}'",
        names_hint(name, list(clusters()), "known clusters"),
    )


@cache
def group(cluster: Cluster, size: int, stride: int = 1) -> Group:
    """`size` ranks, every `stride`-th one: TP has stride 1, CP stride TP, and so on outwards."""
    per_domain = min(size, max(1, cluster.domain // stride))
    while size % per_domain:
        per_domain -= 1
    return Group(size, per_domain, size * stride)


@cache
def _device(name: str) -> DeviceSpec:
    return find_device(name)


def _cluster(row: dict[str, str]) -> Cluster:
    words, whole = {"name", "device", "source", "note"}, {"domain", "pod", "units"}
    rates = {"near", "far"}
    numbers: dict[str, float] = {}
    for each in fields(Cluster):
        if each.name not in words | whole:
            numbers[each.name] = float(row[each.name]) * (_GB if each.name in rates else 1)
    counts = {name: int(row[name]) for name in whole}
    texts = {name: row[name] for name in words}
    return Cluster(**texts, **counts, **numbers)  # pyright: ignore[reportArgumentType] - names are checked above


def _key(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
