"""Every schedule that is known by name: the records of all modules in `families`."""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache

from traceanalyzer.errors import UsageError
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.spelling import names_hint
from traceanalyzer.theory.schedules import families
from traceanalyzer.theory.schedules.record import Placement, Schedule


@cache
def schedules() -> dict[ScheduleName, Schedule]:
    """All records by name, the simplest schedule first."""
    modules = [
        importlib.import_module(f"{families.__name__}.{found.name}")
        for found in pkgutil.iter_modules(families.__path__)
    ]
    records = [value for module in modules for value in vars(module).values() if isinstance(value, Schedule)]
    return {ScheduleName(record.name): record for record in sorted(records, key=lambda record: record.precedence)}


def schedule(name: ScheduleName | str) -> Schedule:
    """The record of a name or alias. Raises `UsageError` if there is none."""
    found = schedules().get(ScheduleName(name))
    return found or schedules()[parse_schedule_name(name)]


def parse_schedule_name(text: str) -> ScheduleName:
    """Find a schedule by name or alias, whatever its case, dashes or underscores. Raises `UsageError`."""
    key = re.sub(r"[\s_-]", "", text).lower()
    for name, record in schedules().items():
        if key in (name.lower(), *record.aliases):
            return name
    raise UsageError(
        f"there is no schedule called '{text}'",
        names_hint(text, list(schedules()), "known schedules"),
    )


def full_backward_loops() -> list[ScheduleName]:
    """Schedules that can be recognised in a trace without labels: full backwards, stages that go round the ranks."""
    return [
        name
        for name, record in schedules().items()
        if record.in_frameworks and not record.splits_backward and record.placement is Placement.LOOP
    ]
