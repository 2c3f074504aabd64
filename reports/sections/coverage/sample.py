"""A sample of ranks: what each of them says alone, its waits as ranges, and which ranks to profile next."""

from __future__ import annotations

from reports.page.grids import figures, grid
from reports.page.model import Grid, Section, Terms
from reports.sections.coverage.answers import answers, next_text, recommended_text
from reports.sections.material import Material
from traceanalyzer.review import RankFigures, Sample, WaitRange
from traceanalyzer.review.words import counted, n_of_n

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
        [answers(material), None if sample.coverage == "one_rank" else _next(sample), _ranks(sample), _waits(sample)],
        lead=_lead(material, sample),
    )


def _lead(material: Material, sample: Sample) -> str:
    """How much is here, what whole groups it holds, and what to profile next."""
    quality = material.review.quality
    here = n_of_n(quality.num_ranks_found, quality.num_ranks_expected)
    groups = [
        counted(number, noun) + more
        for number, noun, more in (
            (sample.num_whole_pipelines, "whole pipeline", ""),
            (sample.num_whole_expert_groups, "whole expert group", ""),
            (sample.num_whole_replicas, "stage", " with all replicas"),
        )
        if number
    ]
    what = f": {', '.join(groups)}" if groups else ": no whole group" if quality.num_ranks_found > 1 else ""
    following = f" Next: {next_text(sample)}." if next_text(sample) else ""
    return f"{here} captured{what}.{following}"


def _next(sample: Sample) -> Terms | None:
    return figures(
        "What to capture",
        [("Profile next", next_text(sample)), ("A sample that answers everything", recommended_text(sample))],
    )


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
