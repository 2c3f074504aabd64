"""The workflow files of the documentation: every step that they run is run here, on a run that passes and one that does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from planted import Faults, Job, plant

WORKFLOWS = Path(__file__).parents[2] / "docs" / "workflows"
JOB = Job(pp=2, num_microbatches=3, num_steps=5)


def steps_of_github() -> list[str]:
    document = yaml.safe_load((WORKFLOWS / "github.yml").read_text())
    steps = document["jobs"]["gate"]["steps"]
    return [step["run"] for step in steps if "run" in step and step["name"] != "Install"]


def steps_of_gitlab() -> list[str]:
    document = yaml.safe_load((WORKFLOWS / "gitlab.yml").read_text())["training-performance"]
    assert all("pip install" in line for line in document["before_script"])
    return [*document["script"], *document["after_script"]]


def variables() -> dict[str, str]:
    github = yaml.safe_load((WORKFLOWS / "github.yml").read_text())["env"]
    gitlab = yaml.safe_load((WORKFLOWS / "gitlab.yml").read_text())["training-performance"]["variables"]
    assert github == gitlab
    return github


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a gate and its baseline, the traces of a clean run and of one with a slow stage."""
    folder = tmp_path_factory.mktemp("repository")
    for name, faults in {
        "base": Faults(varying_compute=0.01),
        "clean": Faults(varying_compute=0.01, seed=3),
        "slow": Faults(varying_compute=0.01, seed=4, slow_compute={1: 1.3}),
    }.items():
        (folder / name).mkdir()
        plant(JOB, faults, folder / name)
    (folder / "traceanalyzer").write_text(f'#!/bin/sh\nexec {sys.executable} -m traceanalyzer "$@"\n')
    (folder / "traceanalyzer").chmod(0o755)
    assert run("traceanalyzer gate init base", folder, {}).returncode == 0
    return folder


def run(step: str, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[2])
    told = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": root, **env}
    return subprocess.run(["bash", "-e", "-c", step], cwd=folder, env=told, capture_output=True, text=True, check=False)


@pytest.mark.wide
@pytest.mark.sweep(1)
@pytest.mark.parametrize("steps", [steps_of_github, steps_of_gitlab], ids=["github", "gitlab"])
@pytest.mark.parametrize(("traces", "status"), [("clean", 0), ("slow", 1)])
def test_a_workflow_passes_a_clean_run_and_fails_a_slow_one(
    steps: object, traces: str, status: int, workplace: Path
) -> None:
    commands: list[str] = steps()  # type: ignore[operator]
    summary = workplace / ("comparison.md" if steps is steps_of_gitlab else f"summary-{traces}.md")
    env = {**variables(), "TRACES": traces, "GITHUB_STEP_SUMMARY": str(summary)}
    gate, compared = [run(command, workplace, env) for command in commands]
    assert gate.returncode == status, gate.stderr
    assert compared.returncode == 0, compared.stderr
    assert (workplace / "gate.xml").read_text().count("<failure") == (0 if status == 0 else gate_errors(gate.stdout))
    assert (workplace / "comparison.html").stat().st_size > 100_000
    told = summary.read_text()
    assert "### Comparison of runs" in told
    assert ("slower" in told.split("####")[0]) == (status == 1)
    assert ("because stage 1 (rank 1) computes" in told.split("####")[0]) == (status == 1)


def gate_errors(output: str) -> int:
    """Broken limits, as annotations or as lines."""
    return output.count("::error ") or output.count("gate broken: ")
