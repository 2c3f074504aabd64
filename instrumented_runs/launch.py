"""Launches a reference job with torchrun on this machine, watches it, and says what became of it."""

from __future__ import annotations

import dataclasses
import fcntl
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from instrumented_runs.log_causes import cause_in, last_error
from instrumented_runs.nodes import Nodes
from instrumented_runs.recorder.nccl_inspector import DUMP_FOLDER, inspector_environment
from instrumented_runs.recorder.start.environment import srun_tasks
from instrumented_runs.settings import FAILURE_FILE, ORDER_FILE, PROGRESS, Failure, RunSettings, encode
from traceanalyzer.errors import JobError, OutputError, UsageError
from traceanalyzer.job import RUN_FILE, STEPS_FILE, Job, StepRecord
from traceanalyzer.output import write_atomically

LOG_FILE = "log.txt"
"""In the run folder: everything the ranks and torchrun printed."""
OWN_FILES = (RUN_FILE, LOG_FILE, ORDER_FILE, "traces", "steps", "routing", "status", "failures", "flight", DUMP_FOLDER)
"""What a run writes, and a later run into the same folder replaces."""
LOCK_FILE = ".launcher.lock"
"""In the run folder while a launcher writes into it."""
GRACE_S = 20
"""Time for ranks to write what they have once they are asked to end."""
ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    # Large tensors get pages of their own and give them back. Otherwise what the profiler allocates between them
    # fragments the heap, and the steps of the dense job grow by a third while they are recorded (glibc 2.36).
    "THP_MEM_ALLOC_ENABLE": "1",
    "MALLOC_MMAP_THRESHOLD_": "1048576",
}
"""What ranks run with unless the user's environment says otherwise."""

_DEATH = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")


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
        with _interrupted_by_sigterm():
            status, deaths = _run(command, folder, progress)
    except BaseException:  # an interrupt too leaves a run that did not complete
        _mark_failed(folder)
        raise
    if status:
        _mark_failed(folder)
        first = nodes.first_rank(settings.num_ranks)
        raise _failure(
            folder, status, {first + local: code for local, code in deaths.items()}, nodes, settings.num_ranks
        )
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


def _run(command: list[str], folder: Path, progress: Callable[[str], None]) -> tuple[int, dict[int, int]]:
    """Run `command`; its exit status, and the exit code of every rank that torchrun saw die first."""
    inspector = inspector_environment(folder, os.environ)
    environment = {**ENVIRONMENT, **inspector, **os.environ, "OMP_NUM_THREADS": "1"}
    deaths: dict[int, int] = {}
    with (
        (folder / LOG_FILE).open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            for line in process.stdout:
                log.write(line)
                log.flush()
                if line.startswith(PROGRESS):
                    progress(line.removeprefix(PROGRESS).rstrip())
                elif death := _DEATH.search(line):
                    deaths[int(death[2])] = int(death[1])
        finally:
            _end(process)
    return process.returncode, deaths


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Being asked to end is an interrupt, so that torchrun and its ranks are ended first."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: subprocess.Popen[str]) -> None:
    """Make sure that torchrun is gone; it ends its ranks, and a rank without torchrun ends itself."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _failure(folder: Path, status: int, deaths: dict[int, int], nodes: Nodes, num_ranks: int) -> JobError:
    """The error that names the rank at fault, its step and the reason."""
    hint = f"what the other ranks wrote is kept in {folder}; all output is in {folder / LOG_FILE}"
    notes = [
        msgspec.json.decode(p.read_bytes(), type=Failure)
        for p in sorted(folder.glob(FAILURE_FILE.replace("{rank:05d}", "*")))
    ]
    from traceanalyzer.traces.run_status import hung_ranks, read_statuses  # noqa: PLC0415 - slow, and only of failed jobs

    hung = hung_ranks(read_statuses([folder]))
    if hung:
        rank, calls = hung[0].record.rank, hung[0].calls.split(" < ")[0]
        where = f", last in {calls}" if calls else ""
        return JobError(f"rank {rank} hung {_where(folder, rank)}{where}: other ranks gave up waiting", hint)
    log = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace")
    cause = None if notes else cause_in(log, nodes, num_ranks)
    if cause is not None:
        return JobError(
            f"the job did not start: {cause.reason}", f"{cause.remedy}; all output is in {folder / LOG_FILE}"
        )
    killed = {rank: -code for rank, code in deaths.items() if code < 0 and rank not in {n.rank for n in notes}}
    if killed:
        rank, number = min(killed.items())
        reason = f"killed by signal {number} ({signal.Signals(number).name})"
    elif notes:
        first = min(notes, key=lambda note: note.at_ns)
        rank, reason = first.rank, first.reason
    elif deaths:
        rank, code = min(deaths.items())
        reason = last_error(log) or f"ended with exit status {code}"
    else:
        return JobError(f"the job failed: {last_error(log) or f'torchrun ended with status {status}'}", hint)
    return JobError(f"rank {rank} failed {_where(folder, rank)}: {reason}", hint)


def _where(folder: Path, rank: int) -> str:
    last = last_step(folder, rank)
    return "before its first step ended" if last is None else f"in step {last + 1}"


def last_step(folder: Path, rank: int) -> int | None:
    """The last step that `rank` finished, by its own record."""
    path = folder / STEPS_FILE.format(rank=rank)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return msgspec.json.decode(lines[-1], type=StepRecord).step if lines else None


def _mark_failed(folder: Path) -> None:
    """Say in `run.json` that the job failed, and how far each rank came."""
    path = folder / RUN_FILE
    if not path.exists():
        return
    job = msgspec.json.decode(path.read_bytes(), type=Job)
    ranks = tuple(dataclasses.replace(record, last_step=last_step(folder, record.rank)) for record in job.ranks)
    failed = dataclasses.replace(job, status="failed", ranks=ranks)
    write_atomically(path, msgspec.json.format(msgspec.json.encode(failed), indent=2) + b"\n")
