"""Mutants one after the other, with what came of them counted; one that ends the process itself can be told by its number."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fuzzing.mutations import mutant
from fuzzing.seeds import Seed, seeds
from fuzzing.targets import TARGETS

Chosen = Callable[[int, list[Seed]], dict[str, bytes]]
SLOW_S = 10


@dataclass
class Figures:
    """What a campaign found."""

    target: str
    num_mutants: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    slowest_s: float = 0.0
    """CPU seconds of the slowest: what others on the host do to it is no find."""
    finds: dict[str, list[int]] = field(default_factory=dict)
    """Numbers of mutants by what they raised and where."""

    @property
    def per_second(self) -> float:
        return self.num_mutants / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def joined(total: Figures, part: Figures) -> None:
    """Add a part's figures to the total."""
    total.num_mutants += part.num_mutants
    total.cpu_s += part.cpu_s
    total.slowest_s = max(total.slowest_s, part.slowest_s)
    for what, numbers in part.finds.items():
        total.finds.setdefault(what, []).extend(numbers)


def files_of(number: int, corpus: list[Seed]) -> dict[str, bytes]:
    """Mutant `number`, always the same."""
    rng = random.Random(number)  # noqa: S311 - repeatable damage, no secret
    return mutant(corpus[number % len(corpus)].files, rng)


def files_to_read(number: int, corpus: list[Seed]) -> dict[str, bytes]:
    """Mutant `number` for the readers: three times of four without the traces beside it that are sound.

    Reading those again and again costs half the time and finds nothing; together with them all seeds are read in `whole`.
    """
    sound, files = corpus[number % len(corpus)].files, files_of(number, corpus)
    if number // len(corpus) % 4 == 0:
        return files
    kept = {n: c for n, c in files.items() if sound.get(n) != c or not n.rpartition("/")[2].startswith("rank")}
    return kept if any("/" not in name for name in kept) else files


def written(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def run(target: str, numbers: range, *, budget_s: float | None = None, mark: Path | None = None) -> Figures:
    """Give mutants to a target. `mark` is a file that always holds the number of the mutant in work."""
    figures, begin, begin_cpu = Figures(target), time.monotonic(), time.process_time()
    choose = files_to_read if target == "readers" else files_of
    with tempfile.TemporaryDirectory() as scratch:
        corpus = seeds(Path(scratch) / "seeds")
        for number, folder in _mutants(numbers, corpus, choose, Path(scratch)):
            if budget_s is not None and time.monotonic() - begin > budget_s:
                break
            if mark is not None:
                mark.write_text(str(number))
            start = time.process_time()
            try:
                TARGETS[target](folder)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                figures.finds.setdefault(_place(error), []).append(number)
            took = time.process_time() - start
            figures.slowest_s = max(figures.slowest_s, took)
            if took > SLOW_S:
                figures.finds.setdefault(f"took {took:.0f} s", []).append(number)
            figures.num_mutants += 1
    figures.seconds = time.monotonic() - begin
    figures.cpu_s = time.process_time() - begin_cpu
    return figures


def _mutants(numbers: range, corpus: list[Seed], choose: Chosen, scratch: Path) -> Iterator[tuple[int, Path]]:
    for number in numbers:
        folder = scratch / "mutant"
        folder.mkdir()
        written(choose(number, corpus), folder)
        yield number, folder
        shutil.rmtree(folder)


def _place(error: BaseException) -> str:
    """The kind of error and the innermost of our own lines."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/traceanalyzer/" in f.filename or "/reports/" in f.filename]
    where = f"{'/'.join(Path(ours[-1].filename).parts[-3:])}:{ours[-1].lineno}" if ours else "here"
    return f"{type(error).__name__} {where}: {str(error).splitlines()[0][:120] if str(error) else ''}"


def told(figures: Figures) -> str:
    num_finds = sum(map(len, figures.finds.values()))
    per_cpu = figures.num_mutants / figures.cpu_s if figures.cpu_s else 0.0
    pace = (
        f"{figures.per_second:.1f} per second, {per_cpu:.1f} per CPU second, slowest {figures.slowest_s:.1f} s of CPU"
    )
    lines = [
        f"{figures.target}: {figures.num_mutants} mutants, {pace}, {num_finds} finds of {len(figures.finds)} kinds"
    ]
    lines += [f"  {len(n)} x {what} (mutants {json.dumps(n[:5])})" for what, n in sorted(figures.finds.items())]
    return "\n".join(lines)
