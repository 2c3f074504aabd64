"""The page on planning: its figures are what the code gives, and its commands run."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from traceanalyzer.cli import main
from traceanalyzer.model_configs import find_preset
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.interconnect.topology import find_cluster
from traceanalyzer.theory.memory.recipes import find_recipe, recipes
from traceanalyzer.theory.planning.job import Configuration, PlanJob
from traceanalyzer.theory.planning.prices.pricing import price
from traceanalyzer.theory.planning.runs.published import Published, compare, mfu, published_runs
from traceanalyzer.theory.planning.search import search
from traceanalyzer.theory.schedules.closed_forms import bubble_share

PAGE = (Path(__file__).parents[3] / "docs" / "planning.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())


@pytest.mark.parametrize("run", published_runs(), ids=lambda run: run.name)
def test_published_runs_of_the_page(run: Published) -> None:
    found = compare(run)
    whole = sum(found.parts_ns.values())
    lost = {name: ns for name, ns in found.parts_ns.items() if name != "compute"}
    most = max(lost, key=lambda name: lost[name])
    cells = (
        run.name,
        run.configuration.text(),
        f"{run.mfu:.1%}",
        f"{found.predicted_mfu:.1%}",
        f"{run.mfu / found.predicted_mfu:.2f}",
        f"{found.memory_bytes / 2**30:.1f} GiB{'' if found.fits else ', too much'}",
        f"{most} {lost[most] / whole:.0%}",
    )
    assert f"| {' | '.join(cells)} |" in PAGE


def test_llama_with_sharded_gradients() -> None:
    runs = [run for run in published_runs() if run.name.startswith("Llama 3")]
    held = [price(run.job, replace(run.configuration, zero=2))[1] / 2**30 for run in runs]
    assert [f"{each:.1f} GiB" in TEXT for each in held] == [True] * 3
    assert [each <= run.job.capacity_bytes / 2**30 for each, run in zip(held, runs, strict=True)] == [False, True, True]
    assert f"{held[0] - runs[0].job.capacity_bytes / 2**30:.1f} GiB too much" in TEXT


def test_exercise_of_the_bubble() -> None:
    shares = {
        ScheduleName("GPipe"): "15.8%",
        ScheduleName("1F1B"): "15.8%",
        ScheduleName("Interleaved1F1B"): "8.6%",
        ScheduleName("ZBH1"): "5.9%",
        ScheduleName("Sequential"): "75.0%",
    }
    for name, said in shares.items():
        chunks = 2 if name == ScheduleName("Interleaved1F1B") else 1
        assert f"{bubble_share(name, 4, 16, chunks).share:.1%}" == said
        assert said in TEXT


def test_exercise_of_70b() -> None:
    job = PlanJob(
        shape=find_preset("llama-3-70b").shape,
        cluster=find_cluster("DGX H100"),
        num_devices=64,
        sequence_length=4096,
        batch_size=256,
        recipe=find_recipe("bf16"),
    )
    schedule = ScheduleName("1F1B")
    chosen = Configuration(tp=8, pp=2, dp=4, zero=1, schedule=schedule, num_microbatches=64)
    assert f"fits at {price(job, chosen)[1] / 2**30:.1f} GiB" in TEXT
    found = search(job)
    assert found.ranked[0].step_ns <= price(job, chosen)[0]


@pytest.mark.parametrize(
    ("layers", "nodes"), [(92, 4), (92, 8), (0, 1), (0, 64)], ids=["80B on 4", "80B on 8", "3B on 1", "3B on 64"]
)
def test_playbook_findings(layers: int, nodes: int) -> None:
    shape = (
        replace(find_preset("llama-3-70b").shape, num_layers=layers) if layers else find_preset("llama-3.2-3b").shape
    )
    job = PlanJob(
        shape=shape,
        cluster=find_cluster("DGX H100"),
        num_devices=8 * nodes,
        sequence_length=4096,
        batch_size=256,
        recipe=find_recipe("bf16"),
    )
    assert f"{mfu(job, search(job).ranked[0].step_ns):.1%}" in TEXT


def test_recipes_are_named() -> None:
    assert all(name in TEXT for name in recipes())


def test_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^    traceanalyzer (.*)$", PAGE, flags=re.MULTILINE)
    commands = [each for each in commands if "review.json" not in each and "RESULT" not in each]  # these need a run
    assert len(commands) == 4
    for command in commands:
        assert main(shlex.split(command)) == 0, command
    assert {path.name for path in tmp_path.iterdir()} == {"plan.json", "titan.toml", "arguments.txt", "ds.json"}
