"""Sources read by the workers of a Dask cluster: whatever starts them (Slurm, Kubernetes, ssh), this only asks them.

Dask is the optional extra `dask`. Workers read sources and write parts below the capture, so both have to lie where every
worker sees them. A task whose worker is lost runs again on another one; Dask gives it up after its `allowed-failures`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, cast

from traceanalyzer.errors import InputError, UsageError
from traceanalyzer.traces.capture.workers import Results, Task, WorkerDiedError, over
from traceanalyzer.version import __version__

_CONNECT_SECONDS = 10
_AHEAD = 2
"""Items with the cluster per thread of it: the next one is there when one is done."""


def each_on_cluster(address: str, folder: Path, task: Task, items: Sequence[Any]) -> Results:
    """Run `task(item)` on the cluster whose scheduler is at `address`; yield (item, result or exception) as they finish.

    `folder` is what the workers have to see. Raises `UsageError` if Dask is missing or the workers cannot be used,
    `InputError` where the scheduler does not answer or goes away.
    """
    with _client(address) as client:
        try:
            threads = _checked(address, folder, client)
            executor = client.get_executor(pure=False)
            for item, result in over(executor, task, items, at_once=_AHEAD * threads):
                yield item, WorkerDiedError(str(result)[:200]) if type(result).__name__ == "KilledWorker" else result
        except (CancelledError, OSError) as error:
            raise _gone(address, error) from None


def _gone(address: str, error: BaseException) -> InputError:
    reason = str(error)[:160] or type(error).__name__
    return InputError(
        f"{address}: the cluster does not answer: {reason}", "see that its scheduler runs, then run it again"
    )


def _client(address: str) -> Any:  # noqa: ANN401 - Dask is optional, so no type of it stands here
    try:
        from distributed import Client  # noqa: PLC0415 # pyright: ignore - optional, and slow to import
    except ImportError:
        raise UsageError(f"{address}: a cluster needs Dask", "pip install 'traceanalyzer-llm[dask]'") from None
    try:
        return cast("Any", Client(address, timeout=_CONNECT_SECONDS, set_as_default=False))
    except (OSError, ValueError) as error:
        raise _gone(address, error) from None


def _checked(address: str, folder: Path, client: Any) -> int:  # noqa: ANN401 - as above
    """The number of the workers' threads. Raises `UsageError` if they cannot do the work."""
    client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
    try:
        replies: dict[str, tuple[str, bool]] = client.run(_about, str(folder))
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{address}: a worker lacks {error.name}", "install the same version on all machines"
        ) from None
    others = sorted({version for version, _ in replies.values()} - {__version__})
    if others:
        raise UsageError(
            f"{address}: workers run version {', '.join(others)}, this is {__version__}",
            "install the same version on all machines",
        )
    blind = [worker for worker, (_, sees) in replies.items() if not sees]
    if blind:
        raise UsageError(
            f"{address}: {len(blind)} of {len(replies)} workers do not see {folder}",
            "choose an --out on a file system that all machines share",
        )
    return max(1, sum(client.nthreads().values()))


def _about(folder: str) -> tuple[str, bool]:
    """What one worker runs, and whether it sees the folder."""
    return __version__, os.access(folder, os.W_OK)
