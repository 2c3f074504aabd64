"""The headline numbers that are known, each beside its theory where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from traceanalyzer.gaps.pipeline.bubble import BUBBLE_TOLERANCE
from traceanalyzer.review import (
    Accounting,
    AllToAll,
    Bubble,
    Communication,
    Figure,
    Mfu,
    OwnerShare,
    RankFigures,
    StepFigures,
    Tile,
    WhatIfFigures,
)
from traceanalyzer.review.sections.step import spread
from traceanalyzer.review.theory import theory_share
from traceanalyzer.review.vocabulary import Owner, TileId, TileStatus
from traceanalyzer.review.words import counted, counted_by, flops_rate, milliseconds, n_of_n, percent, points, times

_DEFINITIONS: dict[TileId, str] = {
    "bubble": "time a rank had nothing it could compute ÷ pipeline phase, summed over the ranks of all whole captured pipelines, median over steps",
    "all_to_all": "tokens received by the fullest rank ÷ mean over ranks, averaged over layers and steps",
    "mfu": "model FLOPs per step ÷ (step time × peak × devices)",
    "between_chunks": "time of a rank outside its chunks ÷ its first chunk's start to its last chunk's end",
    "compute": "time in which a rank computes ÷ its step, mean over ranks and steps",
    "exposed": "time in which a rank exchanges data or waits in an exchange and computes nothing ÷ its step",
    "overlapped": "time in which a rank exchanges data while it computes ÷ all time in which it exchanges data",
    "waiting": "time in which a rank computes nothing and waits for another to arrive ÷ its step",
    "host": "time in which the device is idle until its host launches the next kernel ÷ step",
    "step_time": "the longest rank's step window, median over the typical steps",
}
_PATHS: dict[TileId, tuple[str, ...]] = {
    "bubble": ("bubble.measured_share",),
    "all_to_all": ("all_to_all.rank_load_max_over_mean",),
    "mfu": ("mfu.mfu_unprofiled", "mfu.mfu"),
    "step_time": ("step.duration_ms.median",),
}
"""Where it stands of how many ranks a tile's value is; the first that is there."""
_EXCHANGING: tuple[Owner, ...] = ("transfer", "wait", "communication")


@dataclass(frozen=True, slots=True)
class Known:
    """The parts of the review that tiles are made of."""

    step: StepFigures
    accounting: Accounting
    mfu: Mfu
    bubble: Bubble | None = None
    all_to_all: AllToAll | None = None
    communication: Communication | None = None
    alone: RankFigures | None = None
    """The lone rank of a capture."""
    has_device: bool = False
    study: WhatIfFigures | None = None


def tiles(known: Known, figures: Mapping[str, Figure]) -> list[Tile]:
    """Bubble, imbalance and MFU where they are known; without a bubble, where the ranks' time went; the step time.

    Args:
        known: parts of the review.
        figures: bounds and ranks of every figure.
    """
    found = [
        _bubble(known.bubble),
        _all_to_all(known.all_to_all),
        _mfu(known.mfu),
        _between_chunks(known.alone),
        *(_time_spent(known) if known.bubble is None or known.bubble.measured_share is None else ()),
        _step(known.step),
    ]
    return [_with_ranks(tile, figures) for tile in found if tile is not None]


def _tile(
    tile: TileId,
    title: str,
    value: str,
    theory: str | None = None,
    gap: str | None = None,
    status: TileStatus = "neutral",
    note: str | None = None,
) -> Tile:
    return Tile(
        id=tile, title=title, value_text=value, theory_text=theory, gap_text=gap, status=status, note=note,
        definition=_DEFINITIONS[tile],
    )  # fmt: skip


def _with_ranks(tile: Tile, figures: Mapping[str, Figure]) -> Tile:
    """The tile with the number of ranks its value comes from, where these are not all."""
    known = (figures[path] for path in _PATHS.get(tile.id, ()) if path in figures)
    figure = next(known, None)
    if figure is None or figure.num_ranks == figure.num_ranks_expected:
        return tile
    ranks = n_of_n(figure.num_ranks, figure.num_ranks_expected)
    return replace(tile, gap_text=f"{tile.gap_text}; {ranks}" if tile.gap_text else ranks)


def _bubble(bubble: Bubble | None) -> Tile | None:
    if bubble is None or bubble.measured_share is None:
        return None
    theory = theory_share(bubble)
    gap = bubble.measured_share - theory.share if theory else None
    good = gap is not None and theory is not None and gap <= BUBBLE_TOLERANCE * theory.share
    return _tile(
        "bubble",
        "Pipeline bubble",
        percent(bubble.measured_share),
        f"{percent(theory.share)} {theory.source}" if theory else None,
        points(gap) if gap is not None else None,
        "neutral" if gap is None else "good" if good else "bad",
        None if theory else "no theory for this order of actions",
    )


def _all_to_all(all_to_all: AllToAll | None) -> Tile | None:
    if all_to_all is None or all_to_all.rank_load_max_over_mean is None:
        return None
    ratio, theory = all_to_all.rank_load_max_over_mean, all_to_all.theory
    high = theory.chance_rank_high if theory else None
    chance = theory.chance_rank if theory else None
    worth = next((each.ms for each in all_to_all.worth if each.remedy == "balanced_experts"), None)
    cost = all_to_all.imbalance_cost_ms if worth is None else worth
    return _tile(
        "all_to_all",
        "All-to-all imbalance",
        times(ratio),
        f"1.00× balanced, {times(chance)} by chance" if chance is not None else "1.00× balanced",
        None if cost is None else f"costs {milliseconds(cost)} per step" if cost > 0 else "balance would save no time",
        "neutral" if high is None else "good" if ratio <= high else "bad",
    )


def profiled(mfu: float, unprofiled: float) -> str:
    """MFU under the profiler, and how much longer it makes the step: MFU is work over time."""
    if unprofiled <= mfu:
        return f"{percent(mfu)} under the profiler"
    return f"{percent(mfu)} under the profiler, which makes the step {times(unprofiled / mfu)} as long"


def _mfu(mfu: Mfu) -> Tile | None:
    if mfu.mfu is None or mfu.peak_flops_per_device is None:
        return None
    unprofiled = mfu.mfu_unprofiled
    return _tile(
        "mfu",
        "MFU",
        percent(mfu.mfu if unprofiled is None else unprofiled),
        f"100% is {flops_rate(mfu.peak_flops_per_device)}, {mfu.peak_basis}",
        profiled(mfu.mfu, unprofiled) if unprofiled is not None else None,
        note=f"FLOPs: {counted_by(mfu.convention)}; {'without' if unprofiled is not None else 'by the traced step, with'} profiler"
        + (f"; {percent(mfu.predicted_mfu)} predicted for the traced step" if mfu.predicted_mfu is not None else ""),
    )


def _between_chunks(alone: RankFigures | None) -> Tile | None:
    """Of a lone pipeline rank: what passed between its chunks."""
    if alone is None or alone.between_chunks_share is None:
        return None
    theory = alone.equal_stages_share
    gap = points(alone.between_chunks_share - theory) if theory is not None else None
    return _tile(
        "between_chunks",
        f"Between chunks of rank {alone.rank}",
        percent(alone.between_chunks_share),
        f"{percent(theory)} with equal stages, {alone.schedule}" if theory is not None else None,
        f"{gap}; one rank" if gap else "one rank",
        note="of this rank's own window; it is not the bubble of the job",
    )


def _time_spent(known: Known) -> list[Tile]:
    """Where the time of ranks went that are of no measured pipeline."""
    owners = {row.owner: row for row in known.accounting.owners}
    per_step = {owner: f"{milliseconds(row.ms)} per step" for owner, row in owners.items()}
    found: list[Tile] = []
    if "compute" in owners:
        found.append(_tile("compute", "Computing", percent(owners["compute"].share), per_step["compute"]))
    found += _communication(known)
    if "wait" in owners:
        exchanges = known.all_to_all
        last = exchanges.slowest_rank if exchanges is not None and exchanges.wait_share is not None else None
        most = f"most at all-to-alls for rank {last}" if last is not None else None
        found.append(_tile("waiting", "Waiting for ranks", percent(owners["wait"].share), per_step["wait"], most))
    if "host" in owners and known.has_device:
        found.append(_tile("host", "Waiting for the host", percent(owners["host"].share), per_step["host"]))
    return found


def _communication(known: Known) -> list[Tile]:
    """Exposed and overlapped, of device ranks; on CPU, where nothing overlaps, exposed by the ledger."""
    figures, found = known.communication, list[Tile]()
    exchanging = [row for row in known.accounting.owners if row.owner in _EXCHANGING]
    share = sum(row.share for row in exchanging)
    if figures is not None and figures.exposed_share is not None:
        share = figures.exposed_share
    if figures is not None or exchanging:
        found.append(_tile("exposed", "Exposed communication", percent(share), gap=_transferring(exchanging, share)))
    if figures is not None and figures.overlapped_share is not None:
        shown, beside = percent(figures.overlapped_share), None
        if (other := figures.overlapped_share_with_barriers) is not None and percent(other) != shown:
            beside = f"{percent(other)} with barriers of expert kernels"
        found.append(_tile("overlapped", "Communication hidden", shown, "of its time, under computation", beside))
    return found


def _transferring(exchanging: Sequence[OwnerShare], share: float) -> str | None:
    """How much of it is transfer, or of how much this is not known; nothing where it is all of it."""
    parts = {row.owner: row for row in exchanging}
    if "communication" in parts:
        some = f" of {percent(parts['communication'].share)}" if len(parts) > 1 else ""
        return f"waiting and transfer{some} are not separable"
    transfer = parts["transfer"].share if "transfer" in parts else 0.0
    return f"{percent(transfer)} is transfer" if transfer > 0 and percent(transfer) != percent(share) else None


def _step(step: StepFigures) -> Tile | None:
    if step.duration_ms.median is None:
        return None
    unprofiled = f"{milliseconds(step.unprofiled_ms)} without profiler" if step.unprofiled_ms is not None else None
    return _tile(
        "step_time",
        "Step time",
        milliseconds(step.duration_ms.median),
        unprofiled,
        _num_steps(step),
        note="the window's end is not bounded by a following step" if step.open_end else None,
    )


def _num_steps(step: StepFigures) -> str:
    """How many steps the figure is of, for example `2 of 3 steps captured`, and how much they differ."""
    num_typical, num_captured = step.duration_ms.num_steps, step.num_captured
    differing = f", of {text}" if (text := spread(step.duration_ms)) else ""
    if num_captured is None or num_captured == num_typical:
        return f"{counted(num_typical, 'step')} captured{differing}"
    return f"{num_typical} of {counted(num_captured, 'step')} captured{differing}"
