"""`review.json` as a file: what is written is read back equal, and anything else is refused in one line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs.flight_dumps import call, dumped
from inputs.hot_experts import hot_run
from inputs.tiny_trace import TinyRank, run_of
from launched.gpipe_run import GPIPE, with_job

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.errors import InputError
from traceanalyzer.review import SCHEMA_VERSION, Review, decode_review, read_review, to_json


def whole_pipeline(folder: Path) -> Path:
    return with_job(run_of(folder, GPIPE))


def undescribed_pipeline(folder: Path) -> Path:
    return run_of(folder, GPIPE)


def one_rank(folder: Path) -> Path:
    run_of(folder, GPIPE)
    (folder / "traces" / "rank00001.json").unlink()
    return folder


def dense(folder: Path) -> Path:
    TinyRank(0, 1).step(1, 0, 50).event("aten::mm", 5, 20, "cpu_op").write(folder)
    return folder


def damaged(folder: Path) -> Path:
    path = run_of(folder, GPIPE) / "traces/rank00001.json"
    path.write_text(path.read_text().replace('"traceEvents": [', '"traceEvents": [{"ph": "X", "name": "x"}, '))
    return folder


def dumps_alone(folder: Path) -> Path:
    for rank in range(3):
        dumped(folder, rank, [call(number) for number in range(1, 4 - (rank == 2))])
    return folder


RUNS = [whole_pipeline, undescribed_pipeline, one_rank, dense, damaged, hot_run, dumps_alone]


@pytest.mark.sweep(3)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.__name__)
def test_what_is_written_is_read_back_equal(run: Callable[[Path], Path], tmp_path: Path) -> None:
    review = analyze(read(run(tmp_path))).review
    assert decode_review(to_json(review), "review.json") == review


def test_reviews_of_real_traces_are_read_back_equal(corpus: Path) -> None:
    for name in ("dlrm8-v100", "megatron-tp2-v100", "ddp-mi300"):
        review = analyze(read(corpus / name)).review
        assert decode_review(to_json(review), name) == review


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("run")
    return to_json(analyze(read(whole_pipeline(folder))).review)


def refusal(content: bytes) -> str | None:
    """The one line that refuses `content`; None if it is a review."""
    refused: InputError | None = None
    try:
        assert isinstance(decode_review(content, "some.json"), Review)
    except InputError as error:
        refused = error
    if refused is None:
        return None
    assert refused.message.startswith("some.json: ")
    assert "\n" not in refused.message
    assert refused.hint
    return refused.message


@given(rng=st.randoms(use_true_random=False))
def test_random_damage_to_bytes_is_never_a_traceback(content: bytes, rng: random.Random) -> None:
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.randint(1, 400)]
            case _:
                data[at:at] = rng.randbytes(rng.randint(1, 8))
    refusal(bytes(data))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, part in inside for found in [(*path, key), *places(part, (*path, key))]]


ODD = [None, True, -1, 10**30, 0.5, "", "word", [], [0], {}, {"a": 1}, [[]]]


@given(rng=st.randoms(use_true_random=False))
def test_values_of_other_types_are_never_a_traceback(content: bytes, rng: random.Random) -> None:
    review = json.loads(content)
    *outer, last = rng.choice(places(review))
    place = review
    for key in outer:
        place = place[key]
    place[last] = rng.choice(ODD)
    refusal(json.dumps(review).encode())


@pytest.mark.parametrize("cut", [0.0, 0.001, 0.3, 0.999])
def test_a_file_that_ends_early_is_refused(content: bytes, cut: float) -> None:
    assert refusal(content[: int(len(content) * cut)]) is not None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"schema_version": SCHEMA_VERSION + 1},
            f"a review of version {SCHEMA_VERSION + 1}; this program reads version {SCHEMA_VERSION}",
        ),
        ({"schema_version": SCHEMA_VERSION + 1, "new_section": {}}, f"version {SCHEMA_VERSION + 1}"),
        ({"schema_version": 0}, "no longer read"),
        ({"schema_version": "1"}, "not a review, or a damaged one"),
        ({"new_section": {}}, "new_section"),
        ({"headline": {"sentences": [], "tiles": [{"id": "speed"}]}}, "damaged"),
    ],
)
def test_other_versions_and_unknown_parts_are_refused(content: bytes, change: dict[str, Any], told: str) -> None:
    assert told in (refusal(json.dumps(json.loads(content) | change).encode()) or "")


def test_a_word_that_is_not_in_a_vocabulary_is_refused(content: bytes) -> None:
    review = json.loads(content)
    review["quality"]["verdict"] = "perfect"
    assert "perfect" in (refusal(json.dumps(review).encode()) or "")


def test_a_model_that_cannot_be_is_refused(content: bytes) -> None:
    review = json.loads(content)
    review["job"]["model"]["value"]["num_heads"] = -4
    assert "impossible" in (refusal(json.dumps(review).encode()) or "")


@pytest.mark.parametrize("other", [b"", b"[]", b"{}", b'{"traceEvents": []}', b"\xff\xfe", b"[" * 100_000, b"nul"])
def test_what_is_no_review_is_refused(other: bytes) -> None:
    assert "not a review" in (refusal(other) or "")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path, Path("nul\0.json")):
        with pytest.raises(InputError, match="cannot be read"):
            read_review(path)


def test_facts_that_are_not_known_are_left_out(content: bytes) -> None:
    job = json.loads(content)["job"]
    assert "places" not in job
    assert job["layout"]["value"] == {"pp": 2, "dp": 1, "tp": 1, "ep": 1}
    assert set(job["schedule"]) == {"value", "source", "confidence", "basis"}


def test_no_field_of_the_result_holds_just_anything() -> None:
    schema = msgspec.json.schema(Review)["$defs"]
    free = {
        f"{kind}.{name}"
        for kind, declared in schema.items()
        for name, field in declared.get("properties", {}).items()
        if not field.keys() & {"type", "anyOf", "$ref", "enum"}
    }
    assert free == set()
