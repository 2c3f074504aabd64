"""Every command of README and docs that can run here runs, on inputs of the names that the pages use."""

from __future__ import annotations

import gzip
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from inputs.flight_dumps import call, dumped
from inputs.hot_experts import hot_run, with_routing
from inputs.nsys_file import nsys_twin
from pages import WRITTEN, commands_of
from planted import Faults, Job, plant

from traceanalyzer.cli import main

PIPELINE = Job(pp=4, num_microbatches=4, num_steps=3)
MODEL = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
    "intermediate_size": 256, "vocab_size": 128, "max_position_embeddings": 8192,
}  # fmt: skip
MEANT = {
    "PATH": "runs/first", "RUN": "runs/first", "TRACES": "runs/first", "TRACE": "runs/first", "CAPTURE": "capture.made",
    "RESULT": "result", "BASE": "before", "NEW": "after", "RUN1": "after", "RUN2": "after", "RUN3": "before", "NAME": "steps",
    "COMMAND": "analyze", "DUMPS/": "dumps", "PATH...": "runs/first", "demo/pipeline": "runs/first", "demo/experts": "runs/experts",
    "runs/a": "runs/first", "runs/slow": "after", "/runs/indexed-job": "runs/first", "/shared/runs/42": "runs/first",
}  # fmt: skip
"""What the words of the pages stand for among the inputs below."""


def why_not(text: str) -> str | None:
    """Why a command is not run here; None if it is."""
    words = shlex.split(text)
    if "…" in text or "<" in text or "NODE_FOLDER" in text or (len(words) == 2 and words[1] != "doctor"):
        return "stands for several commands"
    if words[1] == "run" and "--dry-run" not in words:
        return "launches a job: the tests marked `runs` do"
    if words[1] == "mcp":
        return "waits for a client: tests/agents speak to it"
    if "SWEEP" in words or "runs/sweep" in words:
        return "needs a sweep of launched jobs: tests/reports/pages/test_sweep.py has one"
    return None


def meant(word: str, text: str) -> str:
    """What a word of a page stands for."""
    if word == "FILE":
        return "job.json" if "--job" in text else "made.html" if "report" in text else "made.pftrace"
    if word == "RESULT" and "GradAccumulation" in text:
        return "one-stage"
    if word in ("PATH", "RUN") and ("expert" in text or "routing" in text):
        return "runs/experts"
    return MEANT.get(word, word)


COMMANDS = sorted({(page.name, text) for page in WRITTEN for text in commands_of(page)})
RUNNING = [each for each in COMMANDS if why_not(each[1]) is None]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an input under every name that the pages use."""
    folder = tmp_path_factory.mktemp("docs")
    for name, job, faults in (
        ("runs/first", PIPELINE, Faults()),
        ("before", PIPELINE, Faults(varying_compute=0.01)),
        ("after", PIPELINE, Faults(varying_compute=0.01, seed=1, slow_compute={2: 1.3})),
        ("traces", PIPELINE, Faults()),
        ("base", PIPELINE, Faults()),
        ("new", PIPELINE, Faults()),
        ("alone", replace(PIPELINE, pp=1, num_microbatches=2, num_steps=6), Faults()),
    ):
        planted = plant(job, faults, folder / "planted" / name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        planted.traces.rename(folder / name)
    with_routing(hot_run(folder / "runs/experts"))
    (folder / "dumps").mkdir()
    for rank in range(2):
        dumped(folder / "dumps", rank, [call(number) for number in range(1, 4 - rank)])
    (folder / "config.json").write_text(json.dumps(MODEL))
    (folder / "job.json").write_text(
        json.dumps({**MODEL, "action_pattern": r"^compute:(?P<stage>\d+)(?P<phase>[FB])(?P<microbatch>\d+)$"})
    )
    for file in [*(folder / "base").glob("*.gz"), *(folder / "new").glob("*.gz")]:
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    (folder / "job.toml").write_text('kind = "mix"\ndp = 2\n')
    (folder / "map.json").write_text(json.dumps({"kind": "op", "start_ns": "begin"}))
    orders = [[f"{rank}F{each}" for each in range(8)] + [f"{rank}B{each}" for each in range(8)] for rank in range(4)]
    (folder / "mine.csv").write_text("".join(",".join(order) + "\n" for order in orders))
    nsys_twin(
        json.loads(gzip.decompress(next((folder / "traces").glob("*.json.gz")).read_bytes())), folder / "rank0.sqlite"
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        assert main(["analyze", "runs/first", "--out", "result", "--json", "review.json"]) == 0
        known = ["--job", "llama-3-8b", "--tokens-per-step", "2048", "--sequence-length", "1024", "--dtype", "bf16"]
        assert main(["analyze", "alone", *known, "--out", "one-stage"]) == 0
        assert main(["gate", "init", "result"]) == 0
        assert main(["table", "runs/first", "ops", "--format", "csv", "-o", "ops.csv"]) == 0
    header, rows = (folder / "ops.csv").read_text().split("\n", 1)
    (folder / "ops.csv").write_text(header.replace("kind", "op").replace("start_ns", "begin") + "\n" + rows)
    return folder


def test_most_commands_are_run() -> None:
    assert len(RUNNING) > 0.7 * len(COMMANDS), [each for each in COMMANDS if each not in RUNNING]


@pytest.mark.wide
@pytest.mark.parametrize(("page", "text"), RUNNING, ids=[f"{page}: {text}" for page, text in RUNNING])
def test_a_command_of_a_page_runs(page: str, text: str, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(inputs)
    if " gate init " in text:
        (inputs / "gate.toml").unlink()
        (inputs / "baseline.json").unlink()
    words = [meant(word, text) for word in shlex.split(text)[1:]]
    assert main(words) in (0, 1), f"{page}: {text}"
