"""A small recorded loop and its step names."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from instrumented_runs.ranges import span
from instrumented_runs.recorder.capture import Window
from instrumented_runs.recorder.recording import Recorder

torch = pytest.importorskip("torch", reason="reference jobs need torch")


WEIRD = 'größe → "quoted" \\ tab\t 100%'


def loop(folder: Path, num_steps: int, window: Window, **options: object) -> None:
    with Recorder(folder, window=window, **options) as recorder:
        for _ in range(num_steps):
            with span(WEIRD):
                torch.ones(4, 4) @ torch.ones(4, 4)
            recorder.step()


def step_names(path: Path) -> list[str]:
    with gzip.open(path) as file:
        events = json.load(file)["traceEvents"]
    return sorted(event["name"] for event in events if event["name"].startswith("ProfilerStep#"))
