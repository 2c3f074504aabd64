"""Worker processes: results, errors, bytes, and workers that die."""

from __future__ import annotations

import os
from collections.abc import Callable

from traceanalyzer.traces.workers import WorkerDiedError, each, number_of_workers

FATAL, FAULTY = 3, 5


def double(item: int, add: Callable[[str, int], None]) -> int:
    """A task that dies at one item and fails at another."""
    if item == FATAL:
        os._exit(9)
    if item == FAULTY:
        raise ValueError("five")
    add("x", 100)
    return 2 * item


def test_a_worker_that_dies_costs_its_item_only() -> None:
    told: list[int] = []
    results = dict(each(double, list(range(8)), num_workers=2, on_bytes=told.append))
    assert isinstance(results.pop(FATAL), WorkerDiedError)
    assert isinstance(results.pop(FAULTY), ValueError)
    assert results == {item: 2 * item for item in (0, 1, 2, 4, 6, 7)}
    assert sum(told) <= 600


def test_leaving_early_ends_the_workers() -> None:
    iterator = each(double, [0, 1, 2], num_workers=2, on_bytes=None)
    next(iterator)
    iterator.close()  # type: ignore[attr-defined] - it is a generator


def test_number_of_workers() -> None:
    assert number_of_workers(10, 4) == 4
    assert number_of_workers(2, 4) == 2
    assert 1 <= number_of_workers(3, None) <= 3
