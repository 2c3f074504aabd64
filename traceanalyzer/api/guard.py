"""What the libraries underneath may do to a call never reaches a program as a panic: it is one of our errors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import polars as pl

from traceanalyzer.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")


def guarded(call: Callable[P, R]) -> Callable[P, R]:
    """The same function; where Polars panics (which is no `Exception`) or memory ends, it raises `InputError`."""

    @functools.wraps(call)
    def inner(*values: P.args, **named: P.kwargs) -> R:
        try:
            return call(*values, **named)
        except pl.exceptions.PanicException as error:
            said = " ".join(str(error).split())[:200]
            raise InputError(f"Polars gave up on this input: {said}", "report this with the input") from None
        except MemoryError:
            raise InputError("not enough memory for this input", "give fewer ranks or steps") from None

    return inner
