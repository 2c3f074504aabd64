"""What `predict --json` writes: typed, with a schema in the package."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
import msgspec
import pytest

from traceanalyzer.cli import main
from traceanalyzer.theory.prediction.record import PredictionRecord, json_schema, to_json

CASES = {
    "one": ["-s", "1f1b", "-p", "3", "-m", "5"],
    "refused": ["-s", "gpipe,dualpipe", "-p", "3", "-m", "7"],
    "costly": ["-s", "zbv,dualpipev", "-p", "2", "-m", "6", "--hop-us", "50", "--activation-gib", "0.5"],
    "swept": ["-s", "1f1b,interleaved", "-p", "2", "-m", "4", "--sweep", "chunks=1,2,3"],
}


def stored() -> Any:
    return json.loads(resources.files("traceanalyzer.theory.prediction").joinpath("prediction.schema.json").read_text())


def test_the_schema_in_the_package_is_that_of_the_code() -> None:
    assert stored() == json_schema(), (
        "run `python -c 'from traceanalyzer.theory.prediction.record import schema_text as text; print(text(), end=\"\")' "
        "> traceanalyzer/theory/prediction/prediction.schema.json`"
    )


@pytest.mark.parametrize("arguments", CASES.values(), ids=CASES)
def test_a_prediction_satisfies_it_and_is_read_back_equal(
    arguments: list[str], capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["predict", *arguments, "--json", "-"]) == 0
    content = capsysbinary.readouterr().out
    jsonschema.validate(json.loads(content), stored())
    assert to_json(msgspec.json.decode(content, type=PredictionRecord)) == content


def test_the_schema_refuses_what_is_no_prediction(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["predict", *CASES["one"], "--json", "-"]) == 0
    found = json.loads(capsysbinary.readouterr().out)
    for change in (
        {"speed": 1},
        {"schedules": [{"name": "1F1B"}]},
        {"inputs": {**found["inputs"], "sends": "carrier"}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(found | change, stored())
