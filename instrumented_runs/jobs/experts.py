"""A transformer whose MLPs are experts spread over ranks, with the load between them under control."""

from __future__ import annotations

from itertools import accumulate

import torch
import torch.distributed as dist
from torch import nn

from instrumented_runs.descriptions import layout_of, shape_of
from instrumented_runs.experts.exchange import ExpertGroup
from instrumented_runs.experts.layer import ExpertLayer, ExpertOptions
from instrumented_runs.experts.mlps import Expert, grouped_multiply
from instrumented_runs.experts.routing import Routed, Routing
from instrumented_runs.experts.sliced import SlicedExpertLayer, slice_of
from instrumented_runs.jobs.token_task import batch
from instrumented_runs.jobs.training_loop import run_steps
from instrumented_runs.jobs.transformer import Attention, Embedding, Head, seed_weights, token_loss
from instrumented_runs.pacing.faults import Faults
from instrumented_runs.recorder.recording import Recorder
from instrumented_runs.settings import ExpertSettings
from instrumented_runs.worker import device
from traceanalyzer.job import Job, Pacing


def run(settings: ExpertSettings) -> None:
    """Train; every rank of the job calls this."""
    rank = dist.get_rank()
    members = list(range(settings.num_ranks))
    recorders: list[Recorder] = []

    def note(routed: Routed) -> None:
        recorders[-1].record_routing(
            routed.layer,
            routed.visits,
            routed.send,
            routed.receive,
            members,
            sum(routed.dropped),
            dropped_to_expert=tuple(routed.dropped) if any(routed.dropped) else (),
            expert_ranks=homes(routed.slots, members),
            filling_rows=routed.filling_rows,
            aligned_rows=routed.aligned_rows,
        )

    shards_here = settings.num_shards // settings.num_ranks
    routing = Routing(settings, rank * shards_here, note)
    faults = Faults(settings.faults, rank, settings.seed)
    us_per_token = settings.expert_us_per_token if settings.compute_mode == "paced" else None
    group = ExpertGroup(dist.group.WORLD, us_per_token, faults.stretch, faults.incoming_delays_s())
    grouped = grouped_multiply(torch.float32, device()) if settings.grouped_gemm else None
    model = make_model(settings, group, ExpertOptions.of(settings, grouped), routing).to(device())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)

    def train_step(recorder: Recorder, step: int) -> float | None:
        recorders[:] = [recorder]
        routing.step = step
        inputs, targets = shards(settings, step, rank * shards_here, shards_here)
        share = len(inputs) / (settings.num_shards * settings.sequences_per_shard)
        loss = token_loss(model(inputs.to(device())), targets.to(device())) * share
        loss.backward()
        total = share_gradients(model, loss)
        optimizer.step()
        optimizer.zero_grad()
        return total if rank == 0 else None

    run_steps(settings, describe(settings), faults, train_step)


def shards(settings: ExpertSettings, step: int, first: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of `number` shards of the batch from shard `first` on."""
    bounds = [0, *accumulate(settings.sequences_of_shards)]
    whole = batch(settings.seed, step, bounds[-1], settings.sequence_length, settings.vocab_size)
    inputs, targets = (tensor[bounds[first] : bounds[first + number]] for tensor in whole)
    return inputs, targets


def homes(slots: list[int], members: list[int]) -> tuple[int, ...]:
    """The rank of each expert from the expert in every slot; empty for equal blocks in order."""
    if slots == sorted(slots):
        return ()
    each = len(slots) // len(members)
    return tuple(members[slots.index(expert) // each] for expert in range(len(slots)))


def make_model(settings: ExpertSettings, group: ExpertGroup, options: ExpertOptions, routing: Routing) -> nn.Sequential:
    """The model with this rank's share of the experts; every weight depends only on its place in the whole model."""
    form = shape_of(settings)
    seed = settings.seed * 10_007
    kind = SlicedExpertLayer if settings.experts_by == "tp" else ExpertLayer
    parts: list[nn.Module] = [seed_weights(Embedding(form, settings.sequence_length), seed)]
    for layer in range(form.num_layers):
        experts = kind(settings, layer, group, options, routing)
        parts.append(seed_weights(Attention(form), seed + 2 + layer))
        seed_weights(experts.gate.router, seed + 1002 + layer)
        if experts.gate.shared is not None:
            seed_weights(experts.gate.shared, seed + 1502 + layer)
        for number, expert in zip(experts.held, experts.experts, strict=True):
            _seed_expert(expert, settings, seed + 2002 + layer * form.num_experts + number, group)
        parts.append(experts)
    parts.append(seed_weights(Head(form), seed + 1))
    return nn.Sequential(*parts)


def _seed_expert(expert: nn.Module, settings: ExpertSettings, seed: int, group: ExpertGroup) -> None:
    """The expert's weights or, where it holds less than all of them, this rank's slice."""
    whole = seed_weights(Expert(settings.hidden_size, settings.expert_ffn_size), seed)
    if settings.experts_by == "ep":
        expert.load_state_dict(whole.state_dict())
        return
    cut = {"up.weight": 0, "down.weight": 1}
    expert.load_state_dict({name: slice_of(value, cut[name], group) for name, value in whole.state_dict().items()})


def share_gradients(model: nn.Module, loss: torch.Tensor) -> float:
    """Sum over ranks the gradients of the weights that all ranks hold, and the loss; return the loss."""
    shared = [p.grad for name, p in model.named_parameters() if ".experts." not in name and p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in shared] + [loss.detach().view(1)])
    dist.all_reduce(flat)
    start = 0
    for gradient in shared:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
    return flat[-1].item()


def describe(settings: ExpertSettings) -> Job:
    """What `run.json` says of the job."""
    paced = settings.compute_mode == "paced"
    return Job(
        kind="experts",
        layout=layout_of(settings),
        model=shape_of(settings),
        compute_mode=settings.compute_mode,
        backend=dist.get_backend(),
        dtype="float32",
        tokens_per_step=settings.num_shards * settings.sequences_per_shard * settings.sequence_length,
        sequence_length=settings.sequence_length,
        capacity_factor=settings.capacity_factor or None,
        pads_to_capacity=settings.pad_to_capacity,
        pacing=Pacing(expert_us_per_token=settings.expert_us_per_token) if paced else None,
        seed=settings.seed,
    )
