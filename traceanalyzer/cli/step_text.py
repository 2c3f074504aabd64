"""How steps are told, which are set apart and what that hides, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_SHOWN = 6


def step_lines(step: Mapping[str, Any], mfu: Mapping[str, Any]) -> Iterator[str]:
    """Basis and count, noise, the steps set apart with their price, tokens per second."""
    duration = step["duration_ms"]
    if duration["median"] is None:
        return
    told = (
        f"told by {step['basis']}"
        if step["basis"]
        else "nothing tells one step from the next: the whole capture is one"
    )
    yield f"Steps: {duration['num_steps']} of {step['num_captured']} typical, {told}"
    yield f"  noise of the median ± {step['noise_ms']:.3g} ms ({step['noise_basis']})"
    for side, first in (("before", "begins inside a step"), ("after", "ends inside a step")):
        if step[f"{side}_ms"] is not None:
            which = "first" if side == "before" else "last"
            yield f"  {step[f'{side}_ms']:.2f} ms {side} the {which} one belong to none: the capture {first}, or holds other work"
    for each in step["set_apart"][:_SHOWN]:
        excess = "" if each["excess_ms"] is None else f", {each['excess_ms']:+.2f} ms"
        yield f"  set apart: step {each['step']}, {each['duration_ms']:.2f} ms ({each['reason']}{excess})"
    if len(step["set_apart"]) > _SHOWN:
        yield f"  ... and {len(step['set_apart']) - _SHOWN} more"
    if step["set_apart_cost_ms"] is not None:
        cost = step["set_apart_cost_ms"]
        verb = "add" if cost > 0 else "take off"
        yield f"  they {verb} {abs(cost):.2f} ms per step; the mean of all whole steps is {step['mean_all_ms']:.2f} ms"
    if mfu["tokens_per_second"] is not None:
        rate = f"  {mfu['tokens_per_second']:,.0f} tokens/s"
        over_all = f"; {mfu['tokens_per_second_all_steps']:,.0f} over all whole steps"
        yield rate + (over_all if step["set_apart_cost_ms"] is not None else "")
