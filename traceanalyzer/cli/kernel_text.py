"""Kernels by class and name, and communication by group, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_SHOWN = 8
_NAME = 48


def kernel_lines(kernels: Mapping[str, Any] | None) -> Iterator[str]:
    """Classes, phases and the longest names: milliseconds per rank and step."""
    if kernels is None:
        return
    yield "Kernels (ms per rank and step; a sum counts kernels that run at once each, a union once; launch-bound: shorter than"
    yield "the time from their launch to the next of their thread)"
    yield f"  {'class':<14}{'number':>9}{'sum':>11}{'union':>11}{'share':>9}{'launch-bound':>14}"
    for row in kernels["classes"]:
        yield (
            f"  {row['kind']:<14}{row['num_kernels']:>9,}{row['sum_ms']:>11.2f}{row['union_ms']:>11.2f}"
            f"{100 * row['share']:>8.2f}%{_percent(row['launch_bound_share']):>14}"
        )
    if kernels["phases"]:
        known = ", ".join(f"{row['phase'] or 'none'} {row['sum_ms']:.1f}" for row in kernels["phases"])
        yield f"  by phase, sums over streams: {known} (by {kernels['phases'][0]['basis']})"
    yield f"  {'name':<{_NAME}}{'number':>9}{'sum':>9}{'share':>9}{'mean us':>10}{'min':>9}{'max':>10}"
    for row in kernels["top"][:_SHOWN]:
        yield (
            f"  {_plain(row['name']):<{_NAME}}{row['num_kernels']:>9,}{row['sum_ms']:>9.2f}{100 * row['share']:>8.2f}%"
            f"{row['mean_us']:>10.1f}{row['min_us']:>9.1f}{row['max_us']:>10.1f}"
        )


def communication_lines(communication: Mapping[str, Any] | None) -> Iterator[str]:
    """Overlap of communication, and its groups: milliseconds per rank and step."""
    if communication is None:
        return
    share, beside = communication["overlapped_share"], communication["overlapped_share_with_barriers"]
    if share is not None or beside is not None:
        barriers = f" ({_percent(beside, 2)} with barriers of expert kernels)" if beside not in (None, share) else ""
        yield f"Communication: {_percent(share, 2)} of it is under computation{barriers}"
    else:
        yield "Communication"
    yield (
        f"  {'dimension':<11}{'ranks':>6}{'here':>6}{'time':>10}{'transfer':>10}{'wait':>10}{'exposed':>10}{'hidden':>9}"
        f"{'GB/s bus':>10}  group   (ms per rank and step)"
    )
    for row in communication["groups"][:_SHOWN]:
        yield (
            f"  {row['dimension'] or 'unknown':<11}{row['num_ranks'] or '-':>6}{row['num_ranks_captured']:>6}"
            f"{row['duration_ms']:>10.2f}{_ms(row['transfer_ms'])}{_ms(row['wait_ms'])}{_ms(row['exposed_ms'])}"
            f"{_percent(row['overlapped_share']):>9}{_number(row['bus_bandwidth_gbps']):>10}  {_short(row['group'])}"
        )
    if len(communication["groups"]) > _SHOWN:
        yield f"  ... {len(communication['groups']) - _SHOWN} more in the table communication_groups"


def _percent(share: float | None, digits: int = 1) -> str:
    return "-" if share is None else f"{100 * share:.{digits}f}%"


def _ms(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.2f}':>10}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _plain(name: str) -> str:
    printable = "".join(letter if letter.isprintable() else " " for letter in name)
    return printable if len(printable) < _NAME else printable[: _NAME - 4] + "..."


def _short(group: str | None) -> str:
    members = (group or "not known").split(",")
    return ",".join(members) if len(members) <= 8 else f"{','.join(members[:3])},...,{members[-1]}"
