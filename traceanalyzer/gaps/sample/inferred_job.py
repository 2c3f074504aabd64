"""What traces tell of their job without being asked: its size, its layout, and which schedule the captured ranks ran."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from traceanalyzer.gaps.pipeline.partial_order import Fit, Observed, fitting_schedules, observed_orders
from traceanalyzer.review.result import Fact
from traceanalyzer.tables import Tables
from traceanalyzer.tables.groups.dimensions import Dimensions, dimensions

_PARTIAL_LABELLED, _PARTIAL_UNLABELLED = 0.9, 0.7
_MOST_PLACES = 64


def inferred_facts(tables: Tables) -> dict[str, Fact]:
    """Facts by name: `world_size`, `layout`, `places`, `schedule`, `num_stages`, `num_microbatches`, `num_chunks`."""
    facts: dict[str, Fact] = {}
    sizes = tables.ranks["world_size"].drop_nulls().unique().to_list()
    if len(sizes) == 1:
        facts["world_size"] = Fact(value=sizes[0], source="recorded", basis="distributedInfo")
    layout = dimensions(tables.ranks, tables.collectives, tables.p2p)
    if layout is None:
        return facts
    facts["layout"] = Fact(
        value=dict(layout.degrees), source="inferred", confidence=layout.confidence, basis=layout.basis
    )
    if 0 < layout.places.height <= _MOST_PLACES:
        rows = layout.places.select("rank", pl.col("place").alias("pipeline_rank"), pl.col("num_places").alias("of"))
        facts["places"] = Fact(
            value=rows.to_dicts(),
            source="inferred",
            confidence=layout.confidence,
            basis="place in the pipeline's group",
        )
    return facts | dict(_schedule(tables, layout))


def _schedule(tables: Tables, layout: Dimensions) -> Iterator[tuple[str, Fact]]:
    """The schedule that captured ranks of a pipeline fit, where all of them fit one."""
    num_places = layout.degrees.get("pp", 1)
    if num_places < 2 or tables.actions.is_empty() or layout.places.is_empty():
        return
    labelled = not tables.actions_inferred
    observed = observed_orders(tables.actions, layout.places)
    fits = fitting_schedules(observed, num_places, labelled=labelled) if observed else []
    if not fits:
        return
    best = fits[0]
    confidence = (_PARTIAL_LABELLED if labelled else _PARTIAL_UNLABELLED) / len(fits)
    basis = _basis(observed, fits)
    agreed = {(fit.num_chunks, fit.num_microbatches) for fit in fits}
    yield "schedule", Fact(value=best.schedule.value, source="inferred", confidence=confidence, basis=basis)
    counts = {
        "num_stages": num_places * best.num_chunks,
        "num_microbatches": best.num_microbatches,
        "num_chunks": best.num_chunks,
    }
    for name, value in counts.items():
        sure = confidence * len(fits) if len(agreed) == 1 else confidence
        yield name, Fact(value=value, source="inferred", confidence=sure, basis=basis)


def _basis(observed: Observed, fits: list[Fit]) -> str:
    places = ", ".join(str(place) for place in sorted(observed))
    others = ", ".join(fit.schedule.value for fit in fits[1:])
    also = f"; it fits {others} too" if others else ""
    return f"the order of pipeline rank {places}{also}"
