"""A gate's file: limits on `review.json`, in TOML.

min_steps = 5
min_ranks = 4
on_withheld = "fail"            # or "skip": what to do where a value is withheld
baseline = "baseline.json"      # a review.json beside this file
floor = "1%"                    # difference between runs of one job that is chance

[[limit]]
path = "step.duration_ms.median"
max_increase = "2%"             # of the baseline's value; a plain number is in the unit of the field

[[limit]]
path = "accounting.owners[owner=compute].share"
min = 0.8
"""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import Literal

import msgspec

from traceanalyzer.comparison.noise import DEFAULT_FLOOR
from traceanalyzer.errors import UsageError
from traceanalyzer.gates.paths import parse_path
from traceanalyzer.regular_file import read_text

OnWithheld = Literal["fail", "skip"]
MAX_BYTES = 1 << 20
_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
_HINT = "traceanalyzer gate init RESULT writes a file to begin with"
_TESTS = ("max", "min", "equals", "max_increase", "max_decrease")


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One limit."""

    path: str
    max: float | None = None
    min: float | None = None
    equals: bool | float | str | None = None
    max_increase: float | str | None = None
    """Over the baseline: a number in the field's own unit, or a share of the baseline's value as text (`"2%"`)."""
    max_decrease: float | str | None = None
    noise: bool | None = None
    """Widen the limit by noise; by default where it is against a baseline."""
    on_withheld: OnWithheld | None = None
    name: str = ""

    @property
    def is_relative(self) -> bool:
        """Whether it needs a baseline."""
        return self.max_increase is not None or self.max_decrease is not None

    @property
    def title(self) -> str:
        """What it is called in results."""
        return self.name or self.path


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything in a gate's file."""

    limit: list[Limit]
    min_steps: int | None = None
    min_ranks: int | None = None
    on_withheld: OnWithheld = "fail"
    baseline: str | None = None
    floor: str | None = None

    @property
    def floor_share(self) -> float:
        """Difference between runs that is chance."""
        return DEFAULT_FLOOR if self.floor is None else (share_of(self.floor) or 0.0)


def read_gate(path: Path | str) -> Gate:
    """The gate in a file. Raises `UsageError` naming what is wrong and where."""
    try:
        content = tomllib.loads(read_text(path, MAX_BYTES))
        gate = msgspec.convert(content, Gate)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}", _HINT) from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not a gate's file: {' '.join(str(error).split())[:300]}", _HINT) from None
    if not gate.limit:
        raise UsageError(f"{path}: holds no limit", "write at least one [[limit]] with a path")
    if gate.floor is not None and share_of(gate.floor) is None:
        raise UsageError(f"{path}: floor '{gate.floor}' is not a percentage", 'write floor = "1%"')
    for name in ("min_steps", "min_ranks"):
        if (getattr(gate, name) or 0) < 0:
            raise UsageError(f"{path}: {name} is negative", "write how many there must be, or leave it out")
    for at, limit in enumerate(gate.limit, 1):
        _checked(limit, f"{path}: limit {at} ({limit.path})")
    return gate


def _checked(limit: Limit, where: str) -> None:
    try:
        parse_path(limit.path)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", error.hint) from None
    if all(getattr(limit, test) is None for test in _TESTS):
        raise UsageError(f"{where}: does not say what its value must be", f"give one of {', '.join(_TESTS)}")
    for test in _TESTS:
        value = getattr(limit, test)
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{where}: {test} is {value}, which every value passes or none", "write a number")
    if limit.min is not None and limit.max is not None and limit.min > limit.max:
        raise UsageError(f"{where}: min is above max, which no value passes", "write min below max")
    for test in ("max_increase", "max_decrease"):
        value = getattr(limit, test)
        if isinstance(value, str) and share_of(value) is None:
            raise UsageError(f"{where}: {test} '{value}' is not a percentage", f'write {test} = "2%", or a number')
        if isinstance(value, float | int) and value < 0:
            raise UsageError(f"{where}: {test} is negative", "write how far the value may go, as a positive number")


def share_of(text: str) -> float | None:
    """The share that a percentage is; None of anything else."""
    match = _SHARE.fullmatch(text)
    return float(match[1]) / 100 if match else None
