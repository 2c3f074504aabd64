"""Whether a run that was recorded is over, still runs, or stopped: from what its ranks last said of themselves."""

from __future__ import annotations

import dataclasses
import re
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import sysconf
from pathlib import Path

import msgspec

from traceanalyzer.job import HEARTBEAT_S, Job, RankStatus
from traceanalyzer.regular_file import read_regular, regular_below
from traceanalyzer.review.words import ranks_text

STATUS_FILES = "status/*.json"
_PATIENCE_NS = int(4 * HEARTBEAT_S * 1e9)
"""Time without a heartbeat after which a process that cannot be asked is taken for gone."""
_TIMEOUT = re.compile(r"(?i)timed? ?out")
_MAX_BYTES = 1 << 20
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """Who looks at the statuses: ranks of its own host can be asked, of others only the heartbeat tells."""

    now_ns: int
    host: str
    boot: str

    @classmethod
    def here(cls) -> Observer:
        """This process, now."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            boot = ""
        return cls(now_ns=time.time_ns(), host=socket.gethostname(), boot=boot)


def read_statuses(folders: Iterable[Path], job_id: str | None = None) -> list[RankStatus]:
    """What ranks said last, by rank, of the run `job_id` or of any; files that say nothing are left out."""
    found: dict[int, RankStatus] = {}
    for folder in folders:
        for path, readable in regular_below(folder, STATUS_FILES):
            status = _status(path) if readable else None
            if status is not None and job_id in (None, "", status.job_id):
                found[status.record.rank] = status
    return [found[rank] for rank in sorted(found)]


def _status(path: Path) -> RankStatus | None:
    try:
        return msgspec.json.decode(read_regular(path, _MAX_BYTES), type=RankStatus)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None


def with_ranks(job: Job, statuses: Sequence[RankStatus]) -> Job:
    """`job` with the ranks it lacks: those that could not tell rank 0 of themselves."""
    known = {record.rank for record in job.ranks}
    missing = [status.record for status in statuses if status.record.rank not in known]
    return dataclasses.replace(job, ranks=tuple(sorted((*job.ranks, *missing), key=lambda record: record.rank)))


def run_state(statuses: Sequence[RankStatus], seen: Observer) -> str | None:
    """In one sentence how far a run came that did not complete; None if all its ranks completed."""
    if all(status.state == "completed" for status in statuses):
        return None
    open_ended = [status for status in statuses if status.state == "running"]
    alive = [status for status in open_ended if _is_alive(status, seen)]
    frozen = [status for status in alive if seen.now_ns - status.beat_ns > _PATIENCE_NS]
    gone = [status for status in open_ended if status not in alive]
    stopped = [status for status in statuses if status.state == "stopped"]
    parts = [f"{_named(gone)} ended without a word (killed, or the host was lost){_at(gone)}"] if gone else []
    parts += [f"{_named(frozen)} gives no sign but is there (stopped, or swapped out){_at(frozen)}"] if frozen else []
    parts += [f"{_named([each])}: {each.reason or 'the loop did not come to its end'}" for each in stopped[:_SHOWN]]
    parts += [f"{len(stopped) - _SHOWN} more ranks stopped"] if len(stopped) > _SHOWN else []
    hung = [each for each in hung_ranks(statuses) if each not in gone and each not in frozen]
    parts = [f"{_named(hung)} did not communicate while others waited{_at(hung)}"] * bool(hung) + parts
    details = f": {'; '.join(parts)}" if parts else ""
    if len(alive) > len(frozen):
        return f"The run is still running, {_step(alive)}{details}."
    return f"The run stopped {_end(statuses)}{details}."


def hung_ranks(statuses: Sequence[RankStatus]) -> list[RankStatus]:
    """Ranks at fault where others waited too long: those that were outside of communication, or froze, at last.

    By each rank's calls at its last heartbeat. None if no rank gave up waiting, or where all of them waited.
    """
    if not any(_TIMEOUT.search(status.reason) for status in statuses):
        return []
    latest_ns = max(status.beat_ns for status in statuses)
    frozen = [s for s in statuses if s.state == "running" and latest_ns - s.beat_ns > _PATIENCE_NS]
    outside = [s for s in statuses if s.calls and "torch.distributed" not in s.calls and s not in frozen]
    found = frozen or outside
    return found if len(found) < len(statuses) else []


def _named(statuses: Sequence[RankStatus]) -> str:
    return ranks_text([status.record.rank for status in statuses])


def _at(statuses: Sequence[RankStatus]) -> str:
    """Where the first of some ranks was at its last heartbeat."""
    calls = next((status.calls for status in statuses if status.calls), "")
    return f", last in {calls.split(' < ')[0]}" if calls else ""


def _step(statuses: Sequence[RankStatus]) -> str:
    last = min(-1 if status.last_step is None else status.last_step for status in statuses)
    return f"in step {last + 1}" if last >= 0 else "before its first step ended"


def _end(statuses: Sequence[RankStatus]) -> str:
    """Where the run stopped: by ranks that wrote their end. Of killed ones only the last heartbeat is known."""
    unfinished = [status for status in statuses if status.state != "completed"]
    wrote = [status for status in unfinished if status.state == "stopped"]
    return _step(wrote) if wrote else f"{_step(unfinished)}, or up to {HEARTBEAT_S:g} s later"


def _is_alive(status: RankStatus, seen: Observer) -> bool:
    """Whether the process is there; of another host, whether its heartbeat is recent."""
    same_host = bool(seen.boot) and (status.record.boot, status.record.host) == (seen.boot, seen.host)
    if not same_host:
        return seen.now_ns - status.beat_ns <= _PATIENCE_NS
    try:
        fields = Path(f"/proc/{status.record.pid}/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        began_ns = time.time_ns() - int((uptime - int(fields[19]) / sysconf("SC_CLK_TCK")) * 1e9)
    except (OSError, ValueError, IndexError):
        return False
    return fields[0] not in {"Z", "X"} and abs(began_ns - status.started_ns) < 5 * 10**9
