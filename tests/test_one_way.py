"""One way in, one way out, one way to the terminal: the code holds no other."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
READS = {"read_bytes", "read_text"}
OPENS = {"open"}
WRITES = {"write_bytes", "write_text", "touch"}
ALLOWED = {
    # where the one way is, and where files are the system's or of this package
    "traceanalyzer/regular_file.py": READS | OPENS,
    "traceanalyzer/output.py": READS | OPENS | WRITES,
    "traceanalyzer/traces/capture/lock.py": OPENS,
    "traceanalyzer/traces/input/remote.py": OPENS,  # files of object stores
    "traceanalyzer/traces/capture/workers.py": OPENS,  # /proc/meminfo
    "traceanalyzer/cli/options/budget.py": READS,  # /proc and the control group
    "traceanalyzer/traces/run_status.py": READS,  # /proc
    "traceanalyzer/traces/capture/names/public_words.py": READS,  # files of this package
    "traceanalyzer/traces/capture/remote_folder.py": READS | WRITES,  # a store's, and a temporary folder of its own
    "traceanalyzer/cli/manners/machine.py": READS | OPENS,  # what the system says of itself
    "traceanalyzer/traces/decoding/compiled/events.py": READS,  # our own source, for the cache's key
    "reports/browser.py": READS | WRITES,  # a temporary folder of its own
    "traceanalyzer/traces/input/discovery.py": OPENS,  # members of an archive, and remote files
}
RESOURCES = ("resources.", "_ASSETS", "files(")
"""What is read by these is a file of the package."""


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


class Call(NamedTuple):
    """A call in the source: the name that is called, and where."""

    name: str
    place: str


@cache
def all_calls(path: Path) -> tuple[Call, ...]:
    """Every call of a named function or method in a file."""
    lines = path.read_text().splitlines()
    found = []
    for node in ast.walk(ast.parse("\n".join(lines))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "read_text" and isinstance(node.func, ast.Name):
            continue  # ours, of `regular_file`
        found.append(Call(name, f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node.func)}"))
    return tuple(found)


def calls(path: Path, names: set[str]) -> list[Call]:
    return [call for call in all_calls(path) if call.name in names]


def is_ours(place: str) -> bool:
    return any(word in place for word in RESOURCES) or "gzip.open" in place or "tarfile.open" in place


def test_files_are_read_and_written_in_one_place() -> None:
    others = []
    for path in sources("traceanalyzer", "reports"):
        allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), set())
        found = calls(path, (READS | OPENS | WRITES) - allowed)
        others += [place for name, place in found if not is_ours(place)]
    assert others == []


def test_the_terminal_is_written_to_in_one_place() -> None:
    places = [
        place
        for path in sources("traceanalyzer")
        for _, place in calls(path, {"echo", "secho", "print"})
        if "click" in place or "print" in place
    ]
    assert [place.partition(":")[0] for place in places] == ["traceanalyzer/cli/screen.py"], places


@pytest.mark.parametrize("name", ["eval", "exec", "system", "popen", "Unpickler", "load_module", "unsafe_load"])
def test_nothing_runs_what_it_reads(name: str) -> None:
    places = [place for path in sources("traceanalyzer", "reports") for _, place in calls(path, {name})]
    ours = ("list.eval", "platform.system", "arr.eval")  # of Polars, on expressions; and the name of the system
    assert [place for place in places if not place.endswith(ours)] == []


def test_pickles_are_loaded_by_the_allow_list_alone() -> None:
    users = {path.relative_to(ROOT).as_posix() for path in sources("traceanalyzer") if "pickle" in _imports(path)}
    assert users <= {"traceanalyzer/traces/nccl/plain_pickle.py", "traceanalyzer/traces/nccl/flight_recorder.py"}
    for path in sources("traceanalyzer"):
        assert not [place for _, place in calls(path, {"loads"}) if "pickle" in place], path


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}


def test_text_becomes_a_whole_number_only_where_that_may_fail() -> None:
    """`text.cast(Int)` is strict, and names hold any number of digits."""
    strict = []
    for path in sources("traceanalyzer"):
        text = path.read_text()
        if ".cast(" not in text or ".str." not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "cast":
                source = ast.unparse(node)
                of_text = any(
                    word in source for word in (".str.extract(", ".str.json_path_match(", ".str.extract_groups(")
                )
                if of_text and "pl.Int" in source and "strict=False" not in source:
                    strict.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert strict == []
