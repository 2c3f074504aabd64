"""Dumps where nobody can be named: the first sentence says so, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inputs.flight_dumps import IDLE, OPEN, TIMED_OUT, call, dumped, group, message

from traceanalyzer.analysis.assemble import analyze, read

Calls = dict[int, list[dict[str, Any]]]

NOBODY: dict[str, tuple[Calls, dict[str, Any], str]] = {
    "no calls at all": ({0: [], 1: []}, {}, "The dumps hold no call that can be read, so who did not call what is unknown: record calls"),
    "members that no dump lists": (
        {rank: [call(5, **IDLE)] for rank in (0, 1)},
        {"pg_config": {}},
        ("Ranks 0 and 1 wait in all_reduce number 5 of the default group; whether another rank did not come is not known, because "
        "no dump lists the members"),
    ),
    "a lone dump of a group without members": (
        {0: [call(5, "reduce_scatter", **TIMED_OUT, **group("tp3"))]},
        {"pg_config": {}},
        "Rank 0 waits in reduce_scatter number 5 of group tp3 (mesh_ep); whether another rank did not come is not known",
    ),
    "another group fills the ring": (
        {
            0: [call(4, record_id=1, **OPEN, **group("7"))],
            1: [call(n, record_id=n) for n in range(90, 93)],
        },
        {"pg_config": {name: {"name": name, "desc": desc, "ranks": "[0, 1]"} for name, desc in (("0", "default_pg"), ("7", "mesh_ep"))}},
        ("Whether rank 1 called all_reduce number 4 of group 7 (mesh_ep), where rank 0 waits, is not known: its dump begins later. "
        "Record more calls"),
    ),
    "messages to peers that are not told": (
        {0: [message(1, "send 0->1", **OPEN)]},
        {"pg_config": {}},
        "Rank 0 had not ended 1 call to send or receive, and the dumps do not show the peers",
    ),
    "a message of which both ends are under way": (
        {0: [message(1, "send 0->1", 24, record_id=1, **OPEN)], 1: [message(1, "recv 1<-0", 24, record_id=1, **OPEN)]},
        {},
        "Both ends of a message from rank 0 to rank 1 (Half[24]) were called, and none had ended",
    ),
    "messages that reach back not far enough": (
        {0: [message(9, "send 0->1", 24, record_id=70, **OPEN)], 1: [message(6, "recv 1<-0", 24, record_id=80)]},
        {},
        "Whether both ends of a message from rank 0 to rank 1 were called is not known",
    ),
    "a message to a rank without a dump": (
        {0: [message(1, "send 0->1", 24, record_id=1, **OPEN)]},
        {},
        "A message from rank 0 to rank 1 has not ended, and rank 1 left no dump: give it, too.",
    ),
}  # fmt: skip


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", NOBODY)
def test_where_nobody_can_be_named_the_first_sentence_says_why(name: str, tmp_path: Path) -> None:
    ranks, more, sentence = NOBODY[name]
    for rank, calls in ranks.items():
        dumped(tmp_path, rank, calls, **more)
    assert analyze(read(tmp_path)).review.headline.sentences[0].startswith(sentence)
