"""Which facts of two jobs differ, and which of them make their steps incomparable."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Literal

import msgspec
import polars as pl

from traceanalyzer.comparison.record import FactChange, MetricChange
from traceanalyzer.comparison.side import Side
from traceanalyzer.errors import UsageError
from traceanalyzer.hardware import Hardware
from traceanalyzer.review import Fact, JobFacts
from traceanalyzer.review.words import digits, spaced

REFUSED = ("kind", "model", "hardware", "device", "compute_mode", "backend", "tokens_per_step", "step_basis")
"""Facts whose difference makes two steps incomparable: another job, another machine, or something else called a step."""
_NOT_COMPARED = {"places", "status", "pacing", "peak_flops_per_device"}
_UNKNOWN = "not known"


def differing_facts(base: Side, new: Side, forced: Collection[str]) -> list[FactChange]:
    """What differs of the jobs. Raises `UsageError` if they cannot be compared and that was not forced."""
    found = list(_facts(base, new))
    refused = [each for each in found if each.name in REFUSED and _UNKNOWN not in (each.before, each.after)]
    left = [each for each in refused if each.name not in forced]
    if left:
        named = "; ".join(f"{each.name}: {each.before} against {each.after}" for each in left)
        options = " ".join(f"--force-compare {each.name}" for each in left)
        raise UsageError(
            f"{base.path} and {new.path} cannot be compared: {named}", f"compare them nevertheless: {options}"
        )
    names = {each.name for each in refused}
    return [msgspec.structs.replace(each, forced=each.name in names) for each in found]


def _facts(base: Side, new: Side) -> Iterator[FactChange]:
    yield from job_changes(base.review.job, new.review.job)
    for name, values in (("device", _devices), ("step_basis", _basis), ("num_ranks", _num_ranks)):
        texts = values(base), values(new)
        if texts[0] != texts[1]:
            yield FactChange(name=name, before=texts[0], after=texts[1], source="recorded")


def job_changes(base: JobFacts, new: JobFacts) -> Iterator[FactChange]:
    """Facts of two jobs that differ, in words."""
    before, after = dict(base.known()), dict(new.known())
    for name in dict.fromkeys((*before, *after)):
        old, now = before.get(name), after.get(name)
        values = _compared(old), _compared(now)
        if name in _NOT_COMPARED or values[0] == values[1]:
            continue
        texts = _texts(values[0], values[1])
        yield FactChange(name=name, before=texts[0], after=texts[1], source=_source(old, now))


def _compared(fact: Fact[object] | None) -> object:
    """What a fact says of the job. Every run measures the peak of its hardware anew, so this is no fact of the job."""
    value = None if fact is None else fact.value
    return value.device if isinstance(value, Hardware) else value


def _texts(old: object, now: object) -> tuple[str, str]:
    """Both values in words; of two records what differs."""
    before, after = _entries(old), _entries(now)
    if before is None or after is None:
        return _text(old), _text(now)
    names = [name for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name)]
    return _listed(before, names), _listed(after, names)


def _text(value: object) -> str:
    if value is None:
        return _UNKNOWN
    if (entries := _entries(value)) is not None:
        return _listed(entries, entries)
    return digits(value) if isinstance(value, float) else str(value)


def _listed(entries: Mapping[str, object], names: Iterable[str]) -> str:
    return ", ".join(f"{spaced(n)} {_text(entries[n])}" if n in entries else f"no {spaced(n)}" for n in names)[:300]


def _entries(value: object, within: str = "") -> dict[str, object] | None:
    """What a record says, with the records inside it; None of anything else."""
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
    elif is_dataclass(value) and not isinstance(value, type):
        names = tuple(field.name for field in fields(value))
    else:
        return None
    found: dict[str, object] = {}
    for name in names:
        entry: object = getattr(value, name)
        inner = _entries(entry, f"{within}{name} ")
        found |= inner if inner is not None else {f"{within}{name}": entry} if entry not in (None, ()) else {}
    return found


def _source(old: Fact[object] | None, now: Fact[object] | None) -> str:
    return ", ".join(dict.fromkeys(fact.source for fact in (old, now) if fact is not None))


def _devices(side: Side) -> str:
    ranks = side.table("ranks")
    names = ranks.select(pl.col("devices").str.extract_all(r'"name"\s*:\s*"[^"]*"').alias("n"))["n"].explode(
        empty_as_null=False
    )
    listed = sorted({str(name).split(":", 1)[1].strip().strip('"') for name in names.drop_nulls()} - {""})
    return ", ".join(listed) or _UNKNOWN


def _basis(side: Side) -> str:
    return side.review.step.basis or "the whole capture"


def _num_ranks(side: Side) -> str:
    return str(len(side.ranks))


def metrics(base: Side, new: Side) -> list[MetricChange]:
    """Headline numbers that at least one side has."""
    found: list[MetricChange] = []
    for path, title, unit in _METRICS:
        values = [_value(side, path) for side in (base, new)]
        if any(value is not None for value in values):
            found.append(MetricChange(path=path, title=title, before=values[0], after=values[1], unit=unit))
    return found


_METRICS: tuple[tuple[str, str, Literal["share", "ms", "ratio", "count"]], ...] = (
    ("step.duration_ms.median", "Step time, median", "ms"),
    ("step.mean_all_ms", "Step time, mean", "ms"),
    ("bubble.measured_share", "Pipeline bubble", "share"),
    ("bubble.theory.simulated_share", "Schedule's bubble", "share"),
    ("all_to_all.rank_load_max_over_mean", "Load of the fullest rank", "ratio"),
    ("all_to_all.wait_share", "Waiting in all-to-alls", "share"),
    ("communication.exposed_share", "Exposed communication", "share"),
    ("mfu.mfu", "MFU", "share"),
    ("mfu.tokens_per_second", "Tokens per second", "count"),
)  # fmt: skip


def _value(side: Side, path: str) -> float | None:
    found: object = side.review
    for name in path.split("."):
        found = getattr(found, name, None)
    return float(found) if isinstance(found, (int, float)) else None


def fact_words(facts: Collection[FactChange]) -> str:
    """Differing facts of the schedule and the configuration in a few words."""
    listed = [each for each in facts if each.name in _OF_SCHEDULE]
    return ", ".join(f"{spaced(each.name.removeprefix('num_'))} {each.before} → {each.after}" for each in listed[:3])


_OF_SCHEDULE = (
    "schedule", "num_microbatches", "num_stages", "num_chunks", "layout", "world_size", "tokens_per_step",
    "sequence_length", "recompute", "dtype", "num_devices", "num_ranks",
)  # fmt: skip
