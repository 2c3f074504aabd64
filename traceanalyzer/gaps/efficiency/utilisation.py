"""MFU of a run: model FLOPs by a named convention, a peak with its origin, the step time from the trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from traceanalyzer.errors import DomainError
from traceanalyzer.gaps.efficiency.declaration import (
    Declaration,
    DeclaredFlops,
    Training,
    declared_recompute,
    is_undeclared,
    num_devices,
    training,
)
from traceanalyzer.gaps.efficiency.operators import MAX_DIFFERENCE, RecordedOperators, recorded_flops
from traceanalyzer.gaps.efficiency.peak import Peak, Recorded, Roofs, device_peak, device_roofs
from traceanalyzer.gaps.efficiency.step_flops import step_flops
from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.job import Job
from traceanalyzer.measurements.capture.validity import Validity
from traceanalyzer.measurements.efficiency.mfu import median_step, utilisation, wall_clock_step_ns
from traceanalyzer.review import ConventionMfu, Mfu, Withheld
from traceanalyzer.review.vocabulary import WithheldCode
from traceanalyzer.review.words import flops_count
from traceanalyzer.tables import Tables
from traceanalyzer.theory.model.flops import Convention
from traceanalyzer.theory.model.mfu import check_possible


@dataclass(frozen=True, slots=True)
class UtilisationGap(SubjectPart):
    """The MFU section of the review with what the waterfall and the roofline need."""

    figures: Mfu
    training: Training | None
    peak: Peak | None
    roofs: Roofs
    faithful: bool
    """Computations took the time the hardware needs: neither paced nor distorted by the host."""
    withheld: tuple[Withheld, ...]

    @property
    def reason(self) -> str | None:
        """Why there is no MFU."""
        return next((item.reason for item in self.withheld if item.metric == "mfu.mfu"), None)


def utilisation_gap(
    tables: Tables,
    step_records: pl.DataFrame,
    job: Job | None,
    declared: Declaration,
    operators: RecordedOperators,
    validity: Validity,
) -> UtilisationGap:
    """MFU and HFU of the median step; withheld with the reason where the run cannot carry them."""
    trained = training(job, declared, tables.ranks, operators.recomputed.value)
    if isinstance(trained, str):
        trained = _as_recorded(trained, job, declared, tables, operators)
    known = trained if isinstance(trained, Training) else None
    recorded = Recorded(
        ranks=tables.ranks,
        kernels=tables.kernels,
        formats=operators.formats,
        covered_share=operators.covered_share,
    )
    dtype = known.dtype if known else declared.dtype or (job.dtype if job else None)
    found = device_peak(recorded, job.hardware if job else None, dtype, declared.peak_flops_per_device)
    peak = found if isinstance(found, Peak) else None
    roofs = device_roofs(recorded, job.hardware if job else None, declared.peak_flops_per_device, dtype)
    durations = _durations(tables.steps, step_records, job)
    distorted = _not_faithful(job, validity, on_device=not tables.kernels.is_empty())
    reason = (
        distorted
        or _unclear_steps(tables)
        or (trained if isinstance(trained, str) else None)
        or (found if isinstance(found, str) else None)
        or (_not_done(known, recorded_flops(operators, tables.steps, known.num_devices)) if known else None)
        or (_impossible(known, peak, durations) if known and peak else None)
    )
    figures = _figures(known, peak, durations, measured=reason is None)
    code: WithheldCode | None = None
    if reason is not None and reason == _unclear_steps(tables):
        code = "unmarked_steps" if tables.step_basis.conflict is None else None
    elif reason is not None and reason == trained:
        code = "undeclared" if known is None and is_undeclared(reason) else None
    metrics = ("mfu.mfu", "mfu.hfu") if reason is not None else ()
    withheld = [Withheld(metric=name, reason=reason or "", code=code) for name in metrics]
    if reason is None and known and not known.hardware_flops_known:
        unknown = f"how many FLOPs backward recomputes is not known ({operators.recomputed.basis})"
        unknown += ": declared FLOPs leave them out" if known.flops else ": give --recompute"
        withheld = [Withheld(metric="mfu.hfu", reason=unknown)]
    return UtilisationGap(figures, known, peak, roofs, distorted is None, tuple(withheld))


@dataclass(frozen=True, slots=True)
class _Durations:
    """Nanoseconds of a step; None if it is not known."""

    traced: float | None
    wall_clock: float | None
    unprofiled: float | None


def _durations(windows: pl.DataFrame, step_records: pl.DataFrame, job: Job | None) -> _Durations:
    shown = median_step(windows) if windows.height else None
    return _Durations(
        shown.duration_ns if shown else None,
        wall_clock_step_ns(step_records, shown.step) if shown else None,
        job.unprofiled_step_ms * 1e6 if job and job.unprofiled_step_ms else None,
    )


def _not_faithful(job: Job | None, validity: Validity, *, on_device: bool) -> str | None:
    """Why computations did not take the time the hardware needs. What a host does cannot lengthen a device's kernels."""
    if job is not None and job.compute_mode == "paced":
        return "paced run: each computation is followed by a sleep, so its time is not the hardware's"
    if validity.verdict == "distorted" and not on_device:
        return f"the host distorted the timeline: {'; '.join(validity.reasons)}"
    return None


def _as_recorded(
    missing: str, job: Job | None, declared: Declaration, tables: Tables, operators: RecordedOperators
) -> Training | str:
    """Without a model, the recorded shapes of all devices are the step's FLOPs, if nothing is computed again."""
    devices = num_devices(job, declared, tables.ranks)
    if devices is None or declared.model or declared.flops or (job and job.model.num_layers):
        return missing
    recorded = recorded_flops(operators, tables.steps, devices)
    if not recorded:
        return missing
    again = declared_recompute(job, declared) or operators.recomputed.value
    if again != "none":
        return f"{missing}; recorded shapes add up to {flops_count(recorded)} per step, and how much of that is recomputed is not known"
    return Training(
        num_devices=devices,
        dtype=declared.dtype or (job.dtype if job else None),
        flops=DeclaredFlops(per_step=recorded, basis="recorded_shapes"),
    )


def _unclear_steps(tables: Tables) -> str | None:
    """FLOPs are declared per step: what is a step must be known."""
    basis = tables.step_basis
    if basis.conflict is not None:
        return f"the marks of steps disagree: {basis.conflict}"
    if basis.name is None and tables.steps.height:
        why = f" ({basis.why_none})" if basis.why_none else ""
        return f"these traces do not mark their steps, so how many they hold is not known{why}"
    return None


def _not_done(trained: Training, recorded: float | None) -> str | None:
    """Fewer FLOPs recorded than the declared job needs under the tightest mask: this run did not do that job."""
    counted = step_flops(trained)
    declared = counted.hardware if counted else 0.0
    if recorded is None or recorded >= (1 - MAX_DIFFERENCE) * declared:
        return None
    return (
        f"the declared job takes {flops_count(declared)} per step, the recorded shapes add up to {flops_count(recorded)}: "
        "model, tokens or recompute are not this run's, or it does not train (a forward pass is a third)"
    )


def _impossible(trained: Training, peak: Peak, durations: _Durations) -> str | None:
    """More than 100% by any clock: an input is wrong, so nothing is said."""
    if durations.traced is None:
        return "these traces hold no complete step"
    counted = step_flops(trained)
    if counted is None:
        return "no FLOPs are known"
    try:
        for duration in (durations.traced, durations.unprofiled):
            if duration:
                check_possible(
                    counted.total,
                    counted.hardware,
                    counted.convention,
                    duration,
                    trained.num_devices,
                    peak.flops_per_second,
                )
    except DomainError as error:
        return f"{error.message}: {error.hint}"
    return None


def _figures(trained: Training | None, peak: Peak | None, durations: _Durations, *, measured: bool) -> Mfu:
    shown = peak.flops_per_second if peak else None
    counted = step_flops(trained) if trained else None
    if trained is None or counted is None:
        unknown: dict[str, Any] = {**dict.fromkeys(Mfu.__struct_fields__), "conventions": []}
        return Mfu(**unknown)
    tokens = trained.tokens_per_step

    def share(flops_per_step: float, duration_ns: float | None) -> float | None:
        if not measured or shown is None or not duration_ns:
            return None
        return utilisation(flops_per_step, duration_ns, shown, trained.num_devices)

    return Mfu(
        mfu=share(counted.total, durations.traced),
        hfu=share(counted.hardware, durations.traced) if trained.hardware_flops_known else None,
        mfu_wall_clock=share(counted.total, durations.wall_clock),
        mfu_unprofiled=share(counted.total, durations.unprofiled),
        flops_per_step=counted.total,
        hardware_flops_per_step=counted.hardware if trained.hardware_flops_known else None,
        flops_per_token=counted.total / tokens if tokens else None,
        tokens_per_step=tokens,
        peak_flops_per_device=shown,
        peak_basis=peak.basis if peak else None,
        num_devices=trained.num_devices,
        convention=counted.convention,
        conventions=_conventions(trained, lambda count: share(count, durations.traced)),
        predicted_mfu=None,
        predicted_step_ms=None,
    )


def _conventions(trained: Training, share: Callable[[float], float | None]) -> list[ConventionMfu]:
    """The same step in every convention; none where FLOPs are not counted from a shape."""
    if trained.flops is not None:
        return []
    counts = {name: step_flops(trained, name) for name in Convention}
    return [
        ConventionMfu(name=name.value, flops_per_step=count.total, mfu=share(count.total))
        for name, count in counts.items()
        if count is not None
    ]
