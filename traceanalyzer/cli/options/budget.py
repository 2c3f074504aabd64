"""`--timeout` and `--max-memory` of every command: how long it may take, and how much memory; `--memory` of those that measure."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from traceanalyzer.cli.screen import say

_CHECK_S = 0.1
_SHARE = 0.9
"""Of the memory of the machine or container, which a command may take by default."""
_STATM = Path("/proc/self/statm")
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_STATUS = 3
_BASELINE = 250 << 20
"""The interpreter, Polars, and what does not grow with the events."""
_PER_EVENT = 300
"""Bytes of an event while it is read; half of the rest is for tables."""
_FEWEST_EVENTS = 20_000


def with_budget(command: click.Command) -> click.Command:
    """The command, and every command below it, with both options."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            with_budget(each)
    elif not any(option.name == "timeout" for option in command.params):
        command.params += [
            click.Option(
                ["--timeout"],
                type=click.FloatRange(0, min_open=True),
                metavar="SECONDS",
                expose_value=False,
                callback=_start_clock,
                help="Stop with status 3 after so long [no limit].",
            ),
            click.Option(
                ["--max-memory"],
                type=click.IntRange(200),
                metavar="MB",
                expose_value=False,
                callback=_watch_memory,
                help="Stop with status 3 beyond this much memory [nine tenths of what there is].",
            ),
        ]
    return command


def memory_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--memory`; the command takes `memory` and reads within `events_kept`."""
    option = click.option(
        "--memory",
        type=click.IntRange(300, 1 << 20),
        metavar="MB",
        callback=_stay_within,
        help="Use no more memory: events that do not fit wait in a temporary folder. Stop with status 3 if tables do not fit.",
    )
    return option(command)


@contextmanager
def events_kept(megabytes: int | None) -> Generator[tuple[Path | None, int | None]]:
    """A folder for events that do not fit into memory, and how many do; neither without a bound."""
    if megabytes is None:
        yield None, None
        return
    with tempfile.TemporaryDirectory(prefix="traceanalyzer-", ignore_cleanup_errors=True) as folder:
        yield Path(folder), events_at_once(megabytes)


def events_at_once(megabytes: int) -> int:
    """Events that a command reads at once to stay within `megabytes`."""
    return max(_FEWEST_EVENTS, ((megabytes << 20) - _BASELINE) // 2 // _PER_EVENT)


def _stay_within(context: click.Context, _option: click.Parameter, megabytes: int | None) -> int | None:
    if megabytes is not None and _STATM.exists():
        hint = "raise --memory, or give fewer ranks or steps (--ranks, --steps)"
        _watch(context, _beyond(megabytes << 20), f"stopped: the tables need more than {megabytes} MB of memory", hint)
    return megabytes


def _start_clock(context: click.Context, _option: click.Parameter, seconds: float | None) -> float | None:
    if seconds is not None:
        _watch(context, _after(time.monotonic() + seconds), f"stopped after {seconds:g} s", "raise --timeout")
    return seconds


def _watch_memory(context: click.Context, _option: click.Parameter, megabytes: int | None) -> int | None:
    most = megabytes << 20 if megabytes is not None else int(_SHARE * memory_of_this_machine())
    if _STATM.exists():
        hint = "raise --max-memory, or give fewer ranks or steps (--ranks, --steps)"
        _watch(context, _beyond(most), f"stopped: it took more than {most >> 20} MB of memory", hint)
    return megabytes


def _watch(context: click.Context, passed: Callable[[], bool], message: str, hint: str) -> None:
    """Stop the process once `passed`; a command that has ended is watched no more, so a caller's process lives on."""
    ended = threading.Event()
    context.find_root().call_on_close(ended.set)  # a command whose options are refused never closes its own

    def work() -> None:
        while not passed():
            if ended.wait(_CHECK_S):
                return
        _stop(message, hint)

    threading.Thread(target=work, daemon=True, name="budget").start()


def _after(moment: float) -> Callable[[], bool]:
    return lambda: time.monotonic() >= moment


def _beyond(most: int) -> Callable[[], bool]:
    page = os.sysconf("SC_PAGE_SIZE")
    return lambda: int(_STATM.read_bytes().split()[1]) * page > most


def _stop(message: str, hint: str) -> None:
    """Leave at once: Polars cannot be interrupted, and what is half written is a temporary file or resumable."""
    say(f"traceanalyzer: {message}\n  {hint}", err=True)
    os._exit(_STATUS)


def memory_of_this_machine() -> int:
    """Bytes of memory of the machine, or of the container if it has less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _LIMITS:
        try:
            total = min(total, int(Path(name).read_text(encoding="ascii")))
        except (OSError, ValueError):  # there is none, or it says `max`
            continue
    return total
