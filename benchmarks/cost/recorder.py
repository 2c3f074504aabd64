"""What the recorder costs a training loop: outside its window, inside it, and in bytes.

Two processes train the same small transformer, a step each in turn, never at once: one records, the other does not. Every
pair of steps gives one ratio, so what disturbs the machine disturbs both; what is compared is the processor time of a step
(one thread, no waiting), which other processes lengthen little.

    python benchmarks/cost/recorder.py [PAIRS]
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from instrumented_runs.jobs.token_task import batch
from instrumented_runs.jobs.transformer import stage, token_loss
from instrumented_runs.recorder.capture import Window
from instrumented_runs.recorder.recording import Recorder
from traceanalyzer.model import ModelShape

SHAPE = ModelShape(
    num_layers=4, hidden_size=256, num_heads=8, num_kv_heads=8, head_size=32, ffn_size=1024, vocab_size=256
)
LENGTH, SEQUENCES = 128, 1


def trainer() -> Callable[[], None]:
    torch.set_num_threads(1)
    model = stage(SHAPE, LENGTH, 0, 0, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    inputs, targets = batch(0, 0, SEQUENCES, LENGTH, SHAPE.vocab_size)

    def train() -> None:
        token_loss(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()

    return train


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def plain_loop(pipe: Connection) -> None:
    """The loop without a recorder: a step for every message, answered with its time."""
    train = trainer()
    while pipe.recv():
        pipe.send(seconds(train))


def main(pairs: int) -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    plain = context.Process(target=plain_loop, args=(there,), daemon=True)
    plain.start()
    train = trainer()

    def ratios(step: Callable[[], object]) -> list[float]:
        found = []
        for _ in range(pairs):
            here.send(True)
            unrecorded = here.recv()
            found.append(seconds(step) / unrecorded)
        return found

    ratios(train)  # warms both up
    print("step with recorder ÷ without   median  quartiles")
    report("no recorder in either", ratios(train))
    with tempfile.TemporaryDirectory() as folder:
        with Recorder(folder, window=Window(wait=pairs, warmup=1, active=pairs)) as recorder:

            def step() -> None:
                train()
                recorder.step()

            report("outside the window", ratios(step))
            step()  # the profiler's own warm-up
            report("inside the window", ratios(step)[:-1])  # the last one writes the trace
        size = sum(path.stat().st_size for path in Path(folder).glob("traces/*"))
    here.send(False)
    print(f"recorder.step() outside the window: {1e6 * statistics.median(calls_only()):.0f} µs", end=", ")
    print(
        f"step without: {1e3 * statistics.median(seconds(train) for _ in range(9)):.1f} ms of processor time", end=", "
    )
    print(f"trace: {size / pairs / 1024:.1f} KiB per step and rank, packed")


def calls_only() -> list[float]:
    with tempfile.TemporaryDirectory() as folder, Recorder(folder, window=Window(wait=10_000)) as recorder:
        return [seconds(recorder.step) for _ in range(500)]


def report(name: str, ratios: list[float]) -> None:
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"{name:<30} {middle:.3f}   {low:.3f} to {high:.3f}   ({len(ratios)} pairs)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
