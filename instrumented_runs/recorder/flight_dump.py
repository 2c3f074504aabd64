"""Torch's flight recorder, dumped when a recording ends: the last communication calls of a rank and their states."""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path
from typing import Any

from traceanalyzer.output import write_atomically

FLIGHT_FILE = "flight/rank{rank:05d}.pickle"
"""In the run folder, in torch's own format; `traceanalyzer.traces.nccl.flight_recorder` reads it without running it."""
_SOURCES = {"nccl": ("_dump_nccl_trace", "_dump_fr_trace"), "gloo": ("_dump_fr_trace", "_dump_nccl_trace")}
"""Backend to the functions of `torch._C._distributed_c10d` that may know its calls, best first."""


def dump_flight(folder: Path, rank: int, backend: str, job_id: str) -> str:
    """Write this rank's dump; what became of it, in words. A dump that fails is not a reason to lose a recording."""
    dump = _find(backend)
    if dump is None:
        return "not recorded: this torch has no flight recorder"
    path = folder / FLIGHT_FILE.format(rank=rank)
    try:
        content = _named(dump(True, False, False), job_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except (OSError, RuntimeError, TypeError, pickle.PickleError) as error:
        return f"not recorded: {error}".splitlines()[0]
    return "recorded"


def _named(content: bytes, job_id: str) -> bytes:
    """The dump with the run's `job_id` beside torch's own fields, which tells dumps of other runs apart; as it is if no pickle."""
    try:
        dump: object = pickle.loads(content)  # noqa: S301 - torch wrote it in this process
    except (pickle.PickleError, EOFError, LookupError, ValueError):
        return content
    return pickle.dumps(dump | {"job_id": job_id}, protocol=4) if isinstance(dump, dict) else content


def _find(backend: str) -> Any:  # noqa: ANN401 - a function of torch's bindings
    try:
        bindings = importlib.import_module("torch._C._distributed_c10d")
    except ImportError:
        return None
    found = [getattr(bindings, name, None) for name in _SOURCES.get(backend, _SOURCES["gloo"])]
    return next((function for function in found if function is not None), None)
