"""Faults planted into a run on purpose, written `kind:key=value,key=value`.

die:rank=2,step=3     rank 2 is killed when step 3 begins
raise:rank=2,step=3   rank 2 raises an exception instead
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from traceanalyzer.errors import UsageError

KEYS: dict[str, tuple[str, ...]] = {
    "die": ("rank", "step"),
    "raise": ("rank", "step"),
}
"""Kind of fault to the keys it needs."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One planted fault."""

    kind: str
    values: dict[str, float]


def parse_fault(text: str) -> Fault:
    """Read one fault. Raises `UsageError` naming what is wrong with it."""
    kind, _, rest = text.partition(":")
    hint = "write for example " + " or ".join(f"{k}:{','.join(f'{v}=…' for v in keys)}" for k, keys in KEYS.items())
    if kind not in KEYS:
        raise UsageError(f"no fault is called '{kind}'", hint)
    try:
        values = {key: float(value) for key, value in (pair.split("=") for pair in rest.split(",") if pair)}
    except ValueError:
        raise UsageError(f"'{text}' is not a fault: every value is a number", hint) from None
    if set(values) != set(KEYS[kind]):
        raise UsageError(f"fault '{text}' needs exactly {', '.join(KEYS[kind])}", hint)
    return Fault(kind, values)


class Faults:
    """The faults of a run, as one rank meets them."""

    def __init__(self, texts: tuple[str, ...], rank: int) -> None:
        self._faults = [parse_fault(text) for text in texts]
        self._rank = rank

    def begin_step(self, step: int) -> None:
        """Whatever strikes this rank when `step` begins."""
        for fault in self._faults:
            if fault.values.get("rank") != self._rank or fault.values.get("step") != step:
                continue
            if fault.kind == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault.kind == "raise":
                raise RuntimeError(f"planted fault in step {step}")
