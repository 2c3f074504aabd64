"""Fuzzing: a little under `make test`, 2,000 mutants under `make test-all`, 110,000 in the soak; nothing but our own errors may come of one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from fuzzing import campaign, mutations
from fuzzing.campaign import files_of, run, told
from fuzzing.seeds import seeds
from fuzzing.supervised import supervised
from fuzzing.targets import refused

from traceanalyzer.errors import InputError


@pytest.mark.parametrize(
    ("target", "numbers"),
    [
        ("readers", range(39)),
        ("whole", range(13)),
        pytest.param("readers", range(1000, 3000), marks=pytest.mark.wide),
        pytest.param("whole", range(1000, 1200), marks=pytest.mark.wide),
        pytest.param("readers", range(100_000, 200_000), marks=pytest.mark.soak),
        pytest.param("whole", range(100_000, 109_000), marks=pytest.mark.soak),
        pytest.param("page", range(200_000, 201_000), marks=pytest.mark.soak),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)}",
)
def test_nothing_but_our_own_errors_comes_of_a_damaged_input(target: str, numbers: range) -> None:
    figures = run(target, numbers)
    print(told(figures))  # noqa: T201 - figures are what a soak is for
    assert figures.num_mutants == len(numbers)
    # A loaded host may make any mutant slow; an error counts anywhere.
    finds = {what: found for what, found in figures.finds.items() if not what.startswith("took")}
    assert not finds, told(figures)


def test_a_mutant_is_the_same_every_time(tmp_path: Path) -> None:
    corpus, again = seeds(tmp_path / "a"), seeds(tmp_path / "b")
    for number in range(26):
        assert files_of(number, corpus) == files_of(number, again)
    damaged = [files_of(number, corpus) != corpus[number % len(corpus)].files for number in range(26)]
    assert sum(damaged) > 20


def test_a_mutant_does_not_depend_on_those_before_it(tmp_path: Path) -> None:
    """Lists that were put into a document were changed in it, and so in every later mutant; 409827 held itself."""
    corpus, before = seeds(tmp_path), repr(mutations._ODD)
    for number in (*range(400), 409827):
        files_of(number, corpus)
    assert repr(mutations._ODD) == before


@pytest.mark.wide
def test_every_seed_is_sound(tmp_path: Path) -> None:
    for seed in seeds(tmp_path / "made"):
        folder = tmp_path / "sound" / seed.name
        campaign.written(seed.files, folder)
        campaign.TARGETS["whole"](folder)


def test_an_error_is_found_placed_and_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path) -> None:
        if (folder / "rank1.json").exists():
            raise ZeroDivisionError("by zero")
        raise InputError("refused", "as it should be")

    monkeypatch.setitem(campaign.TARGETS, "readers", lambda folder: refused(lambda: broken(folder)))
    figures = run("readers", range(26))
    (found,) = figures.finds.values()
    assert found
    assert "ZeroDivisionError" in told(figures)


@pytest.mark.wide
def test_a_mutant_that_ends_its_process_is_found_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "fuzzing"
    shutil.copytree(Path(campaign.__file__).parent, package)
    targets = package / "targets.py"
    ends = "if (folder / 'traces.zip').exists():\n        __import__('os').abort()\n    "
    targets.write_text(targets.read_text().replace('"""Every reader that has something to read."""\n    ', ends))
    support = Path(campaign.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (tmp_path, support, support.parents[1]))))
    figures = supervised("readers", range(13), workers=1, journal=tmp_path / "journal")
    assert (figures.num_mutants, list(figures.finds.values())) == (13, [[5]])
    assert len((tmp_path / "journal").read_text().splitlines()) == 2
