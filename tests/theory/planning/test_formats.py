"""Plans as frameworks' files, and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from plan_jobs import job

from traceanalyzer.errors import DomainError, InputError, UsageError
from traceanalyzer.model_configs import find_preset
from traceanalyzer.options.job_file import read_job_file
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.interconnect.topology import find_cluster
from traceanalyzer.theory.memory.activations import Policy
from traceanalyzer.theory.planning.formats import WRITERS, first_written, read
from traceanalyzer.theory.planning.formats.settings import Setting
from traceanalyzer.theory.planning.frameworks import DEEPSPEED, MEGATRON, TORCHTITAN, Framework, find_framework
from traceanalyzer.theory.planning.job import Configuration, PlanJob
from traceanalyzer.theory.planning.search import search


@pytest.mark.sweep(3)
@pytest.mark.parametrize(
    ("framework", "preset", "devices"),
    [
        (MEGATRON, "llama-3-70b", 64),
        (MEGATRON, "mixtral-8x7b", 32),
        (MEGATRON, "deepseek-v3", 512),
        (TORCHTITAN, "llama-3-70b", 64),
        (TORCHTITAN, "llama-3-405b", 512),
        (TORCHTITAN, "qwen3-30b-a3b", 32),
        (DEEPSPEED, "llama-3-8b", 16),
        (DEEPSPEED, "llama-3-70b", 64),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_files_of_frameworks_come_back(framework: Framework, preset: str, devices: int, tmp_path: Path) -> None:
    at = job(
        find_preset(preset).shape,
        framework=framework,
        cluster=find_cluster("DGX H100"),
        num_devices=devices,
        sequence_length=4096,
        batch_size=2 * devices,
    )
    best, text = first_written(at, search(at).ranked, framework.name)
    back = read(text, at.shape.num_layers, devices)
    assert back.configuration == best.configuration
    assert back.batch_size == at.batch_size
    if framework is DEEPSPEED:
        return
    assert back.sequence_length == 4096
    path = tmp_path / ("job.toml" if framework is TORCHTITAN else "arguments.txt")
    path.write_text(text, encoding="utf-8")
    said = read_job_file(str(path))
    assert said.model is not None
    assert (said.model.num_layers, said.model.num_experts) == (at.shape.num_layers, at.shape.num_experts)
    assert said.training.tokens_per_step == at.tokens_per_step
    assert said.training.recompute in (None, str(best.configuration.policy))


def test_pipelines_and_layers_come_back() -> None:
    at = job(find_preset("llama-3-70b").shape, num_devices=64)
    common = {"tp": 2, "pp": 4, "dp": 8, "microbatch_size": 2, "num_microbatches": 8}
    interleaved = Configuration(**common, zero=2, schedule=ScheduleName("Interleaved1F1B"), num_chunks=2)
    back = read(WRITERS["torchtitan"](at, Setting.of(replace_batch(at, 128), interleaved)), 80)
    assert back.configuration == interleaved
    some = replace(interleaved, zero=1, num_recomputed_layers=6)
    text = WRITERS["megatron"](at, Setting.of(replace_batch(at, 128), some))
    assert "--world-size" not in text, "the launcher's WORLD_SIZE says it; Megatron-LM has no such argument"
    with pytest.raises(InputError):
        read(text)
    back = read(text, num_devices=64)
    assert back.configuration == some
    plain = replace(interleaved, zero=1, schedule=ScheduleName("1F1B"), num_chunks=1, policy=Policy.FULL)
    for name in ("megatron", "deepspeed"):
        assert read(WRITERS[name](at, Setting.of(replace_batch(at, 128), plain)), num_devices=64).configuration == plain


def replace_batch(at: PlanJob, batch_size: int) -> PlanJob:
    return job(at.shape, num_devices=at.num_devices, batch_size=batch_size)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("torchtitan", {"zero": 1}),
        ("torchtitan", {"zero": 3, "num_recomputed_layers": 2}),
        ("megatron", {"zero": 3}),
        ("megatron", {"policy": Policy.SELECTIVE}),
        ("megatron", {"pp": 2, "dp": 4, "schedule": ScheduleName("ZBVZeroBubble"), "num_chunks": 2}),
        ("deepspeed", {"cp": 2, "dp": 4}),
        ("deepspeed", {"tp": 2, "dp": 4, "zero": 3}),
        ("deepspeed", {"pp": 2, "dp": 4, "zero": 2, "schedule": ScheduleName("1F1B")}),
    ],
)
def test_what_a_framework_cannot_say(name: str, change: dict[str, object]) -> None:
    at = job(find_preset("llama-3-8b").shape)
    chosen = replace(Configuration(dp=8, num_microbatches=2), **change)
    with pytest.raises(DomainError):
        WRITERS[name](at, Setting.of(at, chosen))


def test_unreadable_settings() -> None:
    for text in ("what", "{", "[model]\nname='llama3'"):
        with pytest.raises(InputError):
            read(text)
    with pytest.raises(UsageError):
        find_framework("abacus")
