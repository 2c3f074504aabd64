"""Watches the ranks that torchrun started on this machine, and ends those that cannot end by themselves.

torchrun waits 30 to 45 s for a rank that does not take SIGTERM, and a stopped process (SIGSTOP) takes none. Where there is
no `/proc` nothing is seen and nothing is done.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

STOPPED_S = 10.0
"""So long a rank may be stopped before it is ended: nothing a rank does stops it, and the others wait."""
GRACE_S = 20.0
"""Time for ranks to write what they have once they are asked to end; torchrun itself gives 30."""
_LOOK_EVERY_S = 0.5


class RankProcess(NamedTuple):
    """A rank of this machine and its process."""

    rank: int
    pid: int
    is_stopped: bool
    """By SIGSTOP or SIGTSTP; a process that a debugger holds is not."""


class Watch:
    """What is known of the ranks, and what follows for them; `look` is called again and again."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.stopped_ranks: set[int] = set()
        """Ranks that were ended because they were stopped."""
        self._tell = tell
        self._stopped_since_s: dict[int, float] = {}
        self._asked_at_s: dict[int, float] = {}
        self._job_ends = threading.Event()

    def job_ends(self) -> None:
        """A rank failed or the launcher was asked to end: torchrun asks the other ranks to end, too."""
        self._job_ends.set()

    def look(self, ranks: Sequence[RankProcess], now_s: float) -> list[tuple[int, signal.Signals]]:
        """The signals that processes are to get now, in this order."""
        found: list[tuple[int, signal.Signals]] = []
        for rank, pid, is_stopped in ranks:
            if is_stopped and self._is_to_end(rank, now_s):
                self._tell(
                    f"rank {rank} is stopped (SIGSTOP): it is woken and asked to end, so that all ranks can write"
                )
                self.stopped_ranks.add(rank)
                self._asked_at_s.setdefault(rank, now_s)
                found += [(pid, signal.SIGTERM), (pid, signal.SIGCONT)]
            elif not is_stopped:
                self._stopped_since_s.pop(rank, None)
            if self._job_ends.is_set():
                self._asked_at_s.setdefault(rank, now_s)
            if now_s - self._asked_at_s.get(rank, now_s) >= GRACE_S:
                found.append((pid, signal.SIGKILL))
        return found

    def _is_to_end(self, rank: int, now_s: float) -> bool:
        since_s = self._stopped_since_s.setdefault(rank, now_s)
        return rank not in self.stopped_ranks and (self._job_ends.is_set() or now_s - since_s >= STOPPED_S)


@contextmanager
def watching(torchrun_pid: int, tell: Callable[[str], None]) -> Iterator[Watch]:
    """Watch the ranks of a torchrun until the block ends; then none of them is left."""
    watch, over = Watch(tell), threading.Event()

    def run() -> None:
        while not over.wait(_LOOK_EVERY_S):
            _send(watch.look(ranks_of(torchrun_pid), time.monotonic()))

    known = threading.Thread(target=run, name="launcher watch", daemon=True)
    known.start()
    try:
        yield watch
    finally:
        over.set()
        known.join()


def ranks_of(torchrun_pid: int) -> list[RankProcess]:
    """The ranks that a torchrun of this machine started and that have not ended, by rank."""
    found: list[RankProcess] = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) != torchrun_pid or state in "ZX":
                continue
            words = (path / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        rank = next((word.removeprefix(b"RANK=") for word in words if word.startswith(b"RANK=")), b"")
        if rank.isdigit():
            found.append(RankProcess(int(rank), int(path.name), state == "T"))
    return sorted(found)


def kill(ranks: Sequence[RankProcess]) -> None:
    """End these at once, also stopped ones."""
    _send([(each.pid, signal.SIGKILL) for each in ranks])


def _send(signals: Sequence[tuple[int, signal.Signals]]) -> None:
    for pid, number in signals:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
