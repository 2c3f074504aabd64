"""J: damage to the JSON itself."""

from __future__ import annotations

import json
import re

from catalogue.base import NUM_COMPLETE, Case, changed, edited, events, text, trace

_ALL = NUM_COMPLETE
_BUT_ONE = NUM_COMPLETE - 1
_TRUNCATED = ("json.truncated",)
_TEXT = ("json.repaired_text", "json.damaged_events")
_NUMBER = ("json.repaired_number", "json.damaged_events")


def _cut_at(source: str, pattern: str, occurrence: int) -> str:
    return source[: list(re.finditer(pattern, source))[occurrence].start()]


def _line(source: str, number: int) -> str:
    return source.split("\n")[number]


def _in_event(source: str, old: str, new: str) -> str:
    """Replace once, inside the event array."""
    head, tail = source.split('"traceEvents"', 1)
    assert old in tail
    return f'{head}"traceEvents"{tail.replace(old, new, 1)}'


def _in_head(source: str, new: str) -> str:
    return source.replace('"host_name"', f'{new}, "host_name"', 1)


def _pretty(source: str) -> str:
    return json.dumps(json.loads(source), indent=2)


def _python_repr(source: str) -> str:
    return repr(json.loads(source))


def _interleaved(_: str) -> bytes:
    one, two = text(trace(0, 2)).encode(), text(trace(1, 2)).encode()
    size = 1500
    pieces = [part[i : i + size] for i in range(0, len(one), size) for part in (one, two)]
    return b"".join(pieces)


def _with_keys(document: dict[str, object]) -> None:
    document["traceEvents"][9]["args"] |= {f"key{i}": i for i in range(20_000)}  # type: ignore[index]


def _distributed_last(source: str) -> str:
    document = json.loads(source)
    info = document.pop("distributedInfo")
    return text(document)[:-1] + f', "distributedInfo": {json.dumps(info)}}}'


def _second_array(source: str) -> str:
    return source[:-1] + ', "traceEvents": []}'


def _missing_events(value: object):  # noqa: ANN202 - a builder
    return edited(lambda s: json.dumps(json.loads(s) | {"traceEvents": value}))


CASES = [
    Case("C00", "control: one event per line", edited(lambda s: s), "clean"),
    Case("C01", "control: pretty-printed", edited(_pretty), "clean"),
    Case("C03", "control: one line without spaces", edited(lambda s: json.dumps(json.loads(s), separators=(",", ":"))), "clean"),
    Case("J01", "truncated inside an event", edited(lambda s: _cut_at(s, '"dur"', 45)), "load", 45, _TRUNCATED),
    Case("J02", "truncated inside a string", edited(lambda s: _cut_at(s, "LaunchKernel", 10)), "load", 30, _TRUNCATED),
    Case("J03", "truncated after a comma", edited(lambda s: s[: s.index(_line(s, 50))]), "load", 46, _TRUNCATED),
    Case("J04", "truncated before traceEvents", edited(lambda s: s[: s.index('"traceEvents"')]), "error"),
    Case("J05", "only the closing brackets are missing", edited(lambda s: s[: s.rindex("]")]), "load", _ALL, _TRUNCATED),
    Case("J06", "zero bytes", edited(lambda _: ""), "error"),
    Case("J07", "white space only", edited(lambda _: " \n\t  "), "error"),
    Case("J08", "NUL padding after a prefix", edited(lambda s: _cut_at(s, '"dur"', 45) + "\0" * 5000), "load", 45,
         ("json.truncated", "json.damaged_events")),
    Case("J09", "NUL bytes only", edited(lambda _: "\0" * 4096), "error"),
    Case("J10", "trailing comma after the last event", edited(lambda s: s.replace("\n]", ",\n]")), "clean"),
    Case("J11", "trailing empty object", edited(lambda s: s.replace("\n]", ",\n{}]")), "clean"),
    Case("J12", "NaN and Infinity in arguments and metadata",
         edited(lambda s: _in_head(_in_event(s, '"External id": 3', '"External id": 3, "a": NaN, "b": -Infinity'), '"cfg": {"lr": NaN}')),
         "load", _ALL, _NUMBER),
    Case("J13", "bare inf and nan", edited(lambda s: _in_event(s, '"External id": 3', '"x": inf, "y": [nan, -inf]')), "load", _ALL, _NUMBER),
    Case("J14", "bare N/A", edited(lambda s: _in_event(s, '"External id": 3', '"x": N/A')), "load", _ALL, _NUMBER),
    Case("J15", "unescaped backslashes", edited(lambda s: _in_event(s, "aten::op2", r"C:\Users\me\op2")), "load", _ALL, _TEXT),
    Case("J16", "unescaped quotes in a name", edited(lambda s: _in_event(s, "aten::op2", 'say "hi" twice')), "load", _BUT_ONE, _TEXT),
    Case("J16o", "one unescaped quote in a name", edited(lambda s: _in_event(s, "aten::op2", '5" pipe')), "load", _BUT_ONE, _TEXT),
    Case("J16p", "unescaped quotes, pretty-printed", edited(lambda s: _in_event(_pretty(s), "aten::op2", 'say "hi"')), "load", _BUT_ONE, _TEXT),
    Case("J17", "raw control character in a name", edited(lambda s: _in_event(s, "aten::op2", "a\x01b")), "load", _ALL, _TEXT),
    Case("J18", "raw newline and tab in metadata", edited(lambda s: _in_head(s, '"note": "a\n\tb"')), "load", _ALL, ("json.damaged_metadata",)),
    Case("J19", "invalid UTF-8 in a name", edited(lambda s: s.encode().replace(b"aten::op2", b"aten\xff\xfe", 1)), "load", _ALL,
         ("json.invalid_utf8", "json.damaged_events")),
    Case("J20", "lone surrogate", edited(lambda s: _in_event(s, "aten::op2", r"a\ud800b")), "load", _ALL, _TEXT),
    Case("J21", "byte-order mark", edited(lambda s: "\ufeff" + s), "clean"),
    Case("J22", "UTF-16", edited(lambda s: s.encode("utf-16")), "either"),
    Case("J23", "duplicate keys in an event", edited(lambda s: _in_event(s, '"ph": "X"', '"ph": "X", "dur": 7, "ts": 1')), "either", _ALL),
    Case("J24a", "empty traceEvents first", edited(lambda s: s.replace("{", '{"traceEvents": [], ', 1)), "load", _ALL, ("json.repeated_events_key",)),
    Case("J24b", "empty traceEvents last", edited(_second_array), "load", _ALL, ("json.repeated_events_key",)),
    Case("J25", "quotes in a group's description", edited(lambda s: s.replace("default_pg", 'a "quoted" desc')), "load", _ALL,
         ("json.damaged_metadata",), (0,)),
    Case("J26", "bare list of events", edited(lambda _: json.dumps(events())), "load", _ALL, ("rank.assumed",)),
    Case("J27", "object without traceEvents", edited(lambda _: '{"a": [1, 2], "b": {}}'), "error"),
    Case("J28a", "traceEvents is null", _missing_events(None), "error"),
    Case("J28b", "traceEvents is an object", _missing_events({}), "error"),
    Case("J28c", "traceEvents is a string", _missing_events("x"), "error"),
    Case("J28d", "traceEvents is a number", _missing_events(3), "error"),
    Case("J29", "elements that are no objects",
         changed(lambda d: d["traceEvents"].extend([None, 3, "x", [1], [{"ph": "X"}], True])), "load", _ALL, ("event.not_an_object",)),
    Case("J30", "two documents in one file", edited(lambda s: s + "\n" + text(trace(1, 2))), "load", _ALL, ("json.second_document",)),
    Case("J31", "two ranks' bytes interleaved", edited(_interleaved), "either", 1),
    Case("J32", "garbage after the document", edited(lambda s: s + "\nDone. Exit 0 {"), "load", _ALL, ("json.trailing_bytes",)),
    Case("J33", "nested 100,000 deep", edited(lambda s: _in_event(s, '"External id": 3', '"x": ' + "[" * 100_000 + "]" * 100_000)),
         "load", _BUT_ONE, ("json.damaged_events",)),
    Case("J34", "a number of 5,000 digits", edited(lambda s: _in_event(s, '"External id": 3', '"x": ' + "9" * 5000)), "load", _ALL,
         ("event.number_out_of_range",)),
    Case("J35", "1e400", edited(lambda s: _in_event(s, '"External id": 3', '"x": 1e400')), "load", _ALL, ("event.number_out_of_range",)),
    Case("J36", "leading zeros", edited(lambda s: _in_event(s, '"External id": 3', '"x": 007')), "load", _ALL, _NUMBER),
    Case("J37", "a negative span as Kineto prints it", edited(lambda s: _in_event(s, '"External id": 3', '"x": -5.-123')), "load", _ALL, _NUMBER),
    Case("J38", "a name of 10 MB", edited(lambda s: _in_event(s, "aten::op2", "n" * 10_000_000)), "load", _ALL, ("limit.name",)),
    Case("J39", "20,000 argument keys", changed(_with_keys), "clean"),
    Case("J40", "printed Python object", edited(_python_repr), "error"),
    Case("J41", "CRLF line ends", edited(lambda s: s.replace("\n", "\r\n")), "clean"),
    Case("J42", "an HTML page", edited(lambda _: "<!DOCTYPE html><html><body>Sign in</body></html>"), "error"),
    Case("J43", "an empty value", edited(lambda s: _in_event(_in_head(s, '"job": '), '"External id": 3', '"x": ')), "load", _ALL,
         ("json.repaired_number", "json.damaged_metadata")),
    Case("J44", "a missing comma", edited(lambda s: _in_event(s, "}},\n", "}}\n")), "load", _ALL, ("json.missing_comma",)),
    Case("J45", "brackets in traceName", edited(lambda s: s.replace("rank0.json", "a]{b[.json")), "clean"),
    Case("J46", "distributedInfo last", edited(_distributed_last), "clean", ranks=(0,)),
    Case("J47", "another rank before distributedInfo", edited(lambda s: s.replace("{", '{"lora": {"rank": 7}, ', 1)), "clean", ranks=(0,)),
]  # fmt: skip
"""Every case of this kind."""
