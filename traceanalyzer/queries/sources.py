"""Tables by name, from traces, a capture or a kept result; only what is asked for is read and measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from traceanalyzer.analysis.assemble import analyze, read, with_declaration
from traceanalyzer.analysis.kept import is_result, read_table, result_folder
from traceanalyzer.errors import UsageError
from traceanalyzer.gaps.efficiency.declaration import Declaration
from traceanalyzer.schema import TABLES
from traceanalyzer.spelling import names_hint
from traceanalyzer.tables.computation.taxonomy import KernelRule
from traceanalyzer.traces import Traces, read_traces
from traceanalyzer.traces.input.discovery import Paths, Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How traces are read where the tables are not kept."""

    columns: Mapping[str, str] | None = None
    """Our names of an op table's columns and the file's."""
    rank_map: Mapping[str, int] | None = None
    kernel_rules: tuple[KernelRule, ...] = ()


AS_IT_IS = Reading()


def tables_at(path: Where, names: Collection[str], reading: Reading = AS_IT_IS) -> dict[str, pl.DataFrame]:
    """The tables called `names` of what is at `path`, in the schemas of the registry.

    Raises `UsageError` for a name that is not a table or is not kept there, `InputError` where nothing can be read.
    """
    for name in names:
        check_name(name)
    if not isinstance(path, Paths) and is_result(path):
        return _kept(path, names, reading)
    if all(TABLES[name].origin == "traces" for name in names):
        return _of_traces(read_traces(path, rank_map=reading.rank_map), names)
    run = read(path, reading.columns, rank_map=reading.rank_map)
    measured = analyze(with_declaration(run, Declaration(kernel_rules=reading.kernel_rules))).tables
    return _of_traces(run.traces, names) | {name: measured[name] for name in names if TABLES[name].origin != "traces"}


def check_name(name: str) -> None:
    """Raises `UsageError` if no table is called so."""
    if name not in TABLES:
        raise UsageError(f"there is no table {name}", names_hint(name, list(TABLES), "NAME is one of"))


def _of_traces(traces: Traces, names: Collection[str]) -> dict[str, pl.DataFrame]:
    found = {"events": traces.events, "ranks": traces.ranks, "defects": traces.defects}
    return {name: found[name] for name in names if name in found}


def _kept(path: Path | str, names: Collection[str], reading: Reading) -> dict[str, pl.DataFrame]:
    given = {
        "--rank-map": reading.rank_map,
        "--column-map": reading.columns,
        "--kernel-rules": reading.kernel_rules or None,
    }
    for option in (name for name, value in given.items() if value is not None):
        raise UsageError(
            f"{path}: is a result, which {option} cannot change", "leave the option out, or give the traces"
        )
    folder = result_folder(path)
    if folder is None:
        raise UsageError(f"{path}: is a review without tables", "give the folder of a result, or the traces")
    return {name: read_table(folder, name) for name in names}
