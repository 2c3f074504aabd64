"""Damage: of a document's structure where it is JSON, else of its bytes."""

from __future__ import annotations

import copy
import json
import pickle
import random
from typing import Any

from inputs.trace_texts import mutated

_ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 7, 2**15, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64, 10**25, -(2**63),
    0.0, -0.0, 0.5, 1e-9, 1e300, -1e300, float("nan"), float("inf"), float("-inf"), 1.7e15, 1.7e18,
    "", " ", "0", "-1", "9" * 14, "9" * 25, "NaN", "a" * 70_000, "\x1b]0;title\x07", "\x9b31m", "\ud800", "\u202egnp", "\0",
    "<script>alert(1)</script>", "=1+1", "$$x$$", "../../x", "nccl:send 0->" + "9" * 25, "nccl:recv 1<-" + "9" * 12, "nccl:all_reduce",
    "ProfilerStep#" + "9" * 12, "ProfilerStep#1", "compute:0F" + "9" * 12, "compute:" + "9" * 12 + "B0", "PP:1F0", "expert_dispatch:layer" + "9" * 12,
    "[0, 1]", "[0, 1, ..., 63]", "[" + "1, " * 5000 + "1]", "all_to_allv", "user_annotation", "kernel", "gpu_user_annotation", "X", "B", "E",
    [], {}, [[]], [0, 1], [-1], [2**40], ["a"], list(range(3000)), {"a": 1}, {"ranks": [0, 1]},
)  # fmt: skip


def mutant(files: dict[str, bytes], rng: random.Random) -> dict[str, bytes]:
    """The same files, one of them damaged, seldom two."""
    changed = dict(files)
    for _ in range(1 if rng.random() < 0.9 else 2):
        name = rng.choice(sorted(changed))
        changed[name] = _damaged(name, changed[name], rng)
    return changed


def _damaged(name: str, content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2 or not content:
        return mutated(content, rng) if content else b"{"
    if name.endswith(".jsonl"):
        lines = [_loaded(line) for line in content.splitlines()]
        return b"".join(_dumped(line) + b"\n" for line in _changed(lines, rng))
    if name.endswith((".json", ".csv")) or content[:1] in (b"{", b"\x80"):
        return _structured(name, content, rng)
    return mutated(content, rng)


def _structured(name: str, content: bytes, rng: random.Random) -> bytes:
    if name.endswith(".csv"):
        rows = [line.split(",") for line in content.decode("utf-8", "replace").splitlines()]
        rows = _changed(rows, rng)
        return "\n".join(",".join(map(str, r)) if isinstance(r, list) else str(r) for r in rows).encode(
            "utf-8", "replace"
        )
    if content[:1] == b"\x80":
        try:
            return pickle.dumps(_changed(pickle.loads(content), rng))  # noqa: S301 - our own seed
        except Exception:  # noqa: BLE001 - damaged before: damage its bytes again
            return mutated(content, rng)
    document = _loaded(content)
    return mutated(content, rng) if document is None else _dumped(_changed(document, rng))


def _loaded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _changed(value: Any, rng: random.Random) -> Any:
    value = json.loads(json.dumps(value)) if isinstance(value, dict | list) else value
    for _ in range(rng.choice((1, 1, 2, 4))):
        events = value.get("traceEvents") if isinstance(value, dict) else None
        if isinstance(events, list) and events and rng.random() < 0.4:
            _change_many(events, rng)
        else:
            _change_one(value, rng)
    return value


def _change_many(events: list[Any], rng: random.Random) -> None:
    """One field of many events alike, or their order or number."""
    match rng.randrange(6):
        case 0:
            rng.shuffle(events)
        case 1:
            start = rng.randrange(len(events))
            del events[start : start + rng.randint(1, len(events))]
        case 2:
            events += events[: rng.randint(1, 50)]
        case _:
            sample = rng.choice(events)
            if not isinstance(sample, dict) or not sample:
                return
            inner = rng.random() < 0.5 and isinstance(sample.get("args"), dict) and bool(sample["args"])
            key = rng.choice(sorted(sample["args"] if inner else sample))
            odd, only = rng.choice(_ODD), sample.get("name") if rng.random() < 0.5 else None
            share = rng.choice((0.05, 0.5, 1.0))
            for event in events:
                if (
                    not isinstance(event, dict)
                    or (only is not None and event.get("name") != only)
                    or rng.random() > share
                ):
                    continue
                place = event.get("args") if inner else event
                if isinstance(place, dict) and key in place:
                    place[key] = _odd_of(place[key], odd, rng)


def _odd_of(old: Any, odd: Any, rng: random.Random) -> Any:
    """What a value becomes. A list is a copy: what is changed in it later must change neither `_ODD` nor itself."""
    if isinstance(old, int | float) and not isinstance(old, bool) and abs(old) < 1e30 and rng.random() < 0.5:
        return rng.choice((old * 0, old * -1, old * 1000, old / 1000, old + 1, old + 1e9, int(old * 1e6)))
    return copy.deepcopy(odd) if isinstance(odd, list | dict) else odd


def _change_one(value: Any, rng: random.Random) -> None:
    for _ in range(12):  # walk down to a random place
        if isinstance(value, dict) and value:
            key = rng.choice(sorted(value, key=str))
            inner = value[key]
            if isinstance(inner, dict | list) and inner and rng.random() < 0.8:
                value = inner
                continue
            if rng.random() < 0.25:
                del value[key]
            elif rng.random() < 0.1:
                value[str(rng.choice(_ODD))[:80]] = value.pop(key)
            else:
                value[key] = _odd_of(inner, rng.choice(_ODD), rng)
            return
        if isinstance(value, list) and value:
            at = rng.randrange(len(value))
            inner = value[at]
            if isinstance(inner, dict | list) and inner and rng.random() < 0.85:
                value = inner
                continue
            match rng.randrange(4):
                case 0:
                    del value[at]
                case 1:
                    value.insert(at, inner)
                case _:
                    value[at] = _odd_of(inner, rng.choice(_ODD), rng)
            return
        return
