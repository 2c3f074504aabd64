"""Sources read by processes of this machine or of a cluster: a pure map over files on a `concurrent.futures.Executor`.

What a worker makes it leaves as files; what travels back is their description. A worker that dies costs its source and
nothing else: what ran when it died runs once more alone, and only what dies again is given up.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from typing import Any

_WORKER_BYTES = 700 << 20
_POLL_SECONDS = 0.25
Task = Callable[[Any, Callable[[str, int], None]], Any]
"""Takes an item and what it may tell of the bytes that it read."""
Results = Iterator[tuple[Any, Any]]
"""Items with their result or exception, as they finish."""


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


def each(task: Task, items: Sequence[Any], *, num_workers: int, on_bytes: Callable[[int], None] | None) -> Results:
    """Run `task(item)` in worker processes; yield (item, result or exception) as they finish.

    A task may return anything that pickles. `on_bytes` is called now and then with the bytes that workers read.
    Leaving the iteration early ends the workers at once.
    """
    counter: Any = multiprocessing.get_context("spawn").Value("q", 0)
    seen = 0

    def tell() -> None:
        nonlocal seen
        if on_bytes is not None and counter.value != seen:
            on_bytes(counter.value - seen)
            seen = counter.value

    doubtful: list[Any] = []
    todo = list(items)
    while todo:
        with _processes(num_workers, counter) as pool:
            for item, result in over(pool, task, todo, at_once=num_workers, meanwhile=tell):
                todo.remove(item)
                if isinstance(result, BrokenExecutor):
                    doubtful.append(item)
                else:
                    yield item, result
    for item in doubtful:
        with _processes(1, counter) as pool:
            ((_, result),) = over(pool, task, [item], at_once=1, meanwhile=tell)
            died = isinstance(result, BrokenExecutor)
            yield item, WorkerDiedError("the process that read it ended without an answer") if died else result
    tell()


def over(
    executor: Executor,
    task: Task,
    items: Sequence[Any],
    *,
    at_once: int,
    meanwhile: Callable[[], None] = lambda: None,
) -> Results:
    """The map itself, on any executor: at most `at_once` items are with it at a time.

    Where the executor breaks, only what was with it is yielded, with a `BrokenExecutor`; the rest was not begun.
    """
    waiting = list(reversed(items))
    running: dict[Future[Any], Any] = {}
    broken = False
    while running or (waiting and not broken):
        while waiting and not broken and len(running) < at_once:
            try:
                running[executor.submit(_run, task, waiting[-1])] = waiting[-1]
            except BrokenExecutor:
                broken = True
            else:
                waiting.pop()
        done, _ = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            error = future.exception()
            broken = broken or isinstance(error, BrokenExecutor)
            yield running.pop(future), future.result() if error is None else error
        meanwhile()


@contextlib.contextmanager
def _processes(num: int, counter: Any) -> Generator[ProcessPoolExecutor, None, None]:  # noqa: ANN401 - a shared integer of multiprocessing
    """A pool whose processes end at once where it is left."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num, mp_context=context, initializer=_begin, initargs=(counter, os.getpid()))
    try:
        yield pool
    finally:
        started: dict[int, Any] = dict(getattr(pool, "_processes", None) or {})
        pool.shutdown(wait=False, cancel_futures=True)
        for process in started.values():
            process.terminate()
        for process in started.values():
            process.join()


_counter: Any = None


def _begin(counter: Any, parent: int) -> None:  # noqa: ANN401 - a shared integer of multiprocessing
    """What a worker process does first: the parent decides when to stop, and takes it along where it is killed."""
    global _counter  # noqa: PLW0603 - one worker has one counter
    _counter = counter
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _run(task: Task, item: Any) -> Any:  # noqa: ANN401 - whatever the task takes and gives
    return task(item, _add)


def _add(_name: str, count: int) -> None:
    if _counter is not None:
        with _counter.get_lock():
            _counter.value += count
