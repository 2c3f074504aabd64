"""What the package depends on: every package pinned with its hash, nothing that names where it is fetched from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"^([\w.-]+)==([\w.]+) --hash=sha256:([0-9a-f]{64})$")


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def hashed() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints-hashed.txt").read_text().splitlines() if not line.startswith("#")]
    found = [LINE.match(line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    return {plain(match[1]): match[2] for match in found if match}


def test_every_package_that_is_installed_has_a_hash() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {plain(re.match(r"[\w.-]+", each)[0]) for each in declared}  # type: ignore[index]
    assert names <= set(hashed())


def test_hashes_and_constraints_name_the_same_versions() -> None:
    tested = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    tested = {plain(name): version for name, version in tested.items()}
    other = {name: version for name, version in hashed().items() if tested.get(name) != version}
    assert other == {}


def test_the_lowest_versions_are_those_that_are_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    bounds = {
        plain(name): bound for name, bound in re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(declared), re.MULTILINE)
    }
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / "constraints-lowest.txt").read_text(), re.MULTILINE))
    assert len(bounds) == len(declared)
    assert set(pinned) == set(bounds)
    assert [name for name, bound in bounds.items() if pinned[name].removesuffix(".0") != bound.removesuffix(".0")] == []


def test_no_file_of_versions_names_a_host() -> None:
    for name in ("constraints.txt", "constraints-hashed.txt", "constraints-lowest.txt", "pyproject.toml"):
        lines = (ROOT / name).read_text().splitlines()
        assert [line for line in lines if re.search(r"index-url|find-links|file://|\.whl", line)] == []


def test_every_package_is_listed_with_a_licence() -> None:
    rows = re.findall(
        r"^\| ([\w.-]+) \| ([\w.]+) \| (.+) \|$", (ROOT / "docs" / "licences.md").read_text(), re.MULTILINE
    )
    assert {plain(name): version for name, version, _ in rows if name != "package"} == hashed()
    assert not [name for name, _, stated in rows if "not " in stated]
