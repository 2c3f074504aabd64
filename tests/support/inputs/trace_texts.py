"""Texts of traces, whole and damaged."""

from __future__ import annotations

import random
import re
from pathlib import Path

from hypothesis import strategies as st

NOT_TRACES = re.compile(r"execution_traces|flightrec|straggler-op-table|reference\.csv|\.jsonl$|\.md$")


def trace_files(corpus: Path) -> list[Path]:
    return sorted(p for p in corpus.rglob("*.json*") if not NOT_TRACES.search(str(p.relative_to(corpus))))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def mutated(source: bytes, rng: random.Random) -> bytes:
    data = bytearray(source)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        match rng.randrange(5):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.randint(1, 200)]
            case 2:
                data[at:at] = rng.choice([b'"', b"{", b"}", b"]", b"[", b",", b"\\", b"\0", b"NaN", b"\xff", b'{"ph":'])
            case 3:
                data[at:at] = data[at : at + rng.randint(1, 500)]
            case _:
                del data[at:]
        if not data:
            break
    return bytes(data)
