"""Shares of members, of which some are hot, and whole numbers dealt out by them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise


def heated(number: int, hot: Sequence[int] | set[int] | frozenset[int], factor: Fraction) -> list[Fraction]:
    """Shares of `number` members, `factor` times the mean for those that are `hot`, the rest alike; they sum to 1."""
    if not hot or len(hot) == number:
        return [Fraction(1, number)] * number
    rest = (1 - factor * len(hot) / number) / (number - len(hot))
    return [factor / number if member in hot else rest for member in range(number)]


def rounded(shares: Sequence[Fraction], total: int) -> list[int]:
    """Whole numbers that sum to `total`; no sum of neighbours is further than one from its share."""
    bounds = [Fraction(0)]
    for share in shares:
        bounds.append(bounds[-1] + share * total)
    edges = [(bound + Fraction(1, 2)).__floor__() for bound in bounds]
    return [end - start for start, end in pairwise(edges)]
