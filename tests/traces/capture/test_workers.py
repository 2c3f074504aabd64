"""Worker processes: results, errors, bytes, and workers that die."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable

import pytest

from traceanalyzer import errors
from traceanalyzer.traces.capture.workers import WorkerDiedError, each, number_of_workers

FATAL, FAULTY = 3, 5


def double(item: int, add: Callable[[str, int], None]) -> int:
    """A task that dies at one item and fails at another."""
    if item == FATAL:
        os._exit(9)
    if item == FAULTY:
        raise ValueError("five")
    add("x", 100)
    return 2 * item


@pytest.mark.wide
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


def failing(item: int, _add: Callable[[str, int], None]) -> int:
    """A task that raises errors of this package."""
    raise errors.InputError(f"fact {item}", "remedy")


def test_errors_of_a_worker_arrive_with_both_lines() -> None:
    (item, error), *_ = each(failing, [3], num_workers=1, on_bytes=None)
    assert isinstance(error, errors.InputError)
    assert (item, error.message, error.hint) == (3, "fact 3", "remedy")


def test_every_error_travels_between_processes() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 1
    for kind in kinds:
        again = pickle.loads(pickle.dumps(kind("fact", "remedy")))  # noqa: S301 - our own bytes
        assert type(again) is kind
        assert (again.message, again.hint) == ("fact", "remedy")
