"""What tells this run from others: its name, when and where it ran, what of it was captured."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import PurePath
from typing import Any

from reports.sections.headline import degrees_text
from reports.sections.material import Material
from traceanalyzer.model import ModelShape
from traceanalyzer.review import Review, Term
from traceanalyzer.review.words import counted, digits, n_of_n
from traceanalyzer.theory.model.parameters import parameters

_PLAIN_FOLDERS = ("traces", "trace", "profile", "profiler", "result", "")
"""Folders that do not tell a job: the one around them does."""
_SOFTWARE = ("torch", "torchtitan", "megatron", "deepspeed", "nccl", "cuda", "python", "commit", "git")
_SIZES = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))


def identity(material: Material) -> tuple[tuple[str, str], ...]:
    """Name and text of every fact that is known."""
    review = material.review
    facts = (
        ("Job", _job(review)),
        ("Captured on", _date(material)),
        ("Model", _model(review)),
        ("Mesh", _mesh(material)),
        ("Schedule", _schedule(review)),
        ("Captured", _captured(review)),
        ("Software", _software(review.provenance)),
    )
    return tuple((name, text) for name, text in facts if text)


def _job(review: Review) -> str:
    """The last folder of the path that is not called as every job's."""
    parts = [part for part in PurePath(review.source.path).parts if part.lower() not in _PLAIN_FOLDERS]
    return parts[-1] if parts and parts[-1] not in ("/", "\\") else ""


def _date(material: Material) -> str:
    """Day and minute of the first event, by the machine's clock; else of the declared run."""
    ranks = material.table("ranks")
    starts = ranks["start_ns"].drop_nulls() if "start_ns" in ranks.columns else None
    first: Any = starts.min() if starts is not None and len(starts) else None
    if (
        first is not None and first > 10**18
    ):  # since 2001: the profiler's clock is not the epoch where it starts at zero
        return f"{dt.datetime.fromtimestamp(first / 1e9, dt.UTC):%Y-%m-%d %H:%M} UTC"
    created = next((term.text for term in material.review.provenance if term.term == "Run"), "")
    found = re.search(r"\d{4}-\d\d-\d\d", created)
    return found[0] if found else ""


def _model(review: Review) -> str:
    shape = review.job.model.value if review.job.model else None
    if shape is None:
        return ""
    experts = f", {shape.num_experts} experts" if shape.num_experts else ""
    return f"{_size(shape)}{counted(shape.num_layers, 'layer')}, hidden {shape.hidden_size:,}{experts}"


def _size(shape: ModelShape) -> str:
    if shape.not_counted:
        return ""
    count = parameters(shape)
    active = f" ({_short(count.active)} active)" if count.active != count.total else ""
    return f"{_short(count.total)} parameters{active}, " if count.total else ""


def _short(number: int) -> str:
    """A number of parameters as models are called, for example `8.03B`."""
    factor, letter = next(((factor, letter) for factor, letter in _SIZES if number >= factor), (1, ""))
    return f"{digits(number / factor)}{letter}"


def _mesh(material: Material) -> str:
    review = material.review
    degrees = degrees_text(review.job.layout.value) if review.job.layout else ""
    number, device = num_devices(review), device_name(material)
    hosts = material.table("ranks")["host"].drop_nulls().n_unique() if material.tables.get("ranks") is not None else 0
    on = f"{number:,} × {device}" if number and device else device or (counted(number, "rank") if number else "")
    where = f" on {counted(hosts, 'host')}" if hosts > 1 else ""
    return " on ".join(text for text in (degrees, on) if text) + where


def num_devices(review: Review) -> int | None:
    """Devices of the whole job, as far as it is known; ranks where each drives one."""
    job = review.job
    known = job.num_devices or job.world_size
    return review.mfu.num_devices or (known.value if known else None)


def device_name(material: Material) -> str:
    """The device's own name, as declared or as the traces give it."""
    hardware = material.review.job.hardware
    if hardware is not None:
        return hardware.value.device
    ranks = material.table("ranks")
    for text in ranks["devices"].drop_nulls().to_list() if "devices" in ranks.columns else ():
        found = re.search(r'"name"\s*:\s*("(?:[^"\\]|\\.)*")', text)
        if found:
            return str(json.loads(found[1]))
    return ""


def _schedule(review: Review) -> str:
    job = review.job
    named = job.schedule.value if job.schedule and job.schedule.value != "unknown" else ""
    counts = [
        counted(fact.value, noun)
        for fact, noun in ((job.num_stages, "stage"), (job.num_microbatches, "microbatch"))
        if fact is not None and fact.value > 1
    ]
    return ", ".join(text for text in (named, *counts) if text)


def _captured(review: Review) -> str:
    ranks = n_of_n(review.quality.num_ranks_found, review.quality.num_ranks_expected)
    typical = review.step.duration_ms.num_steps
    steps = review.step.num_captured or typical
    apart = f" ({typical} typical)" if typical and typical != steps else ""
    return f"{ranks}, {counted(steps, 'step')}{apart}" if steps else ranks


def _software(terms: list[Term]) -> str:
    known = {term.term.lower(): term.text for term in terms}
    said = [f"{name} {known[name]}" for name in _SOFTWARE if known.get(name) and not known[name].startswith("not ")]
    return ", ".join(said)
