"""MFU and HFU from a rate: model and hardware FLOPs of what was trained, over what the devices could have computed.

`MFU = FLOPs per token * tokens per second / (devices * peak)`. The count and its convention come from
`traceanalyzer.theory.model.flops`; a peak is always dense and in the number format that was computed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from traceanalyzer.errors import DomainError
from traceanalyzer.review.words import counted_by
from traceanalyzer.theory.model.flops import Convention, FlopsPerToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilisation:
    """What share of the devices' peak was used."""

    mfu: float
    hfu: float
    """With what backward recomputed."""
    convention: Convention
    tokens_per_second: float
    """Over all devices."""
    flops_per_second_per_device: float
    """Achieved, model FLOPs only."""
    peak_flops_per_device: float
    num_devices: int


def mixed_peak(flops_by_format: Mapping[str, float], peak_by_format: Mapping[str, float]) -> float:
    """The rate at which a device could do a mix of number formats one after another, each at its peak.

    That is the harmonic mean of the peaks weighted by FLOPs: a job with a third of its FLOPs in fp8 has no bf16 peak and
    no fp8 peak. Raises `DomainError` if a format has no peak or there are no FLOPs.
    """
    missing = [name for name, flops in flops_by_format.items() if flops > 0 and not peak_by_format.get(name)]
    total = sum(flops_by_format.values())
    if missing or total <= 0:
        raise DomainError(
            f"no peak of a mix: {', '.join(missing) + ' has no peak' if missing else 'there are no FLOPs'}",
            "give a dense peak for every number format that is used",
        )
    return total / sum(flops / peak_by_format[name] for name, flops in flops_by_format.items() if flops > 0)


def utilisation_at_rate(
    flops: FlopsPerToken, tokens_per_second: float, num_devices: int, peak_flops_per_device: float
) -> Utilisation:
    """MFU and HFU at a rate in tokens per second over all devices.

    Raises `DomainError` if rate, devices or peak are not positive, and where the result exceeds 100%: no
    training run does more FLOPs than its devices can, so one of the inputs is wrong.
    """
    if min(tokens_per_second, num_devices, peak_flops_per_device) <= 0:
        raise DomainError(
            f"no utilisation at {tokens_per_second} tokens/s on {num_devices} devices of {peak_flops_per_device} FLOP/s",
            "give a positive rate, number of devices and peak",
        )
    possible = num_devices * peak_flops_per_device
    mfu = flops.total * tokens_per_second / possible
    hfu = flops.hardware * tokens_per_second / possible
    _refuse_impossible(mfu, hfu, flops.convention.value)
    return Utilisation(
        mfu=mfu,
        hfu=hfu,
        convention=flops.convention,
        tokens_per_second=tokens_per_second,
        flops_per_second_per_device=flops.total * tokens_per_second / num_devices,
        peak_flops_per_device=peak_flops_per_device,
        num_devices=num_devices,
    )


def utilisation_of_step(
    flops: FlopsPerToken, tokens_per_step: int, step_ns: float, num_devices: int, peak_flops_per_device: float
) -> Utilisation:
    """MFU and HFU of a step of `step_ns`. Raises `DomainError` as `utilisation_at_rate`."""
    if step_ns <= 0:
        raise DomainError(f"a step of {step_ns} ns has no rate", "give a positive step time")
    return utilisation_at_rate(flops, tokens_per_step / step_ns * 1e9, num_devices, peak_flops_per_device)


def check_possible(
    total: float, hardware: float, convention: str, step_ns: float, num_devices: int, peak_flops_per_device: float
) -> None:
    """Raise `DomainError` where a step of `step_ns` would do more FLOPs than the devices can; counts are of a step."""
    possible = num_devices * peak_flops_per_device * step_ns / 1e9
    _refuse_impossible(total / possible, hardware / possible, convention)


def _refuse_impossible(mfu: float, hfu: float, convention: str) -> None:
    if hfu > 1:
        raise DomainError(
            f"{'HFU' if mfu <= 1 else 'MFU'} would be {max(mfu, hfu):.1%} (FLOPs: {counted_by(convention)})",
            "check tokens per step, number of devices, the convention, and that the peak is that of the number format "
            "computed in (fp8 matrix multiplications exceed a bf16 peak)",
        )
