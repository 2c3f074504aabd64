"""Outcomes of a gate as lines, JUnit XML, Markdown and annotations of GitHub."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from traceanalyzer.gates.outcome import Outcome
from traceanalyzer.review.words import counted

_MARKS = {"held": "✓", "broken": "✗", "skipped": "–"}


def lines(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each limit that was broken or skipped, and one that counts."""
    annotations_of = [f"gate {each.status}: {each.name}: {each.text}" for each in outcomes if each.status != "held"]
    return [*annotations_of, f"gate: {_counts(outcomes)}"]


def _counts(outcomes: Sequence[Outcome]) -> str:
    number = {status: sum(each.status == status for each in outcomes) for status in ("held", "broken", "skipped")}
    return f"{counted(len(outcomes), 'limit')}: {number['held']} held, {number['broken']} broken, {number['skipped']} skipped"


def junit(outcomes: Sequence[Outcome], suite: str) -> bytes:
    """JUnit XML as Jenkins' schema has it (`junit-10.xsd`): one test case for each limit; skipped ones are marked as such."""
    broken = sum(each.status == "broken" for each in outcomes)
    skipped = sum(each.status == "skipped" for each in outcomes)
    numbers = {"tests": str(len(outcomes)), "failures": str(broken), "errors": "0"}
    root = ET.Element("testsuites", {"name": "traceanalyzer gate", **numbers})  # which counts no skipped ones there
    node = ET.SubElement(root, "testsuite", {"name": _xml(suite), **numbers, "skipped": str(skipped)})
    for each in outcomes:
        case = ET.SubElement(node, "testcase", {"classname": "traceanalyzer.gate", "name": _xml(each.name)})
        if each.status == "broken":
            failure = ET.SubElement(case, "failure", {"message": _xml(each.text), "type": "limit"})
            failure.text = _xml(f"{each.path}: {each.text}")
        elif each.status == "skipped":
            ET.SubElement(case, "skipped", {"message": _xml(each.text)})
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _xml(text: str) -> str:
    """Text without characters that XML 1.0 does not allow."""
    return "".join(
        c if c in "\t\n" or 0x20 <= ord(c) <= 0xD7FF or 0xE000 <= ord(c) <= 0xFFFD or ord(c) > 0xFFFF else "?"
        for c in text
    )


def github(outcomes: Sequence[Outcome]) -> list[str]:
    """Workflow commands: an error for each broken limit, a warning for each skipped one, a notice that counts."""
    kinds = {"broken": "error", "skipped": "warning"}
    annotations_of = [
        f"::{kinds[each.status]} title={_property(f'gate: {each.name}')}::{_message(each.text)}"
        for each in outcomes
        if each.status in kinds
    ]
    return [*annotations_of, f"::notice title=gate::{_message(_counts(outcomes))}"]


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, str, str]]:
    """Mark, name and text of each limit, broken ones first: the table for Markdown."""
    order = {"broken": 0, "skipped": 1, "held": 2}
    ordered = sorted(outcomes, key=lambda each: order[each.status])
    return [(f"{_MARKS[each.status]} {each.status}", each.name, each.text) for each in ordered]
