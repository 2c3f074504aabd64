"""Sources read by several processes, each with its own bounded memory; one that dies costs its source, not the ingest."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

_WORKER_BYTES = 700 << 20
_POLL_SECONDS = 0.25
Task = Callable[[Any], Any]


class WorkerDiedError(Exception):
    """A worker ended without an answer; most often the system killed it for memory."""


def number_of_workers(num_sources: int, asked: int | None) -> int:
    """As many as asked for, else as cores, sources and free memory allow."""
    if asked is not None:
        return max(1, min(asked, num_sources))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, num_sources, int(0.8 * _available_bytes()) // _WORKER_BYTES))


def _available_bytes() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 - a kernel table, no path to handle
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return 4 << 30


def each(
    task: Task, items: Sequence[Any], *, num_workers: int, on_bytes: Callable[[int], None] | None
) -> Iterator[tuple[Any, Any]]:
    """Run `task(item)` in worker processes; yield (item, result or exception) as they finish.

    A task may return anything that pickles. `on_bytes` is called now and then with the bytes that workers read.
    Leaving the iteration early ends the workers at once.
    """
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    todo = list(reversed(items))
    busy: dict[Connection, tuple[SpawnProcess, Any]] = {}
    idle: list[tuple[SpawnProcess, Connection]] = []
    seen = 0
    try:
        while todo or busy:
            while todo and len(busy) < num_workers:
                process, connection = idle.pop() if idle else _start(context, counter)
                item = todo.pop()
                connection.send((task, item))
                busy[connection] = (process, item)
            for ready in wait(list(busy), timeout=_POLL_SECONDS):
                assert isinstance(ready, Connection)  # noqa: S101 - only connections were waited for
                process, item = busy.pop(ready)
                try:
                    result = ready.recv()
                    idle.append((process, ready))
                except (EOFError, OSError):
                    process.join(1)
                    result = WorkerDiedError(f"the process that read it ended with status {process.exitcode}")
                yield item, result
            if on_bytes is not None and counter.value != seen:
                on_bytes(counter.value - seen)
                seen = counter.value
    finally:
        for process in [p for p, _ in idle] + [p for p, _ in busy.values()]:
            process.terminate()
        for process in [p for p, _ in idle] + [p for p, _ in busy.values()]:
            process.join()


def _start(context: Any, counter: Any) -> tuple[SpawnProcess, Connection]:  # noqa: ANN401 - multiprocessing's own types
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, counter), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _serve(connection: Connection, counter: Any) -> None:  # noqa: ANN401 - a shared integer of multiprocessing
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    while True:
        try:
            task, item = connection.recv()
        except (EOFError, OSError):
            return
        try:
            result = task(item, _adder(counter))
        except Exception as error:  # noqa: BLE001 - handed to the parent, which raises it
            result = error
        connection.send(result)


def _adder(counter: Any) -> Callable[[str, int], None]:  # noqa: ANN401 - a shared integer of multiprocessing
    def add(_name: str, count: int) -> None:
        with counter.get_lock():
            counter.value += count

    return add
