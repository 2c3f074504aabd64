"""D and S: folders, ranks, clocks, and content that means harm."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Callable
from pathlib import Path

from catalogue.base import BASE_NS, NUM_COMPLETE, Case, Trace, changed, each_complete, text, trace, write

_ALL = NUM_COMPLETE
_QUARTER_US = 7_889_238_000_000
_INJECTION = "</script><script>alert(1)</script>$$\\frac{}{}$$"
_ESCAPES = "\x1b]52;c;cHduZWQ=\x07\x1b[2J\x9b31m"


def _ranks(*numbers: int, world: int, name: str = "rank{}.json") -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        for rank in numbers:
            write(folder, text(trace(rank, world)), name.format(rank))
        return folder

    return build


def _and(*steps: Callable[[Path], object]) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        for step in steps:
            step(folder)
        return folder

    return build


def _shifted(document: Trace, us: float) -> Trace:
    for event in document["traceEvents"]:
        event["ts"] = round(event["ts"] + us, 3)
    return document


def _anonymous(rank: int = 0) -> Trace:
    document = trace(rank)
    del document["distributedInfo"]
    return document


def _claims(rank: object) -> Callable[[Path], Path]:
    return changed(lambda d: d["distributedInfo"].update(rank=rank, world_size=4))


def _mixed_jobs(folder: Path) -> Path:
    for rank in range(2):
        write(folder, text(trace(rank, 2)), f"a{rank}.json")
    for rank in range(4):
        write(folder, text(_shifted(trace(rank, 4), 9e9)), f"b{rank}.json")
    return folder


def _cycles(folder: Path) -> Path:
    for rank in range(2):
        for cycle in range(2):
            write(folder, text(_shifted(trace(rank, 2), 1e6 * cycle)), f"host_{rank}.{1000 + cycle}.pt.trace.json")
    return folder


def _stray(folder: Path) -> Path:
    for name in (".DS_Store", "README.md", "rank0.json.tmp", "notes.jsonl", ".hidden.json"):
        write(folder, "x", name)
    write(folder, "{}", "empty/config.json")
    (folder / "nothing").mkdir()
    return _ranks(0, 1, world=2)(folder)


def _one_cut(folder: Path) -> Path:
    _ranks(0, 1, 2, world=4)(folder)
    write(folder, text(trace(3, 4))[:4000], "rank3.json")
    return folder


def _garbage(name: str) -> Callable[[Path], Path]:
    return lambda folder: write(folder, random.Random(3).randbytes(3000), name)  # noqa: S311 - noise, no secret


def _step_of_clock(d: Trace) -> None:
    for event in d["traceEvents"]:
        event["ts"] += 40_000 if event["ts"] > 102_000 else 0


def _quarter(folder: Path) -> Path:
    write(folder, text(trace(0, 2)), "rank0.json")
    later = _shifted(trace(1, 2), -0.0)
    later["baseTimeNanoseconds"] = BASE_NS - 7_889_238 * 10**9
    write(folder, text(_shifted(later, _QUARTER_US)), "rank1.json")
    return folder


def _links(folder: Path) -> Path:
    write(folder, text(trace()), "rank0.json")
    (folder / "loop").symlink_to(folder)
    (folder / "rank1.json").symlink_to(folder / "nowhere.json")
    (folder / "rank2.json").symlink_to("/etc/passwd")
    return folder


def _pipe(folder: Path) -> Path:
    write(folder, text(trace()), "rank0.json")
    os.mkfifo(folder / "rank1.json")
    return folder


def _secret(folder: Path) -> Path:
    write(folder, text(trace()), "rank0.json")
    write(folder, text(trace(1)), "rank1.json").chmod(0)
    return folder


def _names(folder: Path) -> Path:
    hostile = [
        "-rf.json",
        "a b.json",
        "'; DROP TABLE.json",
        "$(touch x).json",
        "<img src=x>.json",
        "\x1b[31m.json",
        "ü\u202e.json",
    ]
    for rank, name in enumerate(hostile):
        write(folder, text(trace(rank, 7)), name)
    return folder


def _directory(folder: Path) -> Path:
    (folder / "rank1.json").mkdir()
    return _ranks(0, world=1)(folder)


def _codecs(folder: Path) -> Path:
    write(folder, text(trace()), "rank0.json")
    write(folder, gzip.compress(text(trace()).encode()), "rank0.json.gz")
    return folder


def _survivors(folder: Path) -> Path:
    for rank, keep in ((0, 50), (2, 40), (3, 60)):
        document = trace(rank, 4)
        document["traceEvents"] = document["traceEvents"][:keep]
        write(folder, text(document), f"rank{rank}.json")
    return folder


def _tree(pattern: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        for rank in range(2):
            write(folder, gzip.compress(text(_anonymous(rank)).encode()), pattern.format(rank))
        return folder

    return build


def _all_named(name: str) -> Callable[[Path], Path]:
    return changed(lambda d: each_complete(d, lambda e: e.update(name=f"{name}{e['name']}"), every=2))


CASES = [
    Case("C04", "control: two ranks", _ranks(0, 1, world=2), "clean", 2 * _ALL, ranks=(0, 1)),
    Case("C05", "torchtitan's tree", _tree("profiling/traces/iteration_10/rank{}_trace.json.gz"), "clean", 2 * _ALL, ranks=(0, 1)),
    Case("C06", "Megatron-LM's tree", _tree("torch_profile/rank-{}.json.gz"), "clean", 2 * _ALL, ranks=(0, 1)),
    Case("C07", "a reference run's tree", _tree("traces/rank{:05d}.json.gz"), "clean", 2 * _ALL, ranks=(0, 1)),
    Case("D01", "two files claim rank 0", _and(_ranks(0, world=2), lambda f: write(f, text(_shifted(trace(0, 2), 5)), "other.json")), "error"),
    Case("D02", "ranks 0, 1 and 3 of 4", _ranks(0, 1, 3, world=4), "load", 3 * _ALL, ("rank.missing",), (0, 1, 3)),
    Case("D03", "rank -1", _claims(-1), "load", _ALL, ("rank.invalid",)),
    Case("D04", "ranks only in file names", _and(*(lambda f, r=r: write(f, text(_anonymous(r)), f"trace_rank{r}.json") for r in range(3))),
         "clean", 3 * _ALL, ranks=(0, 1, 2)),
    Case("D04b", "no rank anywhere, several files", _and(*(lambda f, n=n: write(f, text(_anonymous(n)), f"host_{n}77.json") for n in range(2))), "error"),
    Case("D05", "two jobs of other sizes", _mixed_jobs, "error"),
    Case("D06", "two cycles per rank", _cycles, "clean", 4 * _ALL, ranks=(0, 1)),
    Case("D07", "a coordinator's trace beside the ranks'", _and(_ranks(0, 1, world=2), lambda f: write(f, text(_shifted(_anonymous(), 77)), "async_llm.json")),
         "load", 2 * _ALL, ("rank.unknown",), (0, 1)),
    Case("D08", "stray files", _stray, "clean", 2 * _ALL, ranks=(0, 1)),
    Case("D09", "one of four ranks truncated", _one_cut, "load", 3 * _ALL, ("json.truncated",), (0, 1, 2, 3)),
    Case("D10", "one of three ranks is garbage", _and(_ranks(0, 2, world=3), _garbage("rank1.json")), "load", 2 * _ALL, ("file.unusable",), (0, 2)),
    Case("D11", "every rank is garbage", _and(_garbage("rank0.json"), _garbage("rank1.json.gz")), "error"),
    Case("D12", "one clock 250 ms ahead", _and(_ranks(0, world=2), lambda f: write(f, text(_shifted(trace(1, 2), 250_000)), "rank1.json")), "clean", 2 * _ALL),
    Case("D12b", "a step of 40 ms inside a trace", changed(_step_of_clock), "clean"),
    Case("D13", "base times a quarter apart", _quarter, "clean", 2 * _ALL, ranks=(0, 1)),
    Case("D14a", "rank '1'", _claims("1"), "load", ranks=(1,)),
    Case("D14b", "rank 1.0", _claims(1.0), "load", ranks=(1,)),
    Case("D14c", "rank true", _claims(rank=True), "load", _ALL, ("rank.invalid",)),
    Case("D14d", "rank [1]", _claims([1]), "load", _ALL, ("rank.invalid",)),
    Case("D14e", "rank 99 of 4", _claims(99), "load", _ALL, ("rank.invalid",)),
    Case("D14f", "rank '../../x'", _claims("../../x"), "load", _ALL, ("rank.invalid",)),
    Case("D15", "links in a loop, to nowhere, to a system file", _links, "load", _ALL, ("folder.not_regular",), (0,)),
    Case("D16", "a pipe named rank1.json", _pipe, "load", _ALL, ("folder.not_regular",), (0,)),
    Case("D17", "a folder named rank1.json", _directory, "clean", ranks=(0,)),
    Case("D18", "a file that cannot be read for lack of permission", _secret, "either"),
    Case("D19", "hostile file names", _names, "clean", 7 * _ALL, ranks=tuple(range(7))),
    Case("D20", "name and content tell different ranks", _and(_ranks(0, world=2), lambda f: write(f, text(trace(1, 2)), "rank3.json")), "load", 2 * _ALL,
         ("rank.name_differs",), (0, 1)),
    Case("D22", "the same trace plain and compressed", _codecs, "load", _ALL, ("file.identical",), (0,)),
    Case("D23", "an empty folder", lambda f: f, "error"),
    Case("D24", "a path that does not exist", lambda f: f / "nowhere", "error"),
    Case("D25", "64 ranks", _ranks(*range(64), world=64), "clean", 64 * _ALL, ranks=tuple(range(64))),
    Case("D26", "survivors of a job in which rank 1 died", _survivors, "load", 120, ("rank.missing",), (0, 2, 3)),
    Case("S01", "HTML, script and TeX in names", _all_named(_INJECTION), "clean"),
    Case("S02", "spreadsheet formulas in names", _all_named("=HYPERLINK(1)"), "clean"),
    Case("S03", "terminal escapes in names and metadata",
         changed(lambda d: (d.update(host_name=_ESCAPES), each_complete(d, lambda e: e.update(name=_ESCAPES, cat=_ESCAPES), every=5))), "load", _ALL,
         ("event.unknown_category",)),
    Case("S04", "path traversal in traceName and groups", changed(lambda d: (d.update(traceName="../../canary"), d["distributedInfo"].update(backend="../x"))), "clean"),
    Case("S09", "SQL in names", _all_named("'; DROP TABLE events; --"), "clean"),
    Case("S10", "regular-expression bait", _all_named("(" * 50_000), "clean"),
    Case("S11", "__proto__ as an argument", changed(lambda d: each_complete(d, lambda e: e["args"].update({"__proto__": {"x": 1}, "constructor": 1}))), "clean"),
    Case("S12", "bidirectional and zero-width characters", _all_named("\u202e\u200b\u2066"), "clean"),
    Case("S13", "secrets in metadata", changed(lambda d: d.update({"AWS_SECRET_ACCESS_KEY": "hunter2"})), "clean"),
]  # fmt: skip
"""Every case of these kinds on trace files and folders."""
