"""Who did not call what: the first sentence of planted dumps, and none of sound ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inputs.flight_dumps import IDLE, OPEN, START_NS, TIMED_OUT, call, dumped, group, message, sized
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.cli import main

Calls = dict[int, list[dict[str, Any]]]


def layers(numbers: range, skip: int = 0, **more: Any) -> list[dict[str, Any]]:
    """Calls of 100, 200, ... elements; `skip` of them ahead from number 5 on."""
    return [sized(n, 100 * (n + (skip if n >= 5 else 0)), **more) for n in numbers]


AMISS: dict[str, tuple[int, Calls, str]] = {
    "another size": (
        5,
        {rank: [call(1), sized(2, 77 if rank == 4 else 76)] for rank in range(5)},
        ("Rank 4 called all_reduce of 77 elements Half as number 2 of the default group, the others (ranks 0, 1, 2 and 3) "
        "all_reduce of 76 elements Half."),
    ),
    "another type": (
        3,
        {rank: [sized(1, 8, "Float" if rank == 0 else "BFloat16")] for rank in range(3)},
        ("Rank 0 called all_reduce of 8 elements Float as number 1 of the default group, the others (ranks 1 and 2) "
        "all_reduce of 8 elements BFloat16."),
    ),
    "another operation": (
        4,
        {rank: [call(6), call(7, "barrier" if rank == 2 else "all_gather", **OPEN)] for rank in range(4)},
        ("Rank 2 called barrier of 64 elements Float as number 7 of the default group, the others (ranks 0, 1 and 3) "
        "all_gather of 64 elements Float."),
    ),
    "two ranks: no majority": (
        2,
        {rank: [sized(1, 5 + rank)] for rank in range(2)},
        ("Members of the default group called different things as number 1: all_reduce of 5 elements Half on rank 0; "
        "all_reduce of 6 elements Half on rank 1."),
    ),
    "a skipped call": (
        3,
        {rank: layers(range(1, 8), skip=int(rank == 2)) for rank in range(3)},
        ("Rank 2 skipped 1 call in the default group at or before number 5 (all_reduce of 500 elements Half on ranks 0 and 1, "
        "all_reduce of 600 elements Half on rank 2): from there on its calls are those of the others 1 number later "
        "(2 calls compared)."),
    ),
    "two skipped calls": (
        4,
        {rank: layers(range(1, 10), skip=2 * int(rank == 0)) for rank in range(4)},
        "Rank 0 skipped 2 calls in the default group",
    ),
    "a call too many": (
        3,
        {rank: layers(range(1, 9), skip=-int(rank == 1)) for rank in range(3)},
        "Rank 1 made 1 call too many in the default group at or before number 5",
    ),
    "did not come": (
        4,
        {rank: [call(n) for n in range(1, 9)] + ([] if rank == 3 else [call(9, "reduce_scatter", **OPEN)]) for rank in range(4)},
        ("Rank 3 had not called reduce_scatter number 9 of the default group when its dump was written; ranks 0, 1 and 2 wait "
        "in it."),
    ),
    "called nothing at all": (
        3,
        {0: [call(1, **OPEN)], 1: [], 2: [call(1, **OPEN)]},
        "Rank 1 had not called all_reduce number 1 of the default group when its dump was written; ranks 0 and 2 wait in it.",
    ),
    "no dump": (
        6,
        {rank: [call(40), call(41, **OPEN)] for rank in (0, 1, 2, 3, 5)},
        "Rank 4 left no dump, and ranks 0, 1, 2, 3 and 5 wait in all_reduce number 41 of the default group: it is the suspect.",
    ),
    "most left no dump": (
        64,
        {rank: [call(41, **OPEN)] for rank in (8, 9)},
        "Ranks 8 and 9 wait in all_reduce number 41 of the default group; 62 of its 64 members left no dump",
    ),
    "a device behind": (
        3,
        {rank: [call(4), call(5, **(IDLE if rank == 1 else OPEN))] for rank in range(3)},
        ("Rank 1 called all_reduce number 5 of the default group but its device has not begun it: earlier work there has not "
        "ended; ranks 0 and 2 wait in it."),
    ),
    "nobody is missing": (
        2,
        {rank: [call(4), call(5, **OPEN)] for rank in range(2)},
        "All members of the default group called all_reduce number 5 and none had ended it when the dumps were written",
    ),
    "a wrapped ring": (
        3,
        {rank: [call(n) for n in range(900 + rank, 903)] + ([] if rank == 1 else [call(903, **OPEN)]) for rank in range(3)},
        "Rank 1 had not called all_reduce number 903 of the default group",
    ),
    "an older dump": (
        3,
        {rank: [call(n) for n in range(1, 9 if rank else 7)] + ([call(9, **OPEN)] if rank else []) for rank in range(3)},
        ("Whether rank 0 called all_reduce number 9 of the default group, where ranks 1 and 2 wait, is not known: its dump is "
        "older than the others' (it lacks number 8, which ended)"),
    ),
    "shapes alone": (
        3,
        {rank: [call(1, input_sizes=[[8, 4] if rank == 1 else [4, 8]], output_sizes=[[8, 4] if rank == 1 else [4, 8]]) for _ in (1,)] for rank in range(3)},
        "Members of the default group gave tensors of different shapes to all_reduce number 1, with as many elements",
    ),
    "another type of the result": (
        3,
        {rank: [call(1, "_allgather_base", output_sizes=[[192]], output_dtypes=["Half" if rank == 2 else "Float"])] for rank in range(3)},
        ("Rank 2 called _allgather_base of 64 elements Float into 192 elements Half as number 1 of the default group, the others "
        "(ranks 0 and 1) _allgather_base of 64 elements Float into 192 elements Float."),
    ),
    "another size of the result": (
        2,
        {rank: [call(1, "_reduce_scatter_base", output_sizes=[[32 + rank]])] for rank in range(2)},
        ("Members of the default group called different things as number 1: _reduce_scatter_base of 64 elements Float into 32 "
        "elements Float on rank 0; _reduce_scatter_base of 64 elements Float into 33 elements Float on rank 1."),
    ),
    "several skip": (
        5,
        {rank: layers(range(1, 9), skip=int(rank in (1, 3))) for rank in range(5)},
        "Ranks 1 and 3 skipped 1 call in the default group at or before number 5",
    ),
    "nothing is received": (
        2,
        {0: [message(1, "send 0->1"), message(2, "send 0->1", **OPEN)], 1: [message(1, "recv 1<-0")]},
        "Rank 1 had not called the receive of what rank 0 sends to it (Half[24]) when its dump was written.",
    ),
    "nothing is sent": (
        3,
        {0: [call(1)], 1: [call(1), message(2, "recv 1<-2", **OPEN)], 2: [call(1)]},
        "Rank 2 had not called the send that rank 1 waits for (Half[24]) when its dump was written.",
    ),
    "both send": (
        2,
        {rank: [message(1, f"send {rank}->{1 - rank}", **OPEN)] for rank in range(2)},
        "Ranks 0 and 1 each send to the other and neither receives.",
    ),
    "both receive": (
        2,
        {rank: [message(1, f"recv {rank}<-{1 - rank}", **OPEN)] for rank in range(2)},
        "Ranks 0 and 1 each wait to receive from the other and neither sends.",
    ),
    "a message of another size": (
        2,
        {0: [message(1, "send 0->1", 24, **OPEN)], 1: [message(1, "recv 1<-0", 25, **OPEN)]},
        "Rank 0 sends Half[24] to rank 1, which expects Half[25].",
    ),
    "a call that timed out": (
        4,
        {rank: [call(11)] + ([] if rank == 2 else [call(12, "all_to_all", **TIMED_OUT)]) for rank in range(4)},
        "Rank 2 had not called all_to_all number 12 of the default group when its dump was written; ranks 0, 1 and 3 wait in it.",
    ),
    "timed out on all": (
        2,
        {rank: [call(3, **TIMED_OUT)] for rank in range(2)},
        "All members of the default group called all_reduce number 3 and none had ended it when the dumps were written",
    ),
    "a broadcast that ended on its root": (
        3,
        {rank: [call(6, "broadcast", **({} if rank == 0 else OPEN))] for rank in range(3)},
        "All members of the default group called broadcast number 6 and ranks 1 and 2 had not ended it",
    ),
    "a ring that begins after the call": (
        3,
        {0: [call(8, **OPEN)], 1: [call(n) for n in range(20, 23)], 2: [call(8, **OPEN)]},
        "All members of the default group called all_reduce number 8 and none had ended it",
    ),
    "a chain ends at who waits for nobody": (
        3,
        {
            0: [call(1), message(2, "recv 0<-1", **OPEN)],
            1: [call(1), message(2, "recv 1<-2", **OPEN)],
            2: [call(1)],
        },
        "Rank 2 had not called the send that rank 1 waits for",
    ),
}  # fmt: skip


@pytest.mark.sweep(6)
@pytest.mark.parametrize("name", AMISS)
def test_who_did_not_call_what_is_the_first_sentence(name: str, tmp_path: Path) -> None:
    size, ranks, sentence = AMISS[name]
    for rank, calls in ranks.items():
        # the rings of these processes begin with their first call
        numbered = [
            entry | {"record_id": index if name != "a wrapped ring" else 5000 + index}
            for index, entry in enumerate(calls)
        ]
        dumped(tmp_path, rank, numbered, size=size, name="fr_rank_node7-{}")
    assert analyze(read(tmp_path)).review.headline.sentences[0].startswith(sentence)


SOUND: dict[str, tuple[int, Calls]] = {
    "all ended": (3, {rank: [call(n) for n in range(1, 6)] for rank in range(3)}),
    "a dump older than the others": (3, {rank: [call(n) for n in range(1, 6 - (rank == 0))] for rank in range(3)}),
    "a rank is seen to end it first": (2, {rank: [call(1), call(2, **({} if rank else OPEN))] for rank in range(2)}),
    "uneven exchanges": (2, {rank: [sized(1, 10 + rank, operation="all_to_allv")] for rank in range(2)}),
    "a gather": (
        3,
        {rank: [call(1, "gather", output_sizes=[[64]] * 3 if rank == 0 else [], output_dtypes=["Float"])] for rank in range(3)},
    ),
    "uneven list gathers": (
        2,
        {rank: [call(1, "all_gather", input_sizes=[[4 + rank]], output_sizes=[[4], [5]], output_dtypes=["Float"] * 2)] for rank in range(2)},
    ),
    "rings of other reach": (2, {0: [call(n) for n in range(1, 9)], 1: [call(n) for n in range(6, 9)]}),
    "groups of one name": (
        4,
        {rank: [sized(1, 10 * (1 + rank // 2), **group(f"ep{rank // 2}"))] for rank in range(4)},
    ),
    "messages that ended": (2, {0: [message(1, "send 0->1")], 1: [message(1, "recv 1<-0")]}),
    "a receive that ended after the sender's dump": (
        2,
        {0: [message(1, "send 0->1", **OPEN)], 1: [message(1, "recv 1<-0", time_discovered_completed_ns=START_NS + 10**9)]},
    ),
    "states nobody knows": (2, {rank: [call(1, state="\x1b[31m", retired=False)] for rank in range(2)}),
}  # fmt: skip
AGREED = {
    "all ended": "All 15 calls in these dumps had ended: they show no rank that others wait for.",
    "a rank is seen to end it first": "1 call had not ended on rank 0, and others had ended the same",
    "a receive that ended after the sender's dump": "1 call had not ended on rank 0, and others had ended the same",
    "states nobody knows": "The state of 2 of 2 calls is none that is known: whether they ended is unknown.",
}


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", SOUND)
def test_sound_dumps_accuse_nobody(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    size, ranks = SOUND[name]
    for rank, calls in ranks.items():
        dumped(tmp_path, rank, calls, size=size)
    review = analyze(read(tmp_path)).review
    assert review.recorded is not None
    assert review.recorded.apart == []
    assert review.headline.sentences[0].startswith(AGREED.get(name, "All "))
    assert "There is no trace" in review.headline.sentences[1]
    assert main(["check", str(tmp_path)]) == 0
    assert capfd.readouterr().out.splitlines()[1].startswith(f"{len(ranks)} of")


def test_ranks_left_out_on_demand_are_no_suspects(tmp_path: Path) -> None:
    for rank in range(3):
        dumped(tmp_path, rank, [call(1, **OPEN)], size=3)
    assert analyze(read(tmp_path, ranks={0, 1})).review.headline.sentences[0] == (
        "Ranks 0 and 1 wait in all_reduce number 1 of the default group; whether rank 2 came is not known: its dump was left out. "
        "Read it, too."
    )


def test_versions_of_the_library_that_differ_are_said(tmp_path: Path) -> None:
    for rank in range(3):
        dumped(tmp_path, rank, [call(1)], size=3, comm_lib_version="2.27.5" if rank else "2.26.2")
    assert analyze(read(tmp_path)).review.headline.sentences[0] == (
        "Ranks run different versions of the communication library: 2.27.5 on ranks 1 and 2; 2.26.2 on rank 0."
    )


def test_dumps_beside_traces_lead_the_page_where_a_rank_did_not_come(tmp_path: Path) -> None:
    planted = plant(Job(pp=1, dp=2, num_microbatches=2), Faults(), tmp_path / "run")
    dumped(planted.traces, 0, [call(7), call(8, **OPEN)])
    dumped(planted.traces, 1, [call(7)])
    first = analyze(read(planted.traces)).review.headline.sentences[0]
    assert first.startswith("Rank 1 had not called all_reduce number 8 of the default group")


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("nccl_trace_rank_10.4.7.9_{}", 5),
        ("comm_lib_trace_rank_gpu-b200-07.cluster.local_{}", 3),
        ("rank_{}", 12),
        ("torchcomms_fr_rank{}.json", 2),
        ("rank_{}_1790857026.pickle", 6),
        ("fr-{}.pkl", 0),
    ],
)
def test_a_dump_is_told_by_its_content_and_its_rank_by_its_name(name: str, rank: int, tmp_path: Path) -> None:
    dumped(tmp_path, rank, [call(1)], size=16, name=name)
    assert [file.rank for file in analyze(read(tmp_path)).review.files] == [rank]
