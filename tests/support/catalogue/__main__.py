"""`PYTHONPATH=tests/support:. python -m catalogue`: every case through `ingest`, `check`, `analyze` and `report`; n of all are right.

Right is: what the case says of its outcome (a refusal of two lines with status 3, or an answer with status 0), never a traceback,
never a byte that a terminal obeys, nothing half written, no payload of the case raw in the page. Cases of other readers are
counted by the tests that give them to these (`ELSEWHERE`).
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from catalogue import APART, ELSEWHERE
from catalogue.base import Case
from catalogue.codec_cases import CASES as CODEC_CASES
from catalogue.event_cases import CASES as EVENT_CASES
from catalogue.folder_cases import CASES as FOLDER_CASES
from catalogue.json_cases import CASES as JSON_CASES
from catalogue.nsys_cases import CASES as NSYS_CASES
from traceanalyzer.cli import main as traceanalyzer

COMMANDS = ("check", "ingest", "analyze", "report")
_ROOT = Path(__file__).parents[3]


def wrong_with(case: Case, scratch: Path) -> dict[str, str]:
    """What is wrong with a case, by command; empty if all is right."""
    given = scratch / "input"
    given.mkdir()
    path = str(case.build(given))
    capture, result, page = scratch / "capture", scratch / "result", scratch / "page.html"
    words = {
        "check": ["check", path],
        "ingest": ["ingest", path, "--out", str(capture)],
        "analyze": ["analyze", path, "--out", str(result)],
        "report": ["report", str(result) if result.exists() else path, "-o", str(page)],
    }
    found: dict[str, str] = {}
    for command in COMMANDS:
        if command == "report" and result.exists():
            words["report"][1] = str(result)
        if said := _said(case, words[command]):
            found[command] = said
    outputs = {"ingest": capture / "manifest.json", "analyze": result / "review.json", "report": page}
    if case.outcome == "error":
        found |= {command: "left something" for command, place in outputs.items() if place.exists()}
    return found


def _said(case: Case, words: list[str]) -> str:
    """Run a command; what is wrong with how it ended and what it said."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = traceanalyzer(words)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is wrong
        return f"raised {type(error).__name__}"
    said = out.getvalue() + err.getvalue()
    if "Traceback" in said or not all(c.isprintable() or c in "\n\r" for c in said):
        return "a traceback or control bytes"
    refused = status == 3 and len(err.getvalue().strip().splitlines()) == 2
    right = {"error": refused, "either": refused or status == 0}.get(case.outcome, status == 0)
    return "" if right else f"status {status}: {err.getvalue().strip()[:200]}"


def elsewhere() -> dict[str, bool]:
    """Whether the tests of the other cases pass, by case."""
    tests = {**ELSEWHERE, **APART}
    names = sorted({f"tests/{test}" for test in tests.values()})
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-rA", *names]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR", "PASSED"))]
    bad = {line.split()[1] for line in lines if not line.startswith("PASSED")}
    good = {line.split()[1] for line in lines if line.startswith("PASSED")}

    def ran(test: str) -> bool:
        mine = [n for n in good | bad if n.removeprefix("tests/").partition("[")[0] == test]
        return bool(mine) and not set(mine) & bad

    return {case: ran(test) for case, test in tests.items()}


def main() -> int:
    cases = [*JSON_CASES, *CODEC_CASES, *EVENT_CASES, *FOLDER_CASES, *NSYS_CASES]
    all_of, right, wrong = Counter[str](), Counter[str](), list[str]()
    for case in cases:
        with tempfile.TemporaryDirectory() as scratch:
            found = wrong_with(case, Path(scratch))
        all_of[case.id[0]] += 1
        right[case.id[0]] += not found
        wrong += [f"{case.id} {command}: {what}" for command, what in found.items()]
    for case_id, passed in elsewhere().items():
        all_of[case_id[0]] += 1
        right[case_id[0]] += passed
        wrong += [] if passed else [f"{case_id}: its test fails"]
    for family, number in all_of.items():
        print(f"{family}: {right[family]} of {number}")  # noqa: T201
    print(f"{right.total()} of {all_of.total()} cases right in {', '.join(COMMANDS)}", *wrong, sep="\n  ")  # noqa: T201
    return len(wrong) > 0


if __name__ == "__main__":
    sys.exit(main())
