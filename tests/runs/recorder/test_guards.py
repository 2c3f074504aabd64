"""What keeps a recorder or a launcher from starting where it would lose or mix something: one line each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the recorder needs torch")

from launched.recorded_loop import loop, step_names  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from instrumented_runs.launching.launch import LOCK_FILE, check_one_launcher, claimed, clear  # noqa: E402
from instrumented_runs.launching.nodes import Nodes  # noqa: E402
from instrumented_runs.recorder.capture import Window  # noqa: E402
from instrumented_runs.recorder.recording import Recorder  # noqa: E402
from instrumented_runs.recorder.start import guards  # noqa: E402
from traceanalyzer.errors import UsageError  # noqa: E402

NEVER = Window(wait=99)


def test_another_active_profiler_is_told_of_before_anything_is_written(tmp_path: Path) -> None:
    with (
        profile(activities=[ProfilerActivity.CPU]),
        pytest.raises(UsageError, match="another profiler is active"),
        Recorder(tmp_path / "run", window=NEVER),
    ):
        pass
    assert not (tmp_path / "run").exists()


def test_a_profiler_that_starts_later_keeps_the_loop_and_loses_the_window(tmp_path: Path) -> None:
    with Recorder(tmp_path, window=Window(wait=1, warmup=0, active=1)) as recorder:
        with profile(activities=[ProfilerActivity.CPU]), pytest.warns(UserWarning, match="another profiler is active"):
            recorder.step()
        recorder.step()
    assert not (tmp_path / "traces").exists()


def test_a_second_recorder_in_the_process_is_refused(tmp_path: Path) -> None:
    with (
        pytest.warns(UserWarning, match="no trace"),
        Recorder(tmp_path / "one", window=NEVER),
        pytest.raises(UsageError, match=r"records into .*one already"),
        Recorder(tmp_path / "two", window=NEVER),
    ):
        pass


def test_a_recorder_is_entered_once(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, window=NEVER)
    recorder.start()
    with pytest.raises(UsageError, match="is running already"):
        recorder.start()
    recorder.step()  # the refusal left it running
    recorder.abandon()
    with pytest.raises(UsageError, match="has ended"):
        recorder.start()


def test_an_earlier_run_is_replaced_only_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop(tmp_path, 3, Window(wait=0, warmup=1, active=1))
    monkeypatch.setattr(guards, "_recorded", set())  # as another process would find it
    before = (tmp_path / "traces/rank00000.json.gz").read_bytes()
    with pytest.raises(UsageError, match="holds an earlier run"):
        loop(tmp_path, 3, Window(wait=0, warmup=1, active=2))
    assert (tmp_path / "traces/rank00000.json.gz").read_bytes() == before
    loop(tmp_path, 4, Window(wait=0, warmup=1, active=2), replace=True)
    assert step_names(tmp_path / "traces/rank00000.json.gz") == ["ProfilerStep#1", "ProfilerStep#2"]


def test_a_loop_that_ends_within_its_window_says_how_much_is_recorded(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="within the window: 2 of its 5 steps"):
        loop(tmp_path, 3, Window(wait=0, warmup=1, active=5))
    assert step_names(tmp_path / "traces/rank00000.json.gz")[:2] == ["ProfilerStep#1", "ProfilerStep#2"]


def test_a_window_of_no_steps_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing would be recorded"):
        Window(active=0)


def test_copies_of_the_launcher_are_refused_unless_each_is_a_node() -> None:
    step = {"SLURM_PROCID": "0", "SLURM_STEP_ID": "3", "SLURM_NTASKS": "5"}
    with pytest.raises(UsageError, match="srun started 5 copies of this launcher"):
        check_one_launcher(step, Nodes())
    check_one_launcher(step, Nodes(count=5, rank=0, address="a"))
    check_one_launcher({"SLURM_NTASKS": "5", "SLURM_PROCID": "0"}, Nodes())  # a batch script
    check_one_launcher({}, Nodes())


def test_a_second_launcher_is_kept_out_of_a_folder_while_the_first_runs(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from instrumented_runs.launching.launch import claimed\n"
        "with claimed(Path(sys.argv[1])): print('mine')"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    with claimed(tmp_path / "run"):
        clear(tmp_path / "run")  # the lock is no run, and no obstacle
        other = subprocess.run(command, capture_output=True, text=True, check=False)
        assert other.returncode != 0
        assert "another launcher is writing its run here" in other.stderr
    assert not (tmp_path / "run" / LOCK_FILE).exists()
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "mine\n"
