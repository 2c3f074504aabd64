"""A sample of ranks: what each of them says alone, its waits as ranges, and which ranks to profile next."""

from __future__ import annotations

from collections.abc import Sequence

from reports.page.grids import figures, grid
from reports.page.model import Grid, Section, Terms
from reports.sections.material import Material
from traceanalyzer.review import RankFigures, Sample, WaitRange
from traceanalyzer.review.words import ranks_text

MAX_ROWS = 24
_FEW = 8
_SIDES = {"this": "this one, or none is slower", "upstream": "before it", "downstream": "after it"}


def section(material: Material) -> Section | None:
    """Of a capture that lacks ranks; None for a complete one."""
    sample = material.review.sample
    if sample is None or sample.coverage == "all":
        return None
    return material.section(
        "sample",
        "Ranks that were captured",
        [_next(sample), _ranks(sample), _waits(sample)],
        lead="Some ranks of the job are missing. This section shows what can be concluded from the captured ranks, and which to profile next.",
    )


def _next(sample: Sample) -> Terms | None:
    return figures(
        "What to capture",
        [
            ("Profile next", _listed(sample.next_ranks, sample.next_reason)),
            ("A sample that answers everything", _listed(sample.recommended_ranks, sample.recommended_reason)),
        ],
    )


def _listed(ranks: Sequence[int], why: str | None) -> str:
    return ": ".join(text for text in (ranks_text(ranks, 16) if ranks else "", why or "") if text)


def _ranks(sample: Sample) -> Grid | None:
    return grid(
        "sample-ranks",
        "The pipeline as each rank sees it",
        [rank for rank in sample.ranks if rank.own_ms is not None],
        [
            ("rank", lambda r: r.rank, "count"),
            ("stages", lambda r: r.stages, None),
            ("own time per microbatch", lambda r: r.own_ms, "ms"),
            ("pace", lambda r: r.pace_ms, "ms"),
            ("others cost it, per step", lambda r: r.others_cost_ms, "ms"),
            ("between chunks", lambda r: r.between_chunks_share, "share"),
            ("with equal stages", lambda r: r.equal_stages_share, "share"),
            ("slowest stage", _side, None),
        ],
        note="Each row is one rank's own trace, medians over its steps. Shares are of the rank's own window; they are not the "
        "job's bubble.",
        limit=MAX_ROWS,
        few=_FEW,
    )


def _side(rank: RankFigures) -> str:
    return _SIDES.get(rank.side or "") or f"not known: {rank.side_reason}"


def _waits(sample: Sample) -> Grid | None:
    rows: list[tuple[int, WaitRange]] = [(rank.rank, wait) for rank in sample.ranks for wait in rank.waits]
    return grid(
        "sample-waits",
        "Waiting inside communication, per step",
        rows,
        [
            ("rank", lambda r: r[0], "count"),
            ("mesh dimension", lambda r: r[1].role or "unknown", None),
            ("inside communication", lambda r: r[1].duration_ms, "ms"),
            ("waiting, low estimate", lambda r: r[1].low_ms, "ms"),
            ("waiting, high estimate", lambda r: r[1].high_ms, "ms"),
            ("operations", lambda r: r[1].num_operations, "count"),
            ("bounded from below", lambda r: r[1].num_sampled, "count"),
        ],
        note="Low: duration less twice the shortest equal operation of the rank. High: duration less bytes ÷ peak of its links. "
        "Time under computation is included.",
        limit=MAX_ROWS,
        few=_FEW,
    )
