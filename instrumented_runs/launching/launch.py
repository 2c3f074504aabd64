"""Launches a reference job with torchrun on this machine, watches it, and says what became of it."""

from __future__ import annotations

import dataclasses
import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from instrumented_runs.launching.nodes import Nodes
from instrumented_runs.launching.torchrun import run_torchrun
from instrumented_runs.launching.what_failed import LOG_FILE, failure, last_step
from instrumented_runs.recorder.nccl_inspector import DUMP_FOLDER
from instrumented_runs.recorder.start.environment import srun_tasks
from instrumented_runs.settings import ORDER_FILE, RunSettings, encode
from traceanalyzer.errors import OutputError, UsageError
from traceanalyzer.job import RUN_FILE, Job
from traceanalyzer.output import write_atomically

OWN_FILES = (RUN_FILE, LOG_FILE, ORDER_FILE, "traces", "steps", "routing", "status", "failures", "flight", DUMP_FOLDER)
"""What a run writes, and a later run into the same folder replaces."""
LOCK_FILE = ".launcher.lock"
"""In the run folder while a launcher writes into it."""


def launch(
    kind: str,
    settings: RunSettings,
    progress: Callable[[str], None],
    files: Mapping[str, str] | None = None,
    nodes: Nodes | None = None,
) -> Path:
    """Run a job, or this node's part of it, to its end and return its folder, into which `files` (name to text) are put first.

    `progress` gets one line of text at a time. Raises `JobError` naming rank, step and reason if a rank fails,
    `UsageError` if torch is missing or the folder holds something else.
    """
    if importlib.util.find_spec("torch") is None:
        raise UsageError("running jobs needs torch, which is not installed", "pip install 'traceanalyzer-llm[runs]'")
    nodes = nodes or Nodes()
    check_one_launcher(os.environ, nodes)
    folder = Path(settings.folder).absolute()
    with claimed(folder):
        return _launched(kind, settings, progress, files or {}, nodes, folder)


def _launched(
    kind: str,
    settings: RunSettings,
    progress: Callable[[str], None],
    files: Mapping[str, str],
    nodes: Nodes,
    folder: Path,
) -> Path:
    clear(folder)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    settings = dataclasses.replace(settings, folder=str(folder), launcher_pid=os.getpid())
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *nodes.torchrun(settings.num_ranks, settings.start_timeout_s),
    ]
    command += ["--module", "instrumented_runs.worker", kind, encode(settings)]
    try:
        status, ends = run_torchrun(command, folder, progress, nodes, settings.num_ranks)
    except BaseException:  # an interrupt too leaves a run that did not complete
        _mark_failed(folder)
        raise
    if status:
        _mark_failed(folder)
        raise failure(folder, status, ends, nodes, settings.num_ranks)
    return folder


def check_one_launcher(environ: Mapping[str, str], nodes: Nodes) -> None:
    """Raise `UsageError` where srun started several launchers of a job that is to run on one node."""
    copies = srun_tasks(environ)
    if copies > 1 and nodes.count == 1:
        raise UsageError(
            f"srun started {copies} copies of this launcher, and each would start the whole job",
            "start it once (srun -n1), or one per node: srun --ntasks-per-node=1 ... --nnodes N --rdzv HOST:PORT",
        )


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other launchers out of `folder` meanwhile. Raises `UsageError` if one is in it, `OutputError`."""
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except FileExistsError:
        raise UsageError(f"{folder} is a file", "give --out a folder") from None
    except OSError as error:
        raise OutputError(f"{folder}: cannot hold a run: {error.strerror or error}", "give another --out") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"{folder}: another launcher is writing its run here", "give each run a folder of its own (--out)"
            ) from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def num_cuda_devices() -> int:
    """GPUs that a CUDA driver shows, asked without importing torch; 0 if there is no driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    listed = subprocess.run([tool, "--list-gpus"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def holds_run(folder: Path) -> bool:
    """Whether a run wrote into this folder."""
    return any((folder / name).exists() for name in (RUN_FILE, LOG_FILE))


def clear(folder: Path) -> None:
    """Make `folder`, or remove an earlier run from it. Raises `UsageError` if it holds anything but a run.

    Raises `OutputError` if the folder cannot be made or emptied.
    """
    try:
        _clear(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot hold a run: {error.strerror or error}", "give another --out") from None


def _clear(folder: Path) -> None:
    if folder.is_dir() and not holds_run(folder) and any(path.name != LOCK_FILE for path in folder.iterdir()):
        raise UsageError(f"{folder} is not empty and holds no earlier run", "give --out a new folder")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", "give --out a folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name in OWN_FILES:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _mark_failed(folder: Path) -> None:
    """Say in `run.json` that the job failed, and how far each rank came."""
    path = folder / RUN_FILE
    if not path.exists():
        return
    job = msgspec.json.decode(path.read_bytes(), type=Job)
    ranks = tuple(dataclasses.replace(record, last_step=last_step(folder, record.rank)) for record in job.ranks)
    failed = dataclasses.replace(job, status="failed", ranks=ranks)
    write_atomically(path, msgspec.json.format(msgspec.json.encode(failed), indent=2) + b"\n")
