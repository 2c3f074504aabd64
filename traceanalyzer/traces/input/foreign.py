"""Files that are read and are not traces: what they are, and the command that gives one.

Recognised by their name or first bytes. Sources: the file formats as their tools write and document them (nsys, ncu, rocprofv3,
Perfetto's traceconv, JAX, TensorBoard, Git LFS, torch).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from traceanalyzer.regular_file import open_regular

_HEAD = 1 << 16
_MOST = 2000


@dataclass(frozen=True, slots=True)
class Foreign:
    """One kind of file."""

    what: str
    remedy: str
    """What to do; `{file}` and `{stem}` are the file's name with and without its ending."""
    name: str = r"(?!)"
    """Pattern of names, where the name is enough."""
    marks: tuple[tuple[bytes, ...], ...] = ()
    """First bytes hold all of one of these."""
    is_loss: bool = False
    """Whether a trace would stand here."""


_PROFILE = "torch.profiler writes what is read: prof.export_chrome_trace('rank0.json')"
KNOWN = (
    Foreign(
        "a Git LFS pointer: the file itself was not fetched", "git lfs pull --include '*{file}'",
        marks=((b"version https://git-lfs.github.com/spec",),), is_loss=True,
    ),
    Foreign(
        "a report of Nsight Systems, which only nsys can read", "nsys export --type sqlite -o {stem}.sqlite {file}",
        name=r"\.(nsys-rep|qdrep|qdstrm)$",
    ),
    Foreign(
        "a report of Nsight Compute: counters of single kernels and no timeline",
        "nsys profile --trace=cuda,nvtx -o rank0 python train.py, then nsys export --type sqlite rank0.nsys-rep", name=r"\.ncu-rep$",
    ),
    Foreign(
        "an execution trace (Chakra): operators and their order, without the device's times",
        "give the Kineto trace that was recorded beside it (prof.export_chrome_trace('rank0.json'))",
        name=r"\.et$", marks=((b'"schema"', b'"nodes"'), (b'"nodes"', b'"ctrl_deps"')),
    ),
    Foreign(
        "output of rocprofv3, which records neither steps nor what was communicated",
        f"profile with torch.profiler, which records the same kernels on ROCm: {_PROFILE.partition(': ')[2]}",
        name=r"\.rocpd$|_results\.db$", marks=((b"rocprofiler-sdk",), (b"Kernel_Name", b"Correlation_Id"), (b"rocpd_",)),
    ),
    Foreign(
        "an XPlane of the profiler of JAX or TensorFlow",
        "trace with jax.profiler.trace(folder, create_perfetto_trace=True) and give perfetto_trace.json.gz", name=r"\.xplane\.pb$",
    ),
    Foreign(
        "a trace of Perfetto in its binary form", "traceconv json {file} {stem}.json (traceconv comes with Perfetto)",
        name=r"\.(pftrace|perfetto-trace|perfetto)$",
    ),
    Foreign(
        "a snapshot of torch.cuda.memory: allocations and no kernels",
        f"python -m torch.cuda._memory_viz trace_plot {{file}} -o memory.html draws it; for times {_PROFILE}",
        marks=((b"device_traces", b"segments"), (b"device_traces",)),
    ),
    Foreign("torch.profiler's memory timeline: sizes by category and no kernels", _PROFILE, name=r"memory_timeline\.(json|html|raw)"),
    Foreign(
        "TensorBoard's events: scalars and no timeline",
        "profile with on_trace_ready=torch.profiler.tensorboard_trace_handler(folder) and give its *.pt.trace.json", name=r"tfevents",
    ),
    Foreign("a table of sums (key_averages): its events are gone", _PROFILE, marks=((b"Self CPU %",), (b"# of Calls", b"Self CPU"))),
    Foreign(
        "NCCL's debug log: calls without times",
        "give the flight recorder's dumps (TORCH_NCCL_DUMP_ON_TIMEOUT=1) or NCCL Inspector's records (NCCL_INSPECTOR_ENABLE=1)",
        marks=((b"NCCL INFO",),),
    ),
    Foreign("a profile of Python code, without devices", _PROFILE, name=r"\.(pstats|prof|speedscope)$", marks=((b"speedscope",),)),
    Foreign("a checkpoint or tensors, not a trace", "give the traces of the run", name=r"\.(pt|pth|safetensors|ckpt|npy|npz)$"),
    Foreign("spans of OpenTelemetry, not a profiler's trace", _PROFILE, marks=((b'"resourceSpans"',),)),
)  # fmt: skip


def foreign(name: str, head: bytes) -> Foreign | None:
    """What a file is by its name or its first bytes; None if neither is known."""
    first = head[:_HEAD]
    if b'"traceEvents"' in first:
        return None
    by_content = (kind for kind in KNOWN if any(all(mark in first for mark in marks) for marks in kind.marks))
    by_name = (kind for kind in KNOWN if re.search(kind.name, name, re.IGNORECASE))
    return next(by_content, None) or next(by_name, None)


def remedy_of(kind: Foreign, file: str) -> str:
    """The remedy for `file`, written out."""
    path = Path(file)
    return kind.remedy.replace("{file}", path.name).replace("{stem}", path.name.partition(".")[0] or path.stem)


def foreign_files(root: Path) -> Iterable[tuple[Path, Foreign]]:
    """Known foreign files below a folder, in the order of their names; of many files only the first are looked at."""
    seen = 0
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            seen += 1
            if seen > _MOST:
                return
            file = Path(folder) / name
            kind = foreign(name, first_bytes(file))
            if kind is not None:
                yield file, kind


def first_bytes(file: Path) -> bytes:
    """The beginning of a regular file; nothing where it cannot be read."""
    try:
        with open_regular(file) as stream:
            return stream.read(_HEAD)
    except (OSError, ValueError):
        return b""
