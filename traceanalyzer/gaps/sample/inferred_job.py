"""What traces tell of their job without being asked: its size, its layout, and which schedule the captured ranks ran."""

from __future__ import annotations

from msgspec.structs import replace

from traceanalyzer.gaps.pipeline.partial_order import Fit, Observed, fitting_schedules, observed_orders
from traceanalyzer.review import Degrees, Fact, JobFacts, Place
from traceanalyzer.tables import Tables
from traceanalyzer.tables.groups.dimensions import Dimensions, dimensions

_PARTIAL_LABELLED, _PARTIAL_UNLABELLED = 0.9, 0.7
_MOST_PLACES = 64


def inferred_facts(tables: Tables) -> JobFacts:
    """The job's size and layout, the captured ranks' places, and the schedule they fit with its counts."""
    sizes = tables.ranks["world_size"].drop_nulls().unique().to_list()
    world: Fact[int] | None = None
    if len(sizes) == 1:
        world = Fact(value=sizes[0], source="recorded", basis="distributedInfo")
    layout = dimensions(tables.ranks, tables.collectives, tables.p2p)
    if layout is None:
        return JobFacts(world_size=world)
    degrees = Fact(value=Degrees(**layout.degrees), source="inferred", confidence=layout.confidence, basis=layout.basis)
    return replace(_schedule(tables, layout), world_size=world, layout=degrees, places=_places(layout))


def _places(layout: Dimensions) -> Fact[list[Place]] | None:
    if not 0 < layout.places.height <= _MOST_PLACES:
        return None
    rows = layout.places.select("rank", "place", "num_places").iter_rows()
    return Fact(
        value=[Place(rank=rank, pipeline_rank=place, of=size) for rank, place, size in rows],
        source="inferred",
        confidence=layout.confidence,
        basis="place in the pipeline's group",
    )


def _schedule(tables: Tables, layout: Dimensions) -> JobFacts:
    """The schedule that captured ranks of a pipeline fit, where all of them fit one."""
    num_places = layout.degrees.get("pp", 1)
    if num_places < 2 or tables.actions.is_empty() or layout.places.is_empty():
        return JobFacts()
    labelled = not tables.actions_inferred
    observed = observed_orders(tables.actions, layout.places)
    fits = fitting_schedules(observed, num_places, labelled=labelled) if observed else []
    if not fits:
        return JobFacts()
    best = fits[0]
    confidence = (_PARTIAL_LABELLED if labelled else _PARTIAL_UNLABELLED) / len(fits)
    basis = _basis(observed, fits)
    agreed = len({(fit.num_chunks, fit.num_microbatches) for fit in fits}) == 1

    def count(value: int) -> Fact[int]:
        return Fact(
            value=value, source="inferred", confidence=confidence * len(fits) if agreed else confidence, basis=basis
        )

    return JobFacts(
        schedule=Fact(value=best.schedule, source="inferred", confidence=confidence, basis=basis),
        num_stages=count(num_places * best.num_chunks),
        num_microbatches=count(best.num_microbatches),
        num_chunks=count(best.num_chunks),
    )


def _basis(observed: Observed, fits: list[Fit]) -> str:
    places = ", ".join(str(place) for place in sorted(observed))
    others = ", ".join(fit.schedule for fit in fits[1:])
    also = f"; it fits {others} too" if others else ""
    return f"the order of pipeline rank {places}{also}"
