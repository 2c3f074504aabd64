"""What a slow stage, a slow rank and a late start come to in the review, its text and the report, against planted truth.

The truth is the event loop that wrote the input: the same step with other durations.
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from inputs.planted_ops import MS, Planted, run_steps

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.cli import main
from traceanalyzer.review.words import milliseconds

SHAPE = (4, 1, 8)
"""Stages, replicas, microbatches; 10 ms forward, 20 ms backward: the clean step is (8 + 3)·30 = 330 ms."""
CLEAN_MS = 330
MODEL = {
    "model_type": "llama", "num_hidden_layers": 16, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4,
    "intermediate_size": 256, "vocab_size": 512, "tie_word_embeddings": False,
}  # fmt: skip


def length_ms(planted: Planted, shape: tuple[int, int, int] = SHAPE) -> float:
    """The step, from the event loop."""
    return run_steps(*shape, planted)[2][0] / MS


def op_table(folder: Path, planted: Planted, shape: tuple[int, int, int] = SHAPE) -> Path:
    """Two steps as an op table."""
    rows = pl.DataFrame(run_steps(*shape, planted, num_steps=2)[0], infer_schema_length=None)
    path = folder / "ops.csv"
    duration = (pl.col("end_ns") - pl.col("start_ns")).alias("duration_ns")
    rows.rename({"phase": "kind"}).select(
        "rank", "stage", "step", "kind", "microbatch", "start_ns", duration
    ).write_csv(path)
    return path


def test_worth_is_withheld_where_the_replay_misses_and_blame_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An op table tells no launches: a late start of 15 ms has no known reason, and no replay knows of it."""
    table = op_table(tmp_path, Planted().host_stall(2, 6, 15 * MS).slow_stage(0, 1.1))
    review = analyze(read(table)).review
    bubble = review.bubble
    assert bubble is not None
    assert bubble.measured_share is not None  # a whole pipeline
    assert bubble.replay_error == pytest.approx(1 - length_ms(Planted().slow_stage(0, 1.1)) / bubble.phase_ms, rel=1e-6)
    assert bubble.replay_error > 0.02
    assert bubble.worth == []
    reasons = [each.reason for each in review.quality.withheld if each.metric == "bubble.worth"]
    assert reasons == [
        f"the replay of all steps misses their measured length by {bubble.replay_error:.1%} (limit 2%)"
    ]  # fmt: skip
    parts = bubble.attribution_ms
    assert parts is not None
    assert parts.unexplained > 0
    assert {each.cause for each in bubble.culprits} >= {"unexplained", "stage"}
    assert parts.ideal + sum(each.ms for each in bubble.culprits) == pytest.approx(parts.measured)
    assert main(["analyze", str(table), "--full"]) == 0
    text = capsys.readouterr().out
    assert reasons[0] in text
    assert "What each remedy would save" not in text
    assert "unexplained" in text


def test_a_slow_stage_has_two_worths(tmp_path: Path) -> None:
    """Evened: every stage takes the mean of all; repaired: the slow one takes their median."""
    slow = Planted().slow_stage(1, 1.4)
    bubble = analyze(read(op_table(tmp_path, slow))).review.bubble
    assert bubble is not None
    worth = {each.remedy.partition(":")[0]: each.ms for each in bubble.worth if each.cause == "stage"}
    evened = Planted()
    for stage in range(4):
        evened.slow_stage(stage, 1.1)
    assert worth == {
        "repair stage 1": pytest.approx(length_ms(slow) - CLEAN_MS),
        "even the stages to their mean": pytest.approx(length_ms(slow) - length_ms(evened)),
    }


@pytest.mark.sweep(1)
@pytest.mark.parametrize(("stage", "factor"), [(0, 1.3), (1, 1.5), (3, 2.0)])
def test_the_slowdown_of_a_slow_stage_is_the_event_loop_s(stage: int, factor: float, tmp_path: Path) -> None:
    slow = Planted().slow_stage(stage, factor)
    found = analyze(read(op_table(tmp_path, slow))).review.stragglers
    assert [(each.rank, each.stage, each.cause) for each in found] == [(stage, [stage], "stage or rank")]
    assert found[0].slowdown == pytest.approx(length_ms(slow) / CLEAN_MS)
    assert found[0].cost_ms == pytest.approx(length_ms(slow) - CLEAN_MS)


def test_the_slowdown_of_one_worker_among_replicas_is_its_own(tmp_path: Path) -> None:
    """Rank 4 (stage 1, replica 1) ×1.4 on top of stage 1 ×1.2: each worker's S has its own durations alone."""
    shape = (3, 3, 6)
    table = op_table(tmp_path, Planted().slow_stage(1, 1.2).straggler(4, 1.4), shape)
    review = analyze(read(table)).review
    found = {(each.rank, each.cause): each for each in review.stragglers}
    clean = length_ms(Planted(), shape)
    assert found[4, "straggler"].slowdown == pytest.approx(length_ms(Planted().straggler(4, 1.2 * 1.4), shape) / clean)
    assert found[4, "straggler"].stage == [1]
    assert found[4, "stage"].slowdown == found[4, "straggler"].slowdown  # one worker, two causes
    costs = found[4, "straggler"].cost_ms + found[4, "stage"].cost_ms
    assert costs == pytest.approx(length_ms(Planted().straggler(4, 1.2 * 1.4), shape) - clean, rel=0.01)


@pytest.mark.wide
def test_what_follows_from_a_slow_stage_is_in_review_text_and_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = op_table(tmp_path, Planted().slow_stage(1, 1.5))
    (tmp_path / "config.json").write_text(json.dumps(MODEL))
    job = ["--job", str(tmp_path / "config.json"), "--tokens-per-step", "4096", "--sequence-length", "128"]
    output = tmp_path / "review.json"
    assert main(["analyze", str(table), *job, "--full", "--json", str(output)]) == 0
    text = capsys.readouterr().out
    following = json.loads(output.read_text())["next_schedules"]
    current = [each for each in following["options"] if each["is_current"]]
    assert [each["schedule"] for each in current] == ["1F1B"]
    # Equal stages at the mean of this run's, (1 + 1.5 + 1 + 1) / 4 of 30 ms: 11 of them with 1F1B.
    assert current[0]["phase_ms"] == pytest.approx(11 * 30 * 4.5 / 4)
    by_memory = {each["schedule"]: each["memory_ratio"] for each in following["options"]}
    assert (by_memory["1F1B"], by_memory["GPipe"]) == (1, 2)
    move = following["layers_to_move"]
    moved = Planted().slow_stage(1, 1.25).slow_stage(move["to_stage"], 1.25)
    assert (move["from_stage"], move["num_layers"]) == (1, 1)
    assert move["saves_ms"] == pytest.approx(length_ms(Planted().slow_stage(1, 1.5)) - length_ms(moved))
    assert "Schedules at this run's times" in text
    assert "same global batch" in text
    said = (
        f"Moving 1 layer from stage 1 to stage {move['to_stage']} would save {milliseconds(move['saves_ms'])} per step"
    )
    assert said in text
    page = tmp_path / "page.html"
    assert main(["report", str(table), *job, "-o", str(page)]) == 0
    shown = page.read_text()
    assert "Schedules to try next" in shown
    assert said in shown
