"""Runs reference jobs in forked processes of the test itself: the same code as under torchrun, without its start-up."""

from __future__ import annotations

import dataclasses
import gzip
import importlib
import json
import multiprocessing
import os
import traceback
from datetime import timedelta
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import msgspec
import torch
import torch.distributed as dist

from instrumented_runs.kinds import JOBS
from instrumented_runs.pipeline.plan import plan_named
from instrumented_runs.settings import ORDER_FILE, PipelineSettings, RunSettings
from traceanalyzer.job import (
    RUN_FILE,
    STEPS_FILE,
    TRACE_FILE,
    Job,
    StepRecord,
)


def run_job(kind: str, settings: RunSettings) -> Job:
    """Run every rank of a job to its end and return what `run.json` says."""
    torch.set_num_threads(1)  # a forked process must not inherit running threads
    Path(settings.folder).mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")
    errors: SimpleQueue[str] = context.SimpleQueue()
    ranks = [context.Process(target=_rank, args=(kind, settings, r, errors)) for r in range(settings.num_ranks)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    for process in ranks:
        if process.is_alive():
            process.kill()
    assert errors.empty(), errors.get()
    assert all(process.exitcode == 0 for process in ranks)
    return read_job(Path(settings.folder))


def _rank(kind: str, settings: RunSettings, rank: int, errors: SimpleQueue[str]) -> None:
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # kineto's remarks
        os.environ["LOCAL_RANK"] = str(rank)
        dist.init_process_group(
            "gloo",
            init_method=f"file://{settings.folder}/store",
            rank=rank,
            world_size=settings.num_ranks,
            timeout=timedelta(seconds=30),
        )
        importlib.import_module(JOBS[kind]).run(settings)
        dist.barrier()
    except Exception:  # noqa: BLE001 - whatever it is, the test has to show it
        errors.put(traceback.format_exc())
        os._exit(1)
    os._exit(0)  # no destructors of what the parent owns


def read_job(folder: Path) -> Job:
    return msgspec.json.decode((folder / RUN_FILE).read_bytes(), type=Job)


def read_steps(folder: Path, rank: int) -> list[StepRecord]:
    lines = (folder / STEPS_FILE.format(rank=rank)).read_bytes().splitlines()
    return [msgspec.json.decode(line, type=StepRecord) for line in lines]


def losses(folder: Path, num_ranks: int) -> list[float]:
    """Loss of every step, from whichever rank computes it."""
    found = {s.step: s.loss for rank in range(num_ranks) for s in read_steps(folder, rank) if s.loss is not None}
    return [found[step] for step in sorted(found)]


def read_trace(folder: Path, rank: int) -> dict[str, Any]:
    with gzip.open(folder / TRACE_FILE.format(rank=rank)) as file:
        return json.load(file)


def ranges(folder: Path, rank: int, prefix: str) -> list[tuple[str, float, float]]:
    """(name without prefix, start, end) of the ranges of one rank, in order of start."""
    events = [e for e in read_trace(folder, rank)["traceEvents"] if e.get("ph") == "X"]
    named = [(e["ts"], e["ts"] + e["dur"], e["name"]) for e in events if e["name"].startswith(prefix)]
    return [(name.removeprefix(prefix), start, end) for start, end, name in sorted(named)]


def small(folder: Path, **changes: object) -> PipelineSettings:
    settings = PipelineSettings(
        folder=str(folder),
        num_ranks=2,
        num_steps=1,
        num_unprofiled_steps=1,
        compute_mode="real",
        num_microbatches=4,
        hidden_size=16,
        num_heads=2,
        sequence_length=8,
        microbatch_size=2,
    )
    settings = dataclasses.replace(settings, **changes)
    settings, order = plan_named(settings)
    if order is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ORDER_FILE).write_text(order)
    return settings
