"""Every hostile input of a folder through `check`, `analyze`, `ingest` and `report`: how each command ended and what it cost.

    python benchmarks/hostile.py CASES [--job-trace TRACE]

A case is a folder. `make.sh` or `make.py` in it makes what cannot be stored: it is given the folder to write to. Settings
(`.yaml`, `.toml`) are given to `analyze TRACE --job`. Right is status 0, or status 2 or 3 with an error of at most two lines, and
in either case no traceback, no warning of Python, no lack of memory and no byte that a terminal obeys. Sizes: `--address-space` (8 GB) and
`--seconds` (120, on a host that others load) per command; the figures are CPU seconds and the peak of the memory.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_SETTINGS = (".yaml", ".toml")
_RIGHT = (0, 2, 3)


@dataclass(frozen=True)
class Run:
    """How a command ended and what it cost."""

    status: int
    """Negative: the signal that ended it."""
    said: str
    """The first line of an error, or of the output."""
    wrong: str
    cpu_s: float
    peak_mb: float


def inputs_of(case: Path, scratch: Path) -> list[Path]:
    """What to give to a command: the case itself, or what its script makes."""
    made = scratch / "made"
    scripts = [case / name for name in ("make.sh", "make.py") if (case / name).exists()]
    for script in scripts:
        made.mkdir(exist_ok=True)
        interpreter = "sh" if script.suffix == ".sh" else sys.executable
        subprocess.run([interpreter, str(script), str(made)], check=True, stdout=subprocess.DEVNULL)
    stored = [file for file in sorted(case.iterdir()) if file not in scripts]
    if any(file.suffix == ".parquet" or file.suffix in _SETTINGS for file in stored):
        return [*stored, *(sorted(made.iterdir()) if made.exists() else [])]
    if not made.exists():
        return [case]
    folders = [path for path in sorted(made.iterdir()) if path.name in ("run", "folder", "file")]
    return folders or [made]


def commands(given: Path, scratch: Path, job_trace: Path | None) -> Iterator[tuple[str, list[str]]]:
    path = os.fspath(given)
    if given.suffix in _SETTINGS:
        if job_trace is not None:
            yield "analyze", ["analyze", str(job_trace), "--job", path, "--out", str(scratch / "result")]
        return
    yield "check", ["check", path]
    yield "analyze", ["analyze", path, "--out", str(scratch / "result")]
    yield "ingest", ["ingest", path, "--out", str(scratch / "capture")]
    yield "report", ["report", path, "-o", str(scratch / "report.html")]


def ran(words: list[str], scratch: Path, *, seconds: int, address_space: int) -> Run:
    out, err, cost = scratch / "out", scratch / "err", scratch / "cost"
    measured = ["/usr/bin/time", "-f", "%U %S %M", "-o", str(cost)]
    command = [*measured, "/usr/bin/prlimit", f"--as={address_space}", sys.executable, "-m", "traceanalyzer", *words]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "POLARS_MAX_THREADS": "2"}
    with out.open("wb") as said, err.open("wb") as errors:
        process = subprocess.Popen(command, stdout=said, stderr=errors, env=environment, start_new_session=True)
        try:
            status = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return Run(-9, f"no end in {seconds} s", "no end", seconds, 0)
    text, error = out.read_text("utf-8", "surrogateescape"), err.read_text("utf-8", "surrogateescape").strip()
    user, system, peak = cost.read_text().split()[-3:]
    return Run(
        status,
        (error or text.strip() or "-").splitlines()[0],
        _wrong(status, text, error),
        float(user) + float(system),
        int(peak) / 1024,
    )


def _wrong(status: int, text: str, error: str) -> str:
    if status not in _RIGHT:
        return f"status {status}"
    if status and len(error.splitlines()) > 2:
        return f"{len(error.splitlines())} lines of error"
    if any(word in text + error for word in ("Traceback", "Warning:", "panicked")):
        return "a traceback, a warning or a panic"
    if "not enough memory" in error:
        return "not enough memory"
    return "" if all(c.isprintable() or c == "\n" for c in text + error) else "bytes that a terminal obeys"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", type=Path)
    parser.add_argument("--job-trace", type=Path, help="a trace to give settings to")
    parser.add_argument("--only", default="", help="cases whose name begins so")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--address-space", type=int, default=8 << 30)
    asked = parser.parse_args()
    judged = [
        run
        for case in sorted(path for path in asked.cases.resolve().iterdir() if path.is_dir())
        if case.name.startswith(asked.only)
        for run in runs_of(case, asked)
    ]
    num_wrong = sum(bool(run.wrong) for run in judged)
    print(f"{len(judged)} commands, {num_wrong} wrong")
    return num_wrong > 0


def runs_of(case: Path, asked: argparse.Namespace) -> Iterator[Run]:
    """Give a case to every command, and print a line of each."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for given in inputs_of(case, scratch):
            said = case.name if given == case else f"{case.name}/{given.name}"
            for name, words in commands(given, scratch, asked.job_trace):
                run = ran(words, scratch, seconds=asked.seconds, address_space=asked.address_space)
                figures = f"{run.status} | {run.cpu_s:.1f} s | {run.peak_mb:.0f} MB | {run.wrong or 'right'}"
                line = f"{said} | {name} | {figures} | {run.said[:150]}"
                print(line.encode("utf-8", "backslashreplace").decode(), flush=True)
                yield run
                for left in ("result", "capture"):
                    shutil.rmtree(scratch / left, ignore_errors=True)
                (scratch / "report.html").unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
