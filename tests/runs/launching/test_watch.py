"""Ranks that cannot take SIGTERM are ended by the launcher's watch, not after torchrun's half minute."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from instrumented_runs.launching.watch import GRACE_S, STOPPED_S, RankProcess, Watch, kill, ranks_of

STOP, LIVE = RankProcess(3, 30, is_stopped=True), RankProcess(2, 20, is_stopped=False)
WOKEN = [(30, signal.SIGTERM), (30, signal.SIGCONT)]


def test_a_rank_that_stays_stopped_is_named_woken_and_at_last_killed() -> None:
    told: list[str] = []
    watch = Watch(told.append)
    assert watch.look([LIVE, STOP], 100.0) == []
    assert watch.look([LIVE, STOP], 100.0 + STOPPED_S) == WOKEN
    assert watch.stopped_ranks == {3}
    assert len(told) == 1
    assert told[0].startswith("rank 3 is stopped")
    awake = STOP._replace(is_stopped=False)
    assert watch.look([LIVE, awake], 99.0 + STOPPED_S + GRACE_S) == []
    assert watch.look([LIVE, awake], 100.0 + STOPPED_S + GRACE_S) == [(30, signal.SIGKILL)]


def test_a_rank_that_was_stopped_for_a_moment_is_left_alone() -> None:
    watch = Watch(print)
    assert watch.look([STOP], 0.0) == []
    assert watch.look([STOP._replace(is_stopped=False)], STOPPED_S - 1) == []
    assert watch.look([STOP], STOPPED_S + 1) == []
    assert watch.stopped_ranks == set()


def test_once_a_rank_failed_stopped_ones_are_woken_at_once_and_all_are_killed_after_their_time() -> None:
    watch = Watch(lambda _: None)
    watch.job_ends()
    assert watch.look([LIVE, STOP], 7.0) == WOKEN
    assert watch.look([LIVE], 6.0 + GRACE_S) == []
    assert watch.look([LIVE], 7.0 + GRACE_S) == [(20, signal.SIGKILL)]


def test_ranks_are_children_that_torchrun_numbered() -> None:
    numbered, other = (subprocess.Popen(["sleep", "60"], env=env) for env in ({"RANK": "5"}, {"RANKED": "6"}))
    try:
        os.kill(numbered.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while not any(each.is_stopped for each in ranks_of(os.getpid())) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ranks_of(os.getpid()) == [RankProcess(5, numbered.pid, is_stopped=True)]
        kill(ranks_of(os.getpid()))
        assert numbered.wait(10) == -signal.SIGKILL
    finally:
        for each in (numbered, other):
            each.kill()
            each.wait()
