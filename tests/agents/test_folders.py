"""Nothing outside the folders is read, whatever path an agent names."""

from __future__ import annotations

from pathlib import Path

import pytest

from traceanalyzer.agents.folders import Folders, fingerprint, open_folders
from traceanalyzer.errors import UsageError


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Two folders that may be read, and a secret beside them."""
    (tmp_path / "runs/first/traces").mkdir(parents=True)
    (tmp_path / "runs/first/traces/r.json").write_text("{}")
    (tmp_path / "results").mkdir()
    (tmp_path / "runs2").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/r.json").write_text("{}")
    return open_folders([str(tmp_path / "runs"), str(tmp_path / "results")])


def test_what_lies_inside_is_found_by_either_name(folders: Folders, tmp_path: Path) -> None:
    first = tmp_path / "runs/first"
    for path in ("first", "first/", "./first", str(first), str(tmp_path / "runs") + "//first"):
        assert folders.inside(path) == first
    assert folders.inside("first/traces/r.json").name == "r.json"
    assert folders.inside(str(tmp_path / "results")) == tmp_path / "results"


@pytest.mark.parametrize(
    "path",
    [
        "", "..", "../secret", "first/../../secret", "first/../first", "/etc/passwd", "/", "~", "missing", "first\0x",
        "file:///etc/passwd", "https://example.org/t.json", "s3://bucket/run", "github://a:b@/x", "zip::x.zip", "C:\\x",
    ],
)  # fmt: skip
def test_what_lies_outside_is_refused(folders: Folders, path: str) -> None:
    with pytest.raises(UsageError) as refusal:
        folders.inside(path)
    assert "inside" in refusal.value.hint
    assert "\0" not in refusal.value.message


def test_a_name_that_begins_like_a_folder_is_not_inside(folders: Folders, tmp_path: Path) -> None:
    for outside in (tmp_path, tmp_path / "runs2", tmp_path / "secret"):
        with pytest.raises(UsageError):
            folders.inside(str(outside))


@pytest.mark.parametrize("place", ["link", "first/link", "first/traces/link.json"])
def test_links_that_lead_outside_are_refused_wherever_they_are(folders: Folders, tmp_path: Path, place: str) -> None:
    target = tmp_path / ("secret/r.json" if place.endswith(".json") else "secret")
    (tmp_path / "runs" / place).symlink_to(target)
    for path in (place, place.split("/", maxsplit=1)[0]):
        with pytest.raises(UsageError, match="outside"):
            folders.inside(path)


def test_links_that_stay_inside_are_followed(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "runs/again").symlink_to(tmp_path / "runs/first")
    assert folders.inside("again") == tmp_path / "runs/first"
    (tmp_path / "runs/broken").symlink_to(tmp_path / "secret/none")
    with pytest.raises(UsageError):
        folders.inside("broken")


def test_the_listing_leaves_links_and_hidden_files_out(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "runs/link").symlink_to(tmp_path / "secret")
    (tmp_path / "runs/.hidden").write_text("")
    (tmp_path / "runs/one.json").write_text("")
    assert folders.listing() == {str(tmp_path / "runs"): ["first/", "one.json"], str(tmp_path / "results"): []}


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in ("missing", "file"):
        with pytest.raises(UsageError, match="is not a folder"):
            open_folders([str(tmp_path / path)])


def test_a_fingerprint_tells_of_any_change(folders: Folders) -> None:
    run = folders.inside("first")
    before = fingerprint(run)
    assert fingerprint(run) == before
    (run / "traces/r.json").write_text("[1]")
    changed = fingerprint(run)
    (run / "traces/s.json").write_text("")
    assert len({before, changed, fingerprint(run)}) == 3
