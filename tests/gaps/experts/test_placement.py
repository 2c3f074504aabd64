"""Placement of experts from measured loads, and the file that `plan` writes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import chain
from pathlib import Path

import jsonschema
import polars as pl
import pytest
from inputs.hot_experts import hot_run, with_routing

from traceanalyzer.cli import main
from traceanalyzer.cli.records import schema
from traceanalyzer.errors import UsageError
from traceanalyzer.gaps.experts.placement import PlacementOptions, advice, placement_file, propose
from traceanalyzer.gaps.experts.placement_price import network_price
from traceanalyzer.schema import ROUTING, conform
from traceanalyzer.theory.experts.placement import Placement
from traceanalyzer.theory.interconnect.alpha_beta import Op
from traceanalyzer.theory.interconnect.collectives import exchange_ns
from traceanalyzer.theory.interconnect.topology import find_cluster, group


def routing_table(*steps: list[int]) -> pl.DataFrame:
    """Eight experts on four ranks, two each; one source per rank sends a quarter of each load."""
    rows = [
        (step, 0, "0,1,2,3", source, expert, expert // 2, tokens // 4, "side_file")
        for step, loads in enumerate(steps)
        for expert, tokens in enumerate(loads)
        for source in range(4)
    ]
    return conform(pl.DataFrame(rows, schema=list(ROUTING), orient="row"), ROUTING)


def test_a_placement_is_judged_on_steps_it_was_not_made_from() -> None:
    hot = [400, 400, 40, 40, 40, 40, 40, 40]
    (steady,) = propose(routing_table(hot, hot, hot))
    assert steady.before == pytest.approx(800 * 4 / 1040)
    assert steady.after == pytest.approx(440 * 4 / 1040)  # the two hot experts part
    moving = [[400 if expert == step else 80 for expert in range(8)] for step in range(4)]
    (wandering,) = propose(routing_table(*moving))
    assert wandering.proposed == wandering.current  # no placement helps: each step's hot expert was cold before
    assert wandering.num_moved == 0
    assert advice([wandering], 0, 100.0).saved_ms == 0.0  # type: ignore[union-attr] - there is a layer


def test_redundant_experts_reach_what_packing_cannot() -> None:
    loads = [800, 40, 40, 40, 40, 40, 40, 40]
    (packed,), (replicated,) = (
        propose(routing_table(loads, loads), PlacementOptions(num_redundant=extra)) for extra in (0, 4)
    )
    assert packed.after == pytest.approx(840 * 4 / 1080)
    assert replicated.after == pytest.approx(360 * 4 / 1080)  # five replicas of 160 on four ranks: one holds two and 40
    layer = placement_file([replicated], 4)["layers"][0]
    slots = layer["physical_to_logical"]
    assert len(slots) == 12
    assert [slots[i] for i in layer["logical_to_physical"][0]] == [0] * layer["num_replicas"][0]
    assert sum(layer["num_replicas"]) == 12
    assert [expert for rank in layer["rank_experts"] for expert in rank] == slots


def test_the_network_prices_what_a_placement_moves_between_nodes() -> None:
    """Rank 0's tokens go to experts 6 and 7 of the far node; two replicas of each on every node halve what leaves."""
    rows = [
        (0, 0, "0,1,2,3", source, expert, expert // 2, 1000 if expert > 5 and source == 0 else 0, "side_file")
        for expert in range(8)
        for source in range(4)
    ]
    routing = conform(pl.DataFrame(rows, schema=list(ROUTING), orient="row"), ROUTING)
    cluster = replace(find_cluster("DGX H100"), domain=2)
    (layer,) = propose(routing)
    spread = Placement(((0, 1, 6, 7), (2, 3), (4, 5), (6, 7)))
    found = network_price([replace(layer, proposed=spread)], routing, cluster, 4096.0)
    assert (found.before.far_share, found.after.far_share) == (1.0, 0.5)
    assert found.ranks_per_node == 2
    seconds = 2000 * 4096 / cluster.far_rate(4)
    assert found.before.us == pytest.approx(seconds * 1e6, rel=0.2)
    assert found.before.us - found.after.us == pytest.approx(seconds / 2 * 1e6)


def test_the_price_of_even_tokens_is_that_of_an_even_exchange() -> None:
    routing = routing_table([80] * 8)
    layers = propose(routing)
    cluster = find_cluster("DGX H100")
    found = network_price(layers, routing, cluster, 8192.0)
    assert found.before.us == pytest.approx(exchange_ns(Op.ALL_TO_ALL, 160 * 8192.0, group(cluster, 4), cluster) / 1e3)
    assert found.before.far_share == 0
    with pytest.raises(UsageError, match="do not divide over 3 nodes"):
        network_price(layers, routing, cluster, 8192.0, 3)


@pytest.mark.wide
def test_plan_writes_a_file_and_refuses_what_has_no_expert_loads(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = hot_run(tmp_path / "run")
    assert main(["plan", "experts", str(folder)]) == 3
    assert "loads of single experts are not known" in capfd.readouterr().err
    with_routing(folder)
    out = tmp_path / "placement.json"
    assert main(["plan", "experts", str(folder), "--placement", str(out)]) == 0
    assert "1.50× the mean now" in capfd.readouterr().out
    plan = json.loads(out.read_text())
    assert sorted(plan["layers"][0]["physical_to_logical"]) == [0, 1, 2, 3]
    assert plan["layers"][0]["rank_load_max_over_mean"] == {"before": 1.5, "after": 1.2}
    assert main(["plan", "experts", str(folder), "--json", "-"]) == 0
    proposal = json.loads(capfd.readouterr().out)
    jsonschema.validate(proposal, schema("plan experts"))
    assert (proposal["rank_load_before"], proposal["rank_load_after"]) == (1.5, 1.2)
    assert sorted(chain.from_iterable(proposal["layers"][0]["experts_of_rank"])) == [0, 1, 2, 3]
    assert proposal["network"] is None
    priced = ["plan", "experts", str(folder), "--hardware", "dgx h100", "--token-bytes", "16384"]
    assert main(priced) == 0
    assert re.match(
        r"A dispatch takes [\d.]+ µs on DGX H100 now, .* nodes of 2 ranks; 0% -> 0% of the bytes leave",
        capfd.readouterr().out,
    )
    assert main([*priced, "--nodes", "2", "--json", "-"]) == 0
    spread = json.loads(capfd.readouterr().out)
    jsonschema.validate(spread, schema("plan experts"))
    network = spread["network"]
    assert (network["cluster"], network["ranks_per_node"], network["token_bytes"]) == ("DGX H100", 1, 16384)
    assert network["far_share_before"] > 0
    for wrong, says in (
        (["--hardware", "DGX H1000"], "there is no cluster called 'DGX H1000'"),
        (["--token-bytes", "0"], "Invalid value for '--token-bytes'"),
        (["--nodes", "3"], "2 ranks do not divide over 3 nodes"),
    ):
        assert main([*priced, *wrong]) == 2
        assert says in capfd.readouterr().err
