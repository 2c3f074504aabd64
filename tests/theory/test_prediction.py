"""`traceanalyzer predict`: several schedules on one axis, from times or a model, as text and as JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest

from reports.charts.prediction import bars_of
from traceanalyzer.cli import main
from traceanalyzer.errors import DomainError, UsageError
from traceanalyzer.model_configs import find_preset
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.model.stage_times import from_model, from_times
from traceanalyzer.theory.prediction.comparison import SWEEP, Refusal, Workload, predict, predict_all, sweep
from traceanalyzer.theory.schedules.order_csv import read_orders, write_orders
from traceanalyzer.theory.schedules.orders import order
from traceanalyzer.theory.simulator.op_times import OpTimes, PairMode, SendMode

S = ScheduleName
EVEN = from_times(4, (10e6, 10e6, 10e6))


def predicted_json(capsysbinary: pytest.CaptureFixture[bytes], *arguments: str) -> dict[str, object]:
    assert main(["predict", *arguments, "--json", "-"]) == 0
    found: dict[str, object] = json.loads(capsysbinary.readouterr().out)
    return found


def test_the_textbook_question(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    found = predicted_json(capsysbinary, "-s", "gpipe,1f1b,interleaved,sequential", "-p", "4", "-m", "16")
    shares = {each["name"]: round(each["bubble_share"], 4) for each in found["schedules"]}  # type: ignore[attr-defined] - JSON
    assert shares == {"GPipe": 0.1579, "1F1B": 0.1579, "Interleaved1F1B": 0.0857, "Sequential": 0.75}
    for each in found["schedules"]:  # type: ignore[attr-defined] - JSON
        assert each["closed_form"]["bubble_share"] == pytest.approx(each["bubble_share"])


def test_text_sets_simulation_beside_formula_and_draws_one_axis(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "-s", "1f1b,gpipe,dualpipe", "-p", "4", "-m", "9"]) == 0
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if line.startswith("    1F1B "))
    assert row.split()[1:4] == ["25.0%", "25.0%", "33.3%"]
    assert "! DualPipe: DualPipe feeds from both ends" in text
    timelines = [line for line in text.splitlines() if line.startswith("    0 ")]
    assert len(timelines) == 2
    assert all("F" in line and "B" in line and "·" in line for line in timelines)


def test_a_schedule_alone_that_does_not_exist_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "-s", "dualpipe", "-p", "3", "-m", "8"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[0].startswith("traceanalyzer: DualPipe feeds from both ends")
    assert "4 ranks" in error[1]


def test_an_order_from_a_file_is_simulated_and_recognised(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(write_orders(order(S("1F1B"), 4, 16)), encoding="utf-8")
    found = predicted_json(capsysbinary, "--order", str(path), "-p", "4", "-m", "16")
    (each,) = found["schedules"]  # type: ignore[misc] - JSON
    assert (each["name"], each["schedule"]) == ("mine.csv", "1F1B")
    assert each["bubble_share"] == pytest.approx(3 / 19)


def test_a_deadlock_in_a_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "stuck.csv"
    path.write_text("0F0,0B0\n1B0,1F0\n", encoding="utf-8")
    assert main(["predict", "--order", str(path), "-p", "2", "-m", "1"]) == 3
    assert "rank 1 waits to run 1B0 for 1F0" in capsys.readouterr().err


def test_sweep_over_microbatches(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    found = predicted_json(capsysbinary, "-s", "1f1b,zbv", "-p", "4", "-m", "8", "--sweep", "microbatches=4,8,16,32")
    rows = found["sweep"]["rows"]  # type: ignore[index] - JSON
    shares = [row["bubble_share"] for row in rows if row["schedule"] == "1F1B"]
    assert shares == pytest.approx([3 / (m + 3) for m in (4, 8, 16, 32)])
    assert sum(row["schedule"] == "ZBVZeroBubble" for row in rows) == 4


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["-p", "4", "-m", "8"], "no schedule was named"),
        (["-s", "what", "-p", "4", "-m", "8"], "there is no schedule called 'what'"),
        (["-s", "1f1b", "-p", "4", "-m", "8", "--forward-ms", "nan"], "is not a finite number"),
        (["-s", "1f1b", "-p", "4", "-m", "8", "--forward-ms", "1", "--weight-ms", "5"], "longer than the backward"),
        (["-s", "1f1b", "-p", "4", "-m", "8", "--stage-scale", "1,2"], "2 factors do not scale 4 stages"),
        (["-s", "1f1b", "-p", "4", "-m", "8", "--stage-scale", "1,x,1,1"], "is not a list of numbers"),
        (["-s", "1f1b", "-p", "4", "-m", "8", "--device", "A100"], "--device needs a model"),
        (["-s", "1f1b", "-p", "4", "-m", "8", "--link-gbps", "50"], "without the size of a message"),
        (["-s", "1f1b", "-p", "4", "-m", "8", "--sweep", "ranks=2"], "'ranks' cannot be varied"),
        (["-s", "1f1b", "-p", "4", "-m", "8", "--sweep", "stages=0"], "must be at least 1"),
        (["-s", "1f1b", "-p", "4", "-m", "8", "--sweep", "microbatches=8,1e9"], "actions"),
        (["-s", "1f1b,zbv", "-p", "4", "-m", "8", "--write-order", "x"], "only one order"),
        (["-s", "all", "-p", "4", "-m", "8", "--write-order", "x"], "only one order"),
        (["-s", "1f1b", "-p", "9999", "-m", "9999"], "actions"),
        (["-s", "1f1b", "-p", "4", "-m", "8", "--model", "gpt2", "--forward-ms", "3"], "both give times"),
    ],
)
def test_wrong_usage_is_two_lines_and_status_2(
    arguments: list[str], fact: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert fact in lines[0]


def test_times_from_a_model(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    found = predicted_json(
        capsysbinary, "-s", "1f1b", "-p", "4", "-m", "8", "--model", "llama-3-8b", "--device", "H100 SXM",
        "--sequence", "8192", "--efficiency", "0.5",
    )  # fmt: skip
    (each,) = found["schedules"]  # type: ignore[misc] - JSON
    # 8 microbatches of 8192 tokens at about 6 FLOP per parameter (8.0e9, attention on top), 4 ranks, half of 989 TFLOP/s
    least = 8 * 8192 * 6 * 7.5e9 / (989.4e12 / 2) * 1e3
    assert least < sum(each["busy_ms"]) < 1.5 * least
    assert found["inputs"]["message_bytes"] == 8192 * 4096 * 2  # type: ignore[index] - JSON
    assert each["no_closed_form"] == "stages take unequal times"


def test_a_model_costs_the_same_however_it_is_cut() -> None:
    shape = find_preset("llama-3-8b").shape
    cut = from_model(shape, 4096, 4096, 1e14)
    coarse, fine = cut(4), cut(16)
    for times in ("forward_ns", "input_gradient_ns", "weight_gradient_ns"):
        assert sum(getattr(fine, times)) == pytest.approx(sum(getattr(coarse, times)), rel=1e-6)
    assert sum(coarse.input_gradient_ns) + sum(coarse.weight_gradient_ns) == pytest.approx(
        2 * sum(coarse.forward_ns), rel=1e-6
    )
    assert coarse.weight_gradient_ns[0] < coarse.forward_ns[0] < coarse.input_gradient_ns[0]
    with pytest.raises(DomainError, match="cannot be cut into 33 stages"):
        cut(33)


def test_factors_follow_the_layers_into_a_finer_cut() -> None:
    cut = from_times(2, (10.0, 10.0, 10.0), [1.0, 3.0])
    assert cut(2).forward_ns == (10, 30)
    assert cut(4).forward_ns == (5, 5, 15, 15)
    assert not cut(4).uniform
    with pytest.raises(UsageError, match="do not fit a cut into 3"):
        cut(3)


def test_a_slow_stage_costs_more_than_its_bubble() -> None:
    """With one stage twice as long the period is that stage's: the others wait for it."""
    slow = predict(
        S("1F1B"), Workload(num_ranks=4, num_microbatches=32, cut=from_times(4, (1e6, 1e6, 1e6), [1, 1, 2, 1]))
    )
    assert slow.simulation.makespan_ns > 32 * 6e6
    assert slow.closed_form is None
    assert slow.no_closed_form == "stages take unequal times"


def test_peak_memory_in_bytes_is_what_is_in_flight() -> None:
    workload = Workload(num_ranks=4, num_microbatches=8, cut=EVEN, activation_bytes=2**30)
    for name in (S("GPipe"), S("1F1B"), S("Interleaved1F1B"), S("ZBVZeroBubble"), S("DualPipe")):
        found = predict(name, workload)
        assert found.peak_bytes == tuple(round(held * 2**30) for held in found.peak_in_flight)


def test_formulas_are_withheld_where_the_simulation_has_more_in_it() -> None:
    def reason(costs: OpTimes, name: str = "1F1B") -> str:
        return predict(S(name), Workload(num_ranks=4, num_microbatches=8, cut=EVEN, costs=costs)).no_closed_form

    assert reason(OpTimes(forward_ns=0)) == ""
    assert "hold ranks" in reason(OpTimes(forward_ns=0, sends=SendMode.BLOCKING))
    assert "overlapped pairs" in reason(OpTimes(forward_ns=0, pair_share=0.8), S("DualPipe"))
    assert "overlapped pairs" in reason(OpTimes(forward_ns=0, pairs=PairMode.SERIAL), S("DualPipeV"))
    assert reason(OpTimes(forward_ns=0, pairs=PairMode.SERIAL_LATE), S("DualPipeV")) == ""
    assert "overlapped pairs" in reason(OpTimes(forward_ns=0, hop_ns=9, pairs=PairMode.SERIAL_LATE), S("DualPipeV"))


def test_a_sweep_has_one_row_per_point_and_names_what_does_not_exist() -> None:
    workloads = [Workload(num_ranks=4, num_microbatches=m, cut=EVEN) for m in (4, 8)]
    table, refusals = sweep([S("1F1B"), S("DualPipe")], workloads)
    assert table.schema == SWEEP
    assert table.select("schedule", "num_microbatches").rows() == [("1F1B", 4), ("1F1B", 8), ("DualPipe", 8)]
    assert [refusal.title for refusal in refusals] == ["DualPipe"]
    chunks = [Workload(num_ranks=4, num_microbatches=8, cut=EVEN, num_chunks=v) for v in (2, 3)]
    table, _ = sweep([S("1F1B"), S("LoopedBFS")], chunks)
    assert table.filter(pl.col("schedule") == "1F1B").height == 1  # it has no chunks to vary


def test_a_refusal_does_not_stop_the_others() -> None:
    found = predict_all(
        [S("DualPipe"), S("GPipe")], Workload(num_ranks=3, num_microbatches=4, cut=from_times(3, (1, 1, 1)))
    )
    assert isinstance(found[0], Refusal)
    assert not isinstance(found[1], Refusal)


def page_of(tmp_path: Path, *arguments: str) -> str:
    path = tmp_path / "page.html"
    assert main(["predict", *arguments, "--html", str(path)]) == 0
    return path.read_text(encoding="utf-8")


@pytest.mark.wide
def test_the_page_is_one_file_with_everything_in_it(tmp_path: Path) -> None:
    page = page_of(tmp_path, "-s", "1f1b,zbv,dualpipe", "-p", "4", "-m", "8", "--sweep", "microbatches=8,16")
    assert "ZBVZeroBubble is the shortest: its bubble takes <b>5.88" in page
    for part in ('id="schedules"', 'id="timelines"', 'id="memory"', 'id="sweep"', "(P−1)·T"):
        assert part in page
    outside_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#)|url\(', outside_scripts)
    assert "https://cdn" not in page
    record = json.loads(re.findall(r'<script type="application/json" id="prediction">(.*?)</script>', page)[0])
    assert [each["name"] for each in record["schedules"]] == ["1F1B", "ZBVZeroBubble", "DualPipe"]


def test_an_order_is_written_for_pytorch_and_read_back(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "dualpipe.csv"
    assert main(["predict", "-s", "dualpipe", "-p", "4", "-m", "8", "--write-order", str(path)]) == 0
    assert read_orders(path.read_bytes().decode()) == order(S("DualPipe"), 4, 8)
    capsysbinary.readouterr()
    assert main(["predict", "-s", "gpipe", "-p", "2", "-m", "1", "--write-order", "-"]) == 0
    assert capsysbinary.readouterr().out == b"0F0,0B0\r\n1F0,1B0\r\n"


def test_schedules_that_deadlock_with_their_sends_are_named_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["predict", "-s", "gpipe,1f1b", "-p", "2", "-m", "4", "--sends", "rendezvous"]) == 0
    text = capsys.readouterr().out
    assert "! 1F1B: the order deadlocks: rank 0 waits to send the result of 0F1 to rank 1" in text
    assert main(["predict", "-s", "1f1b", "-p", "2", "-m", "4", "--sends", "rendezvous"]) == 3


def test_orders_of_other_sizes_are_not_set_on_one_axis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "far.csv"
    path.write_text("0F999999999,0B999999999\n", encoding="utf-8")
    assert main(["predict", "--order", str(path), "-p", "2", "-m", "1"]) == 2
    assert main(["predict", "--order", str(path), "-p", "1", "-m", "2"]) == 2
    assert "give --microbatches 1" in capsys.readouterr().err
    assert main(["predict", "--order", str(path), "-p", "1", "-m", "1"]) == 0  # a far number takes no memory


def test_a_file_name_cannot_become_markup(tmp_path: Path) -> None:
    evil = tmp_path / "<img src=x onerror=alert(1)>.csv"
    evil.write_text(write_orders(order(S("GPipe"), 2, 3)), encoding="utf-8")
    page = page_of(tmp_path, "--order", str(evil), "-p", "2", "-m", "3")
    assert "<img" not in page
    assert "&lt;img" in page


def test_bars_of_a_page_have_a_limit_and_say_what_is_left_out() -> None:
    workload = Workload(num_ranks=4, num_microbatches=8, cut=EVEN)
    found = [predict(name, workload) for name in (S("GPipe"), S("1F1B"), S("ZBVZeroBubble"))]
    bars, left_out = bars_of(found, limit=130)
    assert bars["schedule"].unique().sort().to_list() == ["1F1B", "GPipe"]
    assert left_out == ["ZBVZeroBubble"]
    assert (
        bars.filter(pl.col("schedule") == "1F1B")["row"].min() == 5.25
    )  # below GPipe's four rows and the name's place


def test_an_overlapped_pair_is_drawn_as_two_halves_of_one_bar() -> None:
    bars, _ = bars_of([predict(S("DualPipe"), Workload(num_ranks=4, num_microbatches=8, cut=EVEN))])
    halves = bars.filter(pl.col("height") < 0.5)
    assert set(halves["phase"]) == {"F", "B"}
    assert halves.filter(pl.col("phase") == "F")["offset"].unique().to_list() == [-0.21]
