"""The walk of one run: files and rooms that `analyze PATH` meets, calls that climb to a floor above, and the way to one number.

    python benchmarks/walk.py PATH [FUNCTION]

A room is a folder. A floor is a layer of the import contract in `pyproject.toml`; a call *climbs* if the function called lies on a
floor above its caller's. The walk *climbs back* if the next file it meets lies on a floor above the file met last. The way to a
number is the chain of calls that is open when FUNCTION first runs (`measurements.pipeline.bubble.shares_by_step`: the measured
bubble).
"""

from __future__ import annotations

import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType

ROOT = Path(__file__).resolve().parents[1]
_HERE = str(ROOT) + "/"
_TOPS = ("traceanalyzer", "reports")


def floors() -> list[tuple[str, ...]]:
    """Modules of every floor, the highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    return [tuple(name.strip() for name in layer.split("|")) for layer in layers]


FLOORS = floors()


def file_of(code: CodeType) -> str | None:
    """The product's file that a function stands in, below the root; None of any other."""
    name = code.co_filename.removeprefix(_HERE)
    return name if name != code.co_filename and name.startswith(_TOPS) else None


def floor_of(file: str) -> int:
    """0 is the highest."""
    module = file.removesuffix(".py").replace("/", ".")
    found = (at for at, names in enumerate(FLOORS) if any(f"{module}.".startswith(f"{name}.") for name in names))
    return next(found, -1)


class Walk:
    """Follows calls."""

    def __init__(self, wanted: str) -> None:
        self.files: list[str] = []
        self.climbs: set[tuple[str, str]] = set()
        self.way: list[str] = []
        self.before: tuple[str, ...] = ()
        """Files that were met before the number."""
        self._wanted = wanted

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Called by the interpreter for every call and return."""
        if event != "call" or frame.f_code.co_name == "<module>":
            return
        file = file_of(frame.f_code)
        if file is None:
            return
        if file not in self.files:
            self.files.append(file)
        caller = _caller(frame)
        if caller is not None and floor_of(file) < floor_of(caller):
            self.climbs.add((caller, file))
        if not self.way and frame.f_code.co_name == self._wanted:
            self.way, self.before = _stack(frame), tuple(self.files)


def _caller(frame: FrameType) -> str | None:
    """The nearest function of the product below: libraries in between call back what they were given."""
    back = frame.f_back
    while back is not None:
        if (file := file_of(back.f_code)) is not None:
            return file
        back = back.f_back
    return None


def _stack(frame: FrameType | None) -> list[str]:
    files: list[str] = []
    while frame is not None:
        file = file_of(frame.f_code)
        if file is not None and frame.f_code.co_name != "<module>" and (not files or files[-1] != file):
            files.append(file)
        frame = frame.f_back
    return files[::-1]


def main() -> None:
    """Walk and tell."""
    from traceanalyzer.cli import main as command  # noqa: PLC0415 - its modules are met when they are run

    walk = Walk(sys.argv[2] if len(sys.argv) > 2 else "shares_by_step")
    sys.setprofile(walk)
    try:
        command(["analyze", sys.argv[1]])
    finally:
        sys.setprofile(None)
    for name, files in (("whole command", walk.files), ("until the number", walk.before)):
        rooms = {file.rpartition("/")[0] for file in files}
        back = sum(floor_of(file) < floor_of(last) for last, file in pairwise(files))
        sys.stderr.write(f"{name}: {len(files)} files in {len(rooms)} rooms, climbs back {back}\n")
    sys.stderr.write(f"calls that climb: {len(walk.climbs)}\n")
    for caller, file in sorted(walk.climbs):
        sys.stderr.write(f"climb: {caller} -> {file}\n")
    sys.stderr.write("way: " + " -> ".join(walk.way) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
