"""Numbers in words. Every number of the terminal, the verdict, the tiles and the tables is written here, in one form.

Measured quantities have three significant digits, and counts have all of theirs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Concatenate, Literal, ParamSpec

from traceanalyzer.review.vocabulary import Owner

Unit = Literal["share", "ms", "us", "ns", "ratio", "count", "bytes", "flops", "flops_per_second", "number"]

NOTHING = "–"
"""Stands for a value that is not known."""

_TIMES = ((1e3, 1e-3, "s"), (1.0, 1.0, "ms"), (1e-3, 1e3, "µs"), (0.0, 1e6, "ns"))
_DECIMAL = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BINARY = ((2.0**40, "Ti"), (2.0**30, "Gi"), (2.0**20, "Mi"), (2.0**10, "Ki"))

CONVENTIONS = {
    "exact_causal": "all matrix multiplications, causal attention by half the sequence",
    "full_attention": "all matrix multiplications, attention over the whole sequence",
    "six_n": "6 per parameter and token, without attention",
    "palm": "PaLM's rule, attention over the whole sequence",
    "megatron": "Megatron-LM's rule since March 2025",
    "megatron_legacy": "Megatron-LM's rule before March 2025",
    "torchtitan": "torchtitan's rule",
    "torchtitan_2024": "torchtitan's rule of 2024",
    "declared": "declared per token or step",
    "recorded_shapes": "the recorded shapes, every key counted",
}
"""What FLOPs of a model are counted by, from its convention or basis."""


Options = ParamSpec("Options")


def _known(write: Callable[Concatenate[float, Options], str]) -> Callable[Concatenate[float, Options], str]:
    """A dash for what is not a number."""

    @functools.wraps(write)
    def written(value: float, *args: Options.args, **options: Options.kwargs) -> str:
        return write(value, *args, **options) if math.isfinite(value) else NOTHING

    return written


@_known
def digits(value: float, significant: int = 3) -> str:
    """A number with `significant` digits, for example `0.345`, `12.3`; digits before the point are all kept."""
    if value == 0:
        return "0"
    decimals = significant - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, decimals)
    if abs(rounded) >= 10.0 ** (significant - decimals):  # 9.996 has become 10.0
        decimals -= 1
    return f"{round(value, max(0, decimals)):,.{max(0, decimals)}f}".replace("-", "−")


@_known
def percent(share: float, decimals: int | None = None) -> str:
    """A share as a percentage, for example `27.3%`, `5.88%`, `0.041%`."""
    value = 100 * share
    if decimals is not None:
        return f"{value:.{decimals}f}%".replace("-", "−")
    return f"{digits(value, 3 if abs(value) >= 1 else 2)}%"


def points(difference: float) -> str:
    """A difference of shares in percentage points with its sign, for example `+0.40 points`."""
    return f"{100 * difference:+.2f} points".replace("-", "−")


@_known
def times(ratio: float, decimals: int = 2) -> str:
    """A ratio, for example `2.40×`."""
    return f"{ratio:.{decimals}f}×"


@_known
def milliseconds(ms: float) -> str:
    """A duration in the unit that suits it, for example `1.67 s`, `12.3 ms`, `500 µs`."""
    if abs(ms) < 0.5e-6:
        return "0 ms"
    size = abs(ms) * (1 + 5e-4)  # 999.6 ms is written 1.00 s
    factor, unit = next((factor, unit) for least, factor, unit in _TIMES if size >= least)
    return f"{digits(ms * factor)} {unit}"


@_known
def byte_count(count: float) -> str:
    """A number of bytes, for example `512 B`, `4.74 MiB`."""
    return _prefixed(count, _BINARY, "B") if abs(count) >= 1024 else f"{round(count):,} B"


@_known
def flops_rate(flops_per_second: float) -> str:
    """A rate of floating-point operations, for example `989 TFLOP/s`."""
    return _prefixed(flops_per_second, _DECIMAL, "FLOP/s")


@_known
def flops_count(flops: float) -> str:
    """A number of floating-point operations, for example `12.3 TFLOP`."""
    return _prefixed(flops, _DECIMAL, "FLOP")


def _prefixed(value: float, prefixes: Sequence[tuple[float, str]], unit: str) -> str:
    for factor, prefix in prefixes:
        if abs(value) >= factor:
            return f"{digits(value / factor)} {prefix}{unit}"
    return f"{digits(value)} {unit}"


_SPELLINGS: dict[Unit, Callable[[float], str]] = {
    "share": percent,
    "ms": milliseconds,
    "us": lambda value: milliseconds(value / 1e3),
    "ns": lambda value: milliseconds(value / 1e6),
    "ratio": times,
    "count": _known(lambda value: f"{round(value):,}"),
    "bytes": byte_count,
    "flops": flops_count,
    "flops_per_second": flops_rate,
    "number": digits,
}


def quantity(value: float | None, unit: Unit) -> str:
    """A value with its unit; a dash for an unknown one."""
    return NOTHING if value is None else _SPELLINGS[unit](value)


def counted(number: int, noun: str) -> str:
    """A count with its noun in the right number, for example `1 rank`, `4 ranks`, `2 microbatches`."""
    plural = f"{noun}es" if noun.endswith(("h", "s", "x")) else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def spaced(name: str) -> str:
    """A word of the schema as a reader's word, for example `launch gap` of `launch_gap`."""
    return _READ.get(name, name.replace("_", " "))


_READ = {"chunk_comm": "exchange in chunks", "overlap_dp": "overlapped gradients"}
"""Words of the schema that are not a reader's."""


def ranks_text(ranks: Sequence[int], most: int = 8) -> str:
    """Ranks in ascending order with runs drawn together, for example `rank 3`, `ranks 0–3, 8`; long lists are cut."""
    runs: list[tuple[int, int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], rank)
        else:
            runs.append((rank, rank))
    parts = [str(first) if first == last else f"{first}–{last}" for first, last in runs]
    cut = f", … ({len(ranks):,} ranks)" if len(parts) > most else ""
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {', '.join(parts[:most])}{cut}"


def n_of_n(num_ranks: int, expected: int | None) -> str:
    """How many of how many ranks, for example `8 of 1,024 ranks`."""
    return f"{num_ranks:,} of {f'{expected:,}' if expected else 'an unknown number of'} ranks"


_LOSSES: dict[Owner, str] = {
    "transfer": "exposed transfer",
    "wait": "waiting for other ranks",
    "communication": "exposed communication",
    "copy": "copies",
    "queued": "launched work that does not start (why is not recorded)",
    "launch_gap": "gaps between launches",
    "host": "waiting for the host",
    "unknown": "time that nothing recorded accounts for",
}


def loss_text(owner: Owner, *, has_devices: bool) -> str:
    """What an owner's time is to a rank that does not compute meanwhile. Without a device the main thread is it: it waits for no host."""
    return "work of its main thread outside operators" if owner == "host" and not has_devices else _LOSSES[owner]


def counted_by(convention: str | None) -> str:
    """What the FLOPs of a model are, in words."""
    if convention is None:
        return "not stated"
    return CONVENTIONS.get(convention, convention.replace("_", " "))
