"""Bytes that lead to new branches of the readers, by Atheris: `pip install atheris`, then

PYTHONPATH=tests/support python -m fuzzing.guided FOLDER -max_total_time=60

FOLDER keeps what was found to reach new branches; it starts with the files of the seeds. The first byte of an input chooses
the name that the rest is read under, and so the reader. Other arguments are those of libFuzzer.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import atheris  # type: ignore[import-not-found]  # an extra of this program alone

with atheris.instrument_imports(include=["traceanalyzer.traces", "traceanalyzer.job", "traceanalyzer.regular_file"]):
    from fuzzing.targets import readers

from fuzzing.seeds import seeds

NAMES = ("rank0.json", "rank0.json.gz", "nccl_trace_rank_0", "node-pid7.log", "export.sqlite", "steps/rank0.jsonl",
         "routing/rank0.jsonl", "run.json", "ops.csv", "traces.zip")  # fmt: skip
_SCRATCH = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))  # noqa: S108


def begin(folder: Path) -> None:
    """Give the seeds' files to the corpus, each under the name that is nearest to its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds(_SCRATCH / "seeds"):
        for name, content in seed.files.items():
            at = next((n for n, each in enumerate(NAMES) if Path(each).suffix == Path(name).suffix), 2)
            (folder / f"{seed.name}-{name.replace('/', '-')}").write_bytes(bytes([at]) + content)


def one_input(data: bytes) -> None:
    """Read one input; nothing but an error of ours may come of it."""
    if not data:
        return
    folder = _SCRATCH / "input"
    path = folder / NAMES[data[0] % len(NAMES)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data[1:])
    try:
        readers(folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    begin(Path(sys.argv[1]))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
