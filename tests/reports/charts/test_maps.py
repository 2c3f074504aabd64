"""What the maps and scatters of the report are drawn from."""

from __future__ import annotations

import random

import polars as pl
import pytest

from reports.sections.devices.communication import fitted, sized
from reports.sections.devices.roofline import roofline_chart
from reports.sections.experts.heat import bytes_matrix, expert_heat, layer_loads
from reports.sections.waits import waiting_chart
from traceanalyzer.schema import TABLES


def routing(loads: dict[tuple[int, int], int]) -> pl.DataFrame:
    """One step's copies by (layer, expert), from one rank."""
    rows = [
        {"step": 7, "layer": layer, "group": "0", "rank": 0, "expert": expert, "expert_rank": 0, "tokens": tokens, "source": "side_file"}
        for (layer, expert), tokens in loads.items()
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=TABLES["routing"].schema)


def test_a_load_is_beyond_chance_by_two_standard_deviations_of_the_binomial() -> None:
    loads = layer_loads(routing({(3, 0): 1300, (3, 1): 900, (3, 2): 950, (3, 3): 850}))
    hot = loads.filter(pl.col("expert") == 0).row(0, named=True)
    assert hot["ratio"] == pytest.approx(1.3)
    assert hot["chance"] == pytest.approx(2 * (3 / 4000) ** 0.5)


def test_experts_that_got_nothing_are_cells_too() -> None:
    loads = layer_loads(routing({(0, 0): 40, (0, 5): 60, (1, 0): 100}))
    assert loads.filter((pl.col("layer") == 1) & (pl.col("expert") == 5))["ratio"].to_list() == [0.0]


def test_the_map_names_the_hottest_expert_and_says_when_none_is() -> None:
    hot = expert_heat(routing({(4, 0): 100, (4, 1): 900, (4, 2): 100}))
    even = expert_heat(routing({(4, 0): 1000, (4, 1): 1010, (4, 2): 990}))
    assert hot is not None
    assert even is not None
    assert "Hottest: expert 1 of layer 4, 2.45× the mean." in hot.label
    assert "No expert is above what chance gives." in even.label
    assert expert_heat(routing({})) is None


def traffic(rows: list[tuple[int, int, int]]) -> pl.DataFrame:
    named = [{"step": 2, "source": a, "target": b, "bytes": size} for a, b, size in rows]
    return pl.concat([pl.DataFrame(schema=TABLES["traffic"].schema), pl.DataFrame(named)], how="diagonal_relaxed")


def test_bytes_stand_between_hosts_where_hosts_are_recorded() -> None:
    sent = traffic([(0, 1, 1 << 20), (1, 0, 1 << 21), (2, 3, 1 << 20), (3, 0, 512)])
    hosts = pl.DataFrame({"rank": [0, 1, 2, 3], "host": ["a", "a", "b", "b"]})
    drawn, unknown = bytes_matrix(sent, hosts), bytes_matrix(sent, hosts.head(2))
    assert drawn is not None
    assert unknown is not None
    assert "lines stand between the 2 hosts" in drawn.caption
    assert "the ranks' hosts are not recorded" in unknown.caption
    assert drawn.numbers is not None
    assert drawn.numbers.rows[0] == ("1", "0", "2.00 MiB")


def test_the_rank_that_is_waited_for_is_late_only_above_the_noise() -> None:
    sums = pl.DataFrame({"waiter": [0, 1, 2], "culprit": [5, 5, 1], "ms": [4.0, 3.0, 0.5]})
    late, quiet = (waiting_chart(sums, "w", "Waits", "blame", least) for least in (1.0, 10.0))
    assert late is not None
    assert quiet is not None
    assert "Most waiting is for rank 5: 7.00 ms per step" in late.caption
    assert "▲5" in late.draw().xaxis[0].major_label_overrides.values()
    assert "▲5" not in quiet.draw().xaxis[0].major_label_overrides.values()
    assert waiting_chart(sums.clear(), "w", "Waits", "blame", 1.0) is None


def bandwidths(alpha_us: float, beta: float, sizes: list[float]) -> pl.DataFrame:
    noise = random.Random(11)  # noqa: S311 - noise
    rows = [
        {
            "dimension": "ep", "kind": "all_to_all", "num_ranks": 6, "between_hosts": False, "num_operations": 9, "mean_bytes": size,
            "median_transfer_ns": 1e3 * (alpha_us + 1e6 * size / beta) * noise.uniform(0.98, 1.02), "bus_bytes_per_second": beta,
        }
        for size in sizes
    ]  # fmt: skip
    return pl.concat([pl.DataFrame(schema=TABLES["bandwidths"].schema), pl.DataFrame(rows)], how="diagonal_relaxed")


def test_latency_and_bandwidth_are_found_again() -> None:
    (line,) = fitted(sized(bandwidths(18.0, 90e9, [2.0**at for at in range(10, 28, 3)])))
    assert line.alpha_us == pytest.approx(18.0, rel=0.05)
    assert line.beta == pytest.approx(90e9, rel=0.1)
    assert line.name == "ep · all to all · 6 ranks"


@pytest.mark.parametrize("sizes", [[2.0**20, 2.0**21], [1e6, 1.5e6, 2e6]])
def test_too_few_or_too_close_sizes_give_no_line(sizes: list[float]) -> None:
    assert fitted(sized(bandwidths(18.0, 90e9, sizes))) == []


def test_a_line_has_no_negative_latency() -> None:
    (line,) = fitted(sized(bandwidths(0.0, 90e9, [2.0**at for at in range(12, 28, 2)])))
    assert line.alpha_us >= 0


def test_the_roof_is_sloped_and_then_flat() -> None:
    rows = [
        {"name": "mm", "kind": "gemm", "shape": "a", "flops": 10**12, "bytes": 10**9, "flops_per_second": 3e14, "roof_flops_per_second": 5e14, "roof_share": 0.6},
        {"name": "mm", "kind": "gemm", "shape": "b", "flops": 10**9, "bytes": 10**8, "flops_per_second": 1e13, "roof_flops_per_second": 2e13, "roof_share": 0.5},
    ]  # fmt: skip
    table = pl.concat([pl.DataFrame(schema=TABLES["roofline"].schema), pl.DataFrame(rows)], how="diagonal_relaxed")
    drawn = roofline_chart(table)
    assert drawn is not None
    assert drawn.numbers is not None
    figure = drawn.draw()
    (roof,) = [each.data_source.data for each in figure.renderers if type(each.glyph).__name__ == "Line"]
    assert list(roof["y"])[1:] == pytest.approx([500.0, 500.0])
    assert list(roof["x"])[1] == pytest.approx(250.0)  # 500 TFLOP/s at 2 TB/s
    assert roofline_chart(table.clear()) is None
