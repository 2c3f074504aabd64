"""A decoder that trains under a mix of pipeline, data, context, tensor and expert parallelism."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.distributed.pipelining.schedules import _PipelineScheduleRuntime
from torch.profiler import record_function

from instrumented_runs.descriptions import layout_of, shape_of
from instrumented_runs.experts.exchange import ExpertGroup
from instrumented_runs.experts.layer import ExpertLayer, ExpertOptions
from instrumented_runs.experts.mlps import Expert
from instrumented_runs.experts.routing import Routed, Routing
from instrumented_runs.jobs.token_task import batch
from instrumented_runs.jobs.training_loop import run_steps
from instrumented_runs.jobs.transformer import seed_weights, token_loss
from instrumented_runs.mixes.decoder import stage as make_stage
from instrumented_runs.mixes.parallel import cut_tensors, microbatch, replicate, sum_over_tensor_ranks
from instrumented_runs.mixes.ring import Ring, positions
from instrumented_runs.mixes.settings import MixSettings
from instrumented_runs.pacing.faults import Faults
from instrumented_runs.recorder.recording import Recorder
from instrumented_runs.settings import ORDER_FILE, ExpertSettings
from instrumented_runs.worker import device
from traceanalyzer.job import ACTION_RANGE, Job
from traceanalyzer.schedule import Action, Phase


@dataclass(frozen=True, slots=True)
class Place:
    """Where this rank stands in the mesh."""

    mesh: DeviceMesh
    pp: int
    dp: int
    cp: int
    tp: int

    def group(self, name: str) -> dist.ProcessGroup:
        """The group of this rank along one dimension."""
        return self.mesh.get_group(name)


def run(settings: MixSettings) -> None:
    """Train; every rank of the job calls this."""
    rank = dist.get_rank()
    place = find_place(settings)
    stage = build(settings, place)
    model = stage
    data = data_mesh(settings, place)
    if data is not None and not settings.num_experts:
        model = replicate(stage, settings, data)
    step_once = pipelined(settings, place, model) if settings.pp > 1 else accumulated(settings, place, model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def train_step(_: Recorder, step: int) -> float | None:
        loss = step_once(step)
        if settings.tp > 1:
            sum_over_tensor_ranks(stage, place.mesh["tp"])
        if settings.num_experts and settings.dp > 1:
            average_beside_experts(stage, settings, place)
        optimizer.step()
        optimizer.zero_grad()
        return mean_loss(settings, place, loss)

    run_steps(settings, describe(settings), Faults(settings.faults, rank, settings.seed), train_step)


def find_place(settings: MixSettings) -> Place:
    """Make the mesh. Collective over all ranks of the job."""
    sizes = {"pp": settings.pp, "dp": settings.dp, "cp": settings.cp, "tp": settings.tp}
    mesh = init_device_mesh(device().type, tuple(sizes.values()), mesh_dim_names=tuple(sizes))
    return Place(mesh, *(mesh.get_local_rank(name) for name in sizes))


def data_mesh(settings: MixSettings, place: Place) -> DeviceMesh | None:
    """The ranks that hold the same weights, and see other tokens; None: this one alone."""
    if settings.dp * settings.cp == 1:
        return None
    if settings.cp == 1:
        return place.mesh["dp"]
    return place.mesh["cp"] if settings.dp == 1 else place.mesh["dp", "cp"]._flatten("dp_cp")  # noqa: SLF001 - torch's way


def build(settings: MixSettings, place: Place) -> nn.Sequential:
    """This rank's stage, its matrices cut."""
    length, ring = settings.sequence_length, None
    held = torch.arange(length)
    if settings.cp > 1:
        paced = settings.attention_us_per_pair if settings.compute_mode == "paced" else None
        ring = Ring(place.group("cp"), settings.cp, place.cp, length, settings.sequence_cut, paced)
        held = positions(length, place.cp, settings.cp, settings.sequence_cut)
    held = held.chunk(settings.tp)[place.tp]
    feeds = expert_layers(settings, place) if settings.num_experts else None
    stage = make_stage(settings, place.pp, held, ring, feeds).to(device())
    if settings.tp > 1:
        cut_tensors(stage, place.mesh["tp"])
    return stage


def expert_layers(settings: MixSettings, place: Place) -> list[nn.Module]:
    """The experts of this stage's layers, spread over replicas; the router chooses."""
    asked = ExpertSettings(
        folder="",
        num_ranks=settings.ep,
        seed=settings.seed,
        routing="learned",
        hidden_size=settings.hidden_size,
        num_experts=settings.num_experts,
        experts_per_token=settings.experts_per_token,
        expert_ffn_size=settings.ffn_size,
        num_layers=settings.num_layers,
        num_shards=settings.ep,
        sequence_length=settings.sequence_length,
        sequences_per_shard=settings.microbatch_size,
    )

    def unnoted(_: Routed) -> None:
        """Microbatches of a pipeline have no place in a file of steps and layers."""

    first, last = (at * settings.num_layers // settings.pp for at in (place.pp, place.pp + 1))
    group = ExpertGroup(place.group("dp"), None)
    layers: list[nn.Module] = []
    for number in range(first, last):
        experts = ExpertLayer(asked, number, group, ExpertOptions.of(asked, None), Routing(asked, place.dp, unnoted))
        seed_weights(experts.gate, settings.seed * 10_007 + 1002 + number)
        for held, expert in zip(experts.held, experts.experts, strict=True):
            whole = seed_weights(
                Expert(settings.hidden_size, settings.ffn_size),
                settings.seed * 10_007 + 2002 + number * settings.num_experts + held,
            )
            expert.load_state_dict(whole.state_dict())
        layers.append(experts)
    return layers


def average_beside_experts(stage: nn.Module, settings: MixSettings, place: Place) -> None:
    """Average over replicas what all of them hold; experts have the gradients of all tokens already."""
    shared = [p.grad for name, p in stage.named_parameters() if ".experts." not in name and p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in shared])
    dist.all_reduce(flat, group=place.group("dp"))
    for gradient, total in zip(shared, flat.split([g.numel() for g in shared]), strict=True):
        gradient.copy_(total.view_as(gradient))
    for parameter in stage.parameters():
        if parameter.grad is not None:
            parameter.grad /= settings.dp


def microbatches(settings: MixSettings, place: Place, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of this rank, all microbatches, `[M · size, tokens of the rank]`."""
    each = settings.num_microbatches * settings.microbatch_size
    whole = batch(settings.seed, step, settings.dp * each, settings.sequence_length, settings.vocab_size)
    held = positions(settings.sequence_length, place.cp, settings.cp, settings.sequence_cut)
    held = held.chunk(settings.tp)[place.tp]
    inputs, targets = (part[place.dp * each : (place.dp + 1) * each][:, held].to(device()) for part in whole)
    return inputs, targets


def accumulated(settings: MixSettings, place: Place, model: nn.Module) -> Callable[[int], torch.Tensor | None]:
    """A step without a pipeline: gradients of all microbatches add up."""

    def step_once(step: int) -> torch.Tensor:
        inputs, targets = microbatches(settings, place, step)
        losses: list[torch.Tensor] = []
        parts = zip(inputs.chunk(settings.num_microbatches), targets.chunk(settings.num_microbatches), strict=True)
        for number, (ids, wanted) in enumerate(parts):
            with microbatch(model, settings, is_last=number == settings.num_microbatches - 1):
                loss = token_loss(model(ids), wanted)
                (loss / (settings.num_microbatches * settings.tp)).backward()
            losses.append(loss.detach())
        return torch.stack(losses).mean()

    return step_once


def pipelined(settings: MixSettings, place: Place, model: nn.Module) -> Callable[[int], torch.Tensor | None]:
    """A step of torch's schedule."""
    stage = PipelineStage(
        model,
        place.pp,
        settings.pp,
        device(),
        **cast("dict[str, Any]", messages(settings, place)),
        group=place.group("pp"),
    )
    stage.forward_one_chunk = ranged(stage.forward_one_chunk, place.pp, Phase.FORWARD)
    stage.backward_one_chunk = ranged(stage.backward_one_chunk, place.pp, Phase.BACKWARD)

    def loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return token_loss(logits, targets) / settings.tp

    schedule = make_schedule(settings, stage, loss_of)

    def step_once(step: int) -> torch.Tensor | None:
        inputs, targets = microbatches(settings, place, step)
        losses: list[torch.Tensor] = []
        if stage.is_last:
            schedule.step(*([inputs] if stage.is_first else []), target=targets, losses=losses, return_outputs=False)
            return torch.stack(losses).detach().mean() * settings.tp
        schedule.step(*([inputs] if stage.is_first else []), return_outputs=False)
        return None

    return step_once


def messages(settings: MixSettings, place: Place) -> dict[str, torch.Tensor]:
    """What a stage takes and gives: reported, since torch finds it out by a trial run on memory as it is, which experts keep.

    Expert layers run their own backward inside backward, and the gradients of the trial would stay with their weights.
    """
    tokens = settings.sequence_length // (settings.cp * settings.tp)
    size = (settings.microbatch_size, tokens)
    hidden, logits = (
        torch.zeros(*size, width, requires_grad=True) for width in (settings.hidden_size, settings.vocab_size)
    )
    given = torch.zeros(size, dtype=torch.int64) if place.pp == 0 else hidden
    made = logits if place.pp == settings.pp - 1 else hidden
    arguments = {"input_args": given, "output_args": made}
    if place.pp < settings.pp - 1:
        arguments["output_grads"] = hidden.detach()
    if place.pp > 0:
        arguments["input_grads"] = hidden.detach()
    return {name: tensor.to(device()) for name, tensor in arguments.items()}


def make_schedule(settings: MixSettings, stage: PipelineStage, loss: Callable[..., torch.Tensor]) -> Any:  # noqa: ANN401 - unrelated torch classes
    """1F1B and GPipe by torch's classes, every other order by its runtime."""
    known = {"1F1B": Schedule1F1B, "GPipe": ScheduleGPipe}.get(settings.schedule)
    if known is not None:
        return known(stage, settings.num_microbatches, loss_fn=loss)
    runtime = _PipelineScheduleRuntime([stage], settings.num_microbatches, loss_fn=loss)
    runtime._load_csv(str(Path(settings.folder) / ORDER_FILE), format="compute_only")  # noqa: SLF001 - torch has no public way in
    return runtime


def ranged(method: Callable[..., Any], stage: int, phase: Phase) -> Callable[..., Any]:
    """The method inside the range of its action."""

    @wraps(method)
    def inside(number: int, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - torch's signature
        with record_function(ACTION_RANGE.format(action=Action(stage, phase, number))):
            return method(number, *args, **kwargs)

    return inside


def mean_loss(settings: MixSettings, place: Place, loss: torch.Tensor | None) -> float | None:
    """The loss over all tokens, on one rank of the last stage; recorded steps then hold one small all-reduce more."""
    if loss is None:
        return None
    mean = loss.clone()
    for name in ("dp", "cp", "tp"):
        if getattr(settings, name) > 1:
            dist.all_reduce(mean, group=place.group(name))
            mean /= getattr(settings, name)
    return mean.item() if place.dp == place.cp == place.tp == 0 else None


def describe(settings: MixSettings) -> Job:
    """What `run.json` says of the job."""
    sequences = settings.dp * settings.num_microbatches * settings.microbatch_size
    return Job(
        kind="pipeline" if settings.pp > 1 else "experts" if settings.num_experts else "dense",
        layout=layout_of(settings),
        model=shape_of(settings),
        compute_mode=settings.compute_mode,
        backend=dist.get_backend(),
        dtype="float32",
        tokens_per_step=sequences * settings.sequence_length,
        sequence_length=settings.sequence_length,
        schedule=settings.schedule if settings.pp > 1 else None,
        num_stages=settings.pp if settings.pp > 1 else None,
        num_microbatches=settings.num_microbatches,
        num_chunks=1 if settings.pp > 1 else None,
        recompute=None if settings.recompute == "none" else settings.recompute,
        seed=settings.seed,
    )
