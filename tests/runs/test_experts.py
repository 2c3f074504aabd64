"""Expert jobs: the load is what was asked for, the side file is what happened, and sharding changes no loss."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import groupby
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="reference jobs need torch")

from launched.run_jobs import losses, ranges, run_job  # noqa: E402

from instrumented_runs.descriptions import shape_of  # noqa: E402
from instrumented_runs.experts.layer import placed  # noqa: E402
from instrumented_runs.experts.mlps import Expert, compute_experts, grouped_multiply  # noqa: E402
from instrumented_runs.experts.routing import assign, deal  # noqa: E402
from instrumented_runs.jobs.experts import homes  # noqa: E402
from instrumented_runs.jobs.token_task import batch  # noqa: E402
from instrumented_runs.jobs.transformer import Attention, Embedding, Head, seed_weights, token_loss  # noqa: E402
from instrumented_runs.settings import ExpertSettings  # noqa: E402
from instrumented_runs.settle import settle  # noqa: E402
from traceanalyzer.cli.options.experts import read_placement  # noqa: E402
from traceanalyzer.errors import InputError, UsageError  # noqa: E402
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
        form = shape_of(settings)
        self.settings, self.layer, self.step = settings, layer, 0
        seed = settings.seed * 10_007
        self.norm = torch.nn.LayerNorm(form.hidden_size)
        self.router = seed_weights(torch.nn.Linear(form.hidden_size, form.num_experts, bias=False), seed + 1002 + layer)
        self.experts = torch.nn.ModuleList(
            seed_weights(Expert(form.hidden_size, form.expert_ffn_size), seed + 2002 + layer * form.num_experts + e)
            for e in range(form.num_experts)
        )
        inner = settings.shared_ffn_size
        self.shared = seed_weights(Expert(form.hidden_size, inner), seed + 1502 + layer) if inner else None
        self.num_dropped = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(x).flatten(0, 1)
        probabilities = self.router(tokens).softmax(dim=1)
        sizes = [number * self.settings.sequence_length for number in self.settings.sequences_of_shards]
        shards = probabilities.detach().split(sizes)
        chosen = [assign(self.settings, p, self.step, self.layer, i) for i, p in enumerate(shards)]
        kept = torch.cat([self.with_room(c) for c in chosen])
        chosen = torch.cat(chosen)
        everything = torch.stack([expert(tokens) for expert in self.experts], dim=1)
        gates = probabilities.gather(1, chosen)
        gates = kept * gates / gates.sum(dim=1, keepdim=True)
        picked = everything.gather(1, chosen.unsqueeze(2).expand(-1, -1, tokens.shape[1]))
        beside = self.shared(tokens) if self.shared is not None else 0.0
        return x + ((gates.unsqueeze(2) * picked).sum(1) + beside).view_as(x)

    def with_room(self, chosen: torch.Tensor) -> torch.Tensor:
        """Which copies of a shard find room: one after the other, every expert takes what it has slots for."""
        factor = self.settings.capacity_factor
        slots = math.ceil(factor * chosen.numel() / self.settings.num_experts) if factor else chosen.numel()
        taken = [0] * self.settings.num_experts
        kept = []
        for expert in chosen.flatten().tolist():
            kept.append(taken[expert] < slots)
            taken[expert] += 1
        self.num_dropped += len(kept) - sum(kept)
        return torch.tensor(kept).view_as(chosen)


def single_process(settings: ExpertSettings) -> tuple[list[float], int]:
    """Losses of the job in one process, and how many copies it dropped."""
    form, seed = shape_of(settings), settings.seed * 10_007
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
    return found, sum(layer.num_dropped for layer in layers)


SWAPPED = (((3, 0), (1, 2)), ((2, 1), (3, 0)))


@pytest.mark.sweep(2)
@pytest.mark.runs
@pytest.mark.parametrize(
    "changes",
    [
        {"routing": "hot"},
        {"routing": "ragged-sources", "hot_factor": 1.4},
        {"routing": "learned", "shared_ffn_size": 20},
        {"routing": "uniform", "num_ranks": 4, "num_shards": 4},
        {"routing": "zipf", "capacity_factor": 1.0, "gemm_alignment": 8},
        {"routing": "zipf", "capacity_factor": 1.0, "pad_to_capacity": True, "grouped_gemm": True},
        {"routing": "learned", "placement": SWAPPED, "num_shards": 4, "hot_factor": 1.0},
        {"routing": "zipf", "experts_by": "tp", "shared_ffn_size": 20},
        {"routing": "learned", "experts_by": "tp", "capacity_factor": 1.0, "grouped_gemm": True},
    ],
    ids=str,
)
def test_sharded_experts_train_as_one_process_does(tmp_path: Path, changes: dict[str, object]) -> None:
    settings = small(tmp_path, **({"num_shards": 2} | changes))
    run_job("experts", settings)
    sharded = losses(tmp_path, settings.num_ranks)
    alone, num_dropped = single_process(settings)
    assert sharded == pytest.approx(alone, abs=2e-4)
    assert sharded[-1] < sharded[0]
    noted = [record for rank in range(settings.num_ranks) for record in records(tmp_path, rank)]
    assert sum(record.dropped for record in noted) == num_dropped
    assert (num_dropped > 0) == (settings.capacity_factor > 0)
    assert all(sum(record.dropped_to_expert) == record.dropped for record in noted)
    if settings.experts_by == "ep":
        for record in noted:
            assert sum(record.send_splits) == sum(record.tokens_to_expert) - record.dropped + record.filling_rows


@pytest.mark.runs
def test_the_side_file_and_the_ranges_show_what_happened(tmp_path: Path) -> None:
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
    forward = ["router", "permute", "count_exchange", "dispatch", "experts", "combine", "unpermute"]
    backward = ["combine_backward", "experts_backward", "dispatch_backward"]
    assert parts == [f"{p}|layer={n}" for n in (0, 1) for p in forward] + [
        f"{p}|layer={n}" for n in (1, 0) for p in backward
    ]


@st.composite
def visits_of_twelve_tokens(draw: st.DrawFn) -> list[int]:
    """Visits per expert of 12 tokens that each visit as many experts; none is visited twice by a token."""
    num_experts = draw(st.integers(2, 8))
    left = 12 * draw(st.integers(1, num_experts))
    visits: list[int] = []
    for behind in reversed(range(num_experts)):
        visits.append(draw(st.integers(max(0, left - 12 * behind), min(12, left))))
        left -= visits[-1]
    return visits


@given(visits=visits_of_twelve_tokens(), seed=st.integers(0, 1000))
def test_dealt_visits_are_exact_and_no_token_meets_an_expert_twice(visits: list[int], seed: int) -> None:
    table = deal(visits, 12, torch.Generator().manual_seed(seed))
    assert table.shape == (12, sum(visits) // 12)
    assert table.flatten().bincount(minlength=len(visits)).tolist() == visits
    assert all(len(set(row)) == len(row) for row in table.tolist())


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
        ({"routing": "warm"}, "there is no routing called 'warm'"),
        ({"num_experts": 6}, "6 experts cannot be shared by 4 ranks"),
        ({"hot_factor": 4.5}, "cannot be 4.5 times hot"),
        ({"hot_rank": 4}, "rank 4 of 4"),
        ({"routing": "idle-experts", "num_experts": 4, "experts_per_token": 4, "hot_factor": 0}, "1 of 4 are idle"),
        ({"routing": "ragged-sources", "sequences_per_shard": 1}, "each needs one"),
        ({"routing": "ragged-sources", "capacity_factor": 1.0}, "have no capacity"),
        ({"num_experts": 4, "hot_factor": 2.4}, "cannot be 2.4 times hot"),
        ({"experts_by": "cp"}, "cannot be sharded by 'cp'"),
        ({"experts_by": "tp", "expert_ffn_size": 6}, "inner size 6 cannot be sliced over 4 ranks"),
        ({"experts_by": "tp", "capacity_factor": 1.0, "pad_to_capacity": True}, "are on every rank"),
        ({"experts_by": "tp", "faults": ("delay_link:source=0,target=1,ms=5",)}, "a link cannot be slow"),
        ({"pad_to_capacity": True}, "only be filled up to a capacity"),
        ({"gemm_alignment": 0}, "at least 1, got 0"),
        ({"placement": (((0, 1), (2, 3), (4, 5), (6, 6)),) * 2}, "layer 0 of the placement"),
        ({"placement": (((0, 1), (2, 3), (4, 5), (6, 7)),)}, "is of 1 layers"),
    ],
)
def test_impossible_loads_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ExpertSettings(folder="", **changes)


def test_grouped_experts_equal_experts_one_by_one() -> None:
    experts = torch.nn.ModuleList(Expert(16, 32) for _ in range(3))
    rows = torch.randn(21, 16)
    per_expert = torch.tensor([[4, 0, 5], [2, 0, 10]])
    grouped = grouped_multiply(torch.float32, torch.device("cpu"))
    plain = compute_experts(experts, per_expert)(rows)
    for alignment in (1, 8):
        assert torch.allclose(compute_experts(experts, per_expert, alignment, grouped)(rows), plain, atol=1e-6)
        assert torch.allclose(compute_experts(experts, per_expert, alignment)(rows), plain, atol=1e-6)
    first = experts[0](torch.cat([rows[:4], rows[9:11]]))
    assert torch.allclose(plain[torch.tensor([0, 1, 2, 3, 9, 10])], first, atol=1e-6)


def test_without_grouped_multiplication_the_job_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.nn.functional, "grouped_mm", raising=False)
    monkeypatch.delattr(torch, "_grouped_mm", raising=False)
    with pytest.raises(UsageError, match=r"no grouped matrix multiplication of torch\.float32 on cpu"):
        grouped_multiply(torch.float32, torch.device("cpu"))


def test_the_file_of_plan_becomes_the_runs_placement(tmp_path: Path) -> None:
    layers = [
        {"layer": layer, "group": [0, 1, 2, 3], "rank_experts": [[7, 1], [2, 3], [4, 5], [6, 0]]} for layer in (1, 0)
    ]
    path = tmp_path / "placement.json"
    path.write_text(json.dumps({"layers": layers}))
    options = {"placement": read_placement(str(path))}
    settings, _ = settle("experts", "runs/x", "paced", None, options)
    assert isinstance(settings, ExpertSettings)
    assert settings.placement == (((7, 1), (2, 3), (4, 5), (6, 0)),) * 2
    assert placed(settings, 1) == [7, 1, 2, 3, 4, 5, 6, 0]
    assert homes(placed(settings, 1), [0, 1, 2, 3]) == (3, 0, 1, 1, 2, 2, 3, 0)
    with pytest.raises(UsageError, match="--placement does not apply"):
        settle("dense", "runs/x", "auto", None, options)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "not a placement of experts"),
        ('{"layers": [{"layer": 0, "group": [0]}]}', "not a placement of experts"),
        ('{"layers": [{"layer": 1, "group": [0], "rank_experts": [[0]]}]}', "not one placement for each layer"),
        (
            '{"layers": [{"layer": 0, "group": [0], "rank_experts": [[0]]}, {"layer": 0, "group": [1], "rank_experts": [[0]]}]}',
            "not one placement for each layer",
        ),
    ],
)
def test_a_file_that_is_no_placement_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(InputError, match=says):
        read_placement(str(tmp_path / "p.json"))
