"""Numbers in words, the same everywhere: terminal, verdict and report tiles."""

from __future__ import annotations

from collections.abc import Sequence


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage, for example `27.3%`."""
    return f"{100 * share:.{digits}f}%"


def points(difference: float) -> str:
    """A difference of shares in percentage points with its sign, for example `+0.4 points`."""
    return f"{100 * difference:+.2f} points"


def times(ratio: float) -> str:
    """A ratio, for example `2.40×`."""
    return f"{ratio:.2f}×"


def milliseconds(ms: float) -> str:
    """A duration with three significant digits, for example `12.3 ms`, `1.23 s`."""
    if abs(ms) >= 1000:
        return f"{ms / 1000:.2f} s"
    if abs(ms) >= 100:
        return f"{ms:.0f} ms"
    return f"{ms:.1f} ms" if abs(ms) >= 10 else f"{ms:.2f} ms"


def flops_rate(flops_per_second: float) -> str:
    """A rate of floating-point operations, for example `989 TFLOP/s`."""
    for factor, unit in ((1e15, "PFLOP/s"), (1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1e6, "MFLOP/s")):
        if flops_per_second >= factor:
            return f"{flops_per_second / factor:.3g} {unit}"
    return f"{flops_per_second:.3g} FLOP/s"


def flops_count(flops: float) -> str:
    """A number of floating-point operations, for example `12.3 TFLOP`."""
    return flops_rate(flops).removesuffix("/s")


def counted(number: int, noun: str) -> str:
    """A count with its noun in the right number, for example `1 rank`, `4 ranks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


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
