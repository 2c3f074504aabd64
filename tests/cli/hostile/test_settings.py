"""Settings files and options made to break a reader: texts that expand, numbers without end, pipes and devices in place of files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from catalogue.base import text, trace, write
from inputs.hostile import outcome

from traceanalyzer.cli import main

LAUGHS = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 8)}]\n" for old, new in zip("abcdefghij", "bcdefghijk", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new}\n  <<: [{','.join([f'*{old}'] * 8)}]\n" for old, new in zip("abcdefghij", "bcdefghijk", strict=True)
)
JOBS = {
    "laughs.yaml": LAUGHS,
    "merges.yaml": MERGES,
    "itself.yaml": "num_layers: &a [*a]\n",
    "itself2.yml": "a: &a {b: *a}\n",
    "base60.yaml": "hidden_size: " + ":".join(["59"] * 40_000) + "\n",
    "hex.yaml": "hidden_size: 0x" + "f" * 9000 + "\n",
    "binary.yaml": "layout: !!binary aGk=\ncompute_mode: real\n",
    "set.yaml": "layout: !!set {a}\ncompute_mode: real\n",
    "python.yaml": "layout: !!python/object/apply:os.system ['true']\ncompute_mode: real\n",
    "day.yaml": "layout: 2031-05-06\ncompute_mode: 2031-05-06\n",
    "day.toml": "layout = 2031-05-06\ncompute_mode = 12:00:00\n",
    "dots.toml": ".".join("b" * 30_000) + " = 1\n",
    "big.toml": "layout = 0x" + "f" * 9000 + "\ncompute_mode = 1\n",
    "big.json": '{"num_layers": ' + "1" * 4000 + ', "hidden_size": 8}',
    "deep.json": "[" * 100_000,
    "deep.yaml": "[" * 5000,
}


@pytest.mark.parametrize("name", JOBS)
def test_settings_of_any_kind_are_bounded(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, text(trace()))
    job = write(tmp_path, JOBS[name], name)
    status, said = outcome("analyze", path, tmp_path, capfd, "--job", str(job))
    assert status == 3
    assert name in said


@pytest.mark.parametrize(
    "make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "folder", "device"]
)
@pytest.mark.parametrize("option", ["--job", "--rank-map", "--kernel-rules", "--column-map", "--gate"])
@pytest.mark.sweep(9)
def test_an_option_reads_regular_files_only(
    option: str, make: Callable[[Path], object], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, text(trace()))
    make(tmp_path / "odd")
    status = main(["analyze", str(path), option, str(tmp_path / "odd")])
    assert status in (2, 3)
    assert "odd" in capfd.readouterr().err
