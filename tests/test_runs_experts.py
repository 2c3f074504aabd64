"""Expert jobs: the load is what was asked for, the side file is what happened, and sharding changes no loss."""

from __future__ import annotations

import dataclasses
from itertools import groupby
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="reference jobs need torch")

from run_jobs import losses, ranges, run_job  # noqa: E402

from instrumented_runs.expert_job import shape  # noqa: E402
from instrumented_runs.experts import Expert  # noqa: E402
from instrumented_runs.routing import assign, deal, quotas  # noqa: E402
from instrumented_runs.settings import ExpertSettings  # noqa: E402
from instrumented_runs.token_task import batch  # noqa: E402
from instrumented_runs.transformer import Attention, Embedding, Head, seed_weights, token_loss  # noqa: E402
from traceanalyzer.errors import UsageError  # noqa: E402
from traceanalyzer.job import ROUTING_FILE, RoutingRecord  # noqa: E402

NUM_STEPS = 4


def small(folder: Path, **changes: object) -> ExpertSettings:
    settings = ExpertSettings(
        folder=str(folder),
        num_ranks=2,
        num_steps=1,
        num_unprofiled_steps=1,
        compute_mode="real",
        hidden_size=16,
        num_heads=2,
        num_experts=4,
        expert_ffn_size=24,
        sequence_length=8,
        sequences_per_shard=3,
        hot_factor=1.5,
    )
    return dataclasses.replace(settings, **changes)


def records(folder: Path, rank: int) -> list[RoutingRecord]:
    lines = (folder / ROUTING_FILE.format(rank=rank)).read_bytes().splitlines()
    return [msgspec.json.decode(line, type=RoutingRecord) for line in lines]


class PlainLayer(torch.nn.Module):
    """The same experts, every token by itself, no exchange: what the job's layer has to equal."""

    def __init__(self, settings: ExpertSettings, layer: int) -> None:
        super().__init__()
        form = shape(settings)
        self.settings, self.layer, self.step = settings, layer, 0
        seed = settings.seed * 10_007
        self.norm = torch.nn.LayerNorm(form.hidden_size)
        self.router = seed_weights(torch.nn.Linear(form.hidden_size, form.num_experts, bias=False), seed + 1002 + layer)
        self.experts = torch.nn.ModuleList(
            seed_weights(Expert(form.hidden_size, form.expert_ffn_size), seed + 2002 + layer * form.num_experts + e)
            for e in range(form.num_experts)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(x).flatten(0, 1)
        probabilities = self.router(tokens).softmax(dim=1)
        shards = probabilities.detach().chunk(self.settings.num_shards)
        chosen = torch.cat([assign(self.settings, p, self.step, self.layer, i) for i, p in enumerate(shards)])
        everything = torch.stack([expert(tokens) for expert in self.experts], dim=1)
        gates = probabilities.gather(1, chosen)
        gates = gates / gates.sum(dim=1, keepdim=True)
        picked = everything.gather(1, chosen.unsqueeze(2).expand(-1, -1, tokens.shape[1]))
        return x + (gates.unsqueeze(2) * picked).sum(1).view_as(x)


def single_process_losses(settings: ExpertSettings) -> list[float]:
    form, seed = shape(settings), settings.seed * 10_007
    layers = [PlainLayer(settings, layer) for layer in range(form.num_layers)]
    modules: list[torch.nn.Module] = [seed_weights(Embedding(form, settings.sequence_length), seed)]
    for layer, experts in enumerate(layers):
        modules += [seed_weights(Attention(form), seed + 2 + layer), experts]
    model = torch.nn.Sequential(*modules, seed_weights(Head(form), seed + 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    found = []
    for step in range(NUM_STEPS):
        for layer in layers:
            layer.step = step
        rows = settings.num_shards * settings.sequences_per_shard
        inputs, targets = batch(settings.seed, step, rows, settings.sequence_length, settings.vocab_size)
        loss = token_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


@pytest.mark.runs
@pytest.mark.parametrize(("routing", "num_ranks"), [("hot", 2), ("learned", 2), ("uniform", 4)])
def test_sharded_experts_train_as_one_process_does(tmp_path: Path, routing: str, num_ranks: int) -> None:
    settings = small(tmp_path, routing=routing, num_ranks=num_ranks, num_shards=num_ranks)
    run_job("experts", settings)
    sharded = losses(tmp_path, num_ranks)
    assert sharded == pytest.approx(single_process_losses(settings), abs=2e-4)
    assert sharded[-1] < sharded[0]


@pytest.mark.runs
def test_the_side_file_and_the_ranges_tell_what_happened(tmp_path: Path) -> None:
    settings = small(tmp_path, routing="uniform", num_shards=2)
    job = run_job("experts", settings)
    assert (job.layout.dp, job.layout.ep) == (2, 2)
    first, second = records(tmp_path, 0), records(tmp_path, 1)
    assert [(r.step, r.layer) for r in first] == [(s, layer) for s in range(NUM_STEPS) for layer in range(2)]
    for mine, theirs in zip(first, second, strict=True):
        assert mine.group == (0, 1)
        assert sum(mine.tokens_to_expert) == 8 * 3 * 2
        assert mine.send_splits == (sum(mine.tokens_to_expert[:2]), sum(mine.tokens_to_expert[2:]))
        assert mine.receive_splits == (mine.send_splits[0], theirs.send_splits[0])
        assert theirs.receive_splits == (mine.send_splits[1], theirs.send_splits[1])
    parts = [name for name, _ in groupby(name for name, _, _ in ranges(tmp_path, 0, "moe:"))]
    forward = ["router", "count_exchange", "dispatch", "experts", "combine"]
    backward = ["combine_backward", "experts_backward", "dispatch_backward"]
    assert parts == [f"{p}|layer={n}" for n in (0, 1) for p in forward] + [
        f"{p}|layer={n}" for n in (1, 0) for p in backward
    ]


@given(
    visits=st.lists(st.integers(0, 12), min_size=2, max_size=8).filter(lambda v: sum(v) and sum(v) % 12 == 0),
    seed=st.integers(0, 1000),
)
def test_dealt_visits_are_exact_and_no_token_meets_an_expert_twice(visits: list[int], seed: int) -> None:
    table = deal(visits, 12, torch.Generator().manual_seed(seed))
    assert table.shape == (12, sum(visits) // 12)
    assert table.flatten().bincount(minlength=len(visits)).tolist() == visits
    assert all(len(set(row)) == len(row) for row in table.tolist())


@pytest.mark.parametrize(("routing", "hot"), [("hot", 3), ("drifting", 2)])
def test_a_hot_rank_receives_its_factor_of_the_mean_and_the_rest_is_even(routing: str, hot: int) -> None:
    settings = ExpertSettings(folder="", routing=routing, hot_factor=2.4, hot_rank=3)
    visits = quotas(settings, 1000, step=6)
    per_rank = [visits[2 * r] + visits[2 * r + 1] for r in range(4)]
    assert sum(visits) == 2000
    assert per_rank[hot] == 1200
    assert {v for r, v in enumerate(per_rank) if r != hot} <= {266, 267}


def test_balanced_routing_is_exactly_even_and_uniform_routing_is_not() -> None:
    probabilities = torch.full((512, 8), 1 / 8)
    loads = {
        routing: assign(ExpertSettings(folder="", routing=routing), probabilities, 0, 0, 0)
        .flatten()
        .bincount()
        .tolist()
        for routing in ("balanced", "uniform", "zipf")
    }
    assert loads["balanced"] == [128] * 8
    assert len(set(loads["uniform"])) > 1
    assert loads["zipf"][0] > 2 * loads["zipf"][-1]


def test_draws_depend_on_step_layer_and_shard_and_on_nothing_else() -> None:
    settings = ExpertSettings(folder="", routing="uniform")
    flat, skewed = torch.full((64, 8), 1 / 8), torch.rand(64, 8)
    assert assign(settings, flat, 1, 0, 2).equal(assign(settings, skewed, 1, 0, 2))
    draws = [assign(settings, flat, *at) for at in [(1, 0, 2), (2, 0, 2), (1, 1, 2), (1, 0, 3)]]
    assert all(not a.equal(b) for i, a in enumerate(draws) for b in draws[:i])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"routing": "warm"}, "no routing is called 'warm'"),
        ({"num_experts": 6}, "6 experts cannot be shared by 4 ranks"),
        ({"hot_factor": 4.5}, "cannot be 4.5 times hot"),
        ({"hot_rank": 4}, "rank 4 of 4"),
        ({"num_experts": 4, "hot_factor": 2.4}, "cannot be 2.4 times hot"),
    ],
)
def test_impossible_loads_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ExpertSettings(folder="", **changes)
