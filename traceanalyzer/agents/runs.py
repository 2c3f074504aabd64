"""The runs that an agent asks about: measured once, kept in memory until their files change."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from traceanalyzer.agents.folders import Folders, fingerprint
from traceanalyzer.analysis.kept import is_result
from traceanalyzer.api.flow import Declared, analyze, load, read
from traceanalyzer.api.results import Result
from traceanalyzer.errors import UsageError
from traceanalyzer.model_configs import find_preset
from traceanalyzer.queries.sources import tables_at
from traceanalyzer.schema import TABLES

_MOST_RESULTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class JobGiven:
    """What an agent says of a run: what to look at, and what the traces do not tell. None: not said."""

    ranks: tuple[int, ...] | None = None
    steps: tuple[int, ...] | None = None
    job: str | None = None
    """A model's name, or a job's or model's description inside the folders."""
    tokens_per_step: int | None = None
    sequence_length: int | None = None
    num_devices: int | None = None
    dtype: str | None = None
    recompute: str | None = None
    peak_tflops: float | None = None

    def declared(self) -> Declared:
        """What is said of the job, as `traceanalyzer.analyze` takes it."""
        said: Declared = {
            "tokens_per_step": self.tokens_per_step,
            "sequence_length": self.sequence_length,
            "num_devices": self.num_devices,
            "dtype": self.dtype,
            "recompute": self.recompute,
            "peak_tflops": self.peak_tflops,
        }
        return said


AS_IT_IS = JobGiven()


class Runs:
    """Results and tables of what lies in the folders. Safe to ask from several threads."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._results: OrderedDict[object, Result] = OrderedDict()
        self._lock = threading.Lock()

    def listing(self) -> dict[str, list[str]]:
        """What lies in the folders."""
        return self._folders.listing()

    def result(self, path: str, given: JobGiven = AS_IT_IS) -> Result:
        """The result of what is at `path`, measured where it is not kept. Raises what `analyze` raises."""
        place, job = self._folders.inside(path), self.model(given.job)
        asked = (place, fingerprint(place), given)
        with self._lock:
            if asked not in self._results:
                self._results[asked] = _measured(place, given, job)
                while len(self._results) > _MOST_RESULTS:
                    self._results.popitem(last=False)
            self._results.move_to_end(asked)
            return self._results[asked]

    def tables(self, path: str, names: Sequence[str]) -> dict[str, pl.DataFrame]:
        """The tables called `names`; those that traces hold as they are need no measuring."""
        place = self._folders.inside(path)
        if is_result(place) or any(not TABLES[name].in_result for name in names if name in TABLES):
            return tables_at(place, names)
        held = self.result(path).tables
        return {name: held[name] for name in names if name in held}

    def model(self, name: str | None) -> str | None:
        """The name of a known model, or the real path of a description inside the folders. Raises `UsageError`."""
        if name is None:
            return None
        try:
            return find_preset(name).name
        except UsageError:
            return str(self._folders.inside(name))


def _measured(place: Path, given: JobGiven, job: str | None) -> Result:
    declared = given.declared()
    if is_result(place):
        if given != AS_IT_IS:
            raise UsageError(f"{place}: is a kept result, which nothing declared can change", "name the traces")
        return load(place)
    return analyze(read(place, ranks=given.ranks, steps=given.steps), job=job, **declared)
