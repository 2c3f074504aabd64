"""A transformer that trains under pipeline parallelism, every compute action inside a range of its own."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.pipelining import PipelineStage
from torch.profiler import record_function

from instrumented_runs.descriptions import layout_of, shape_of
from instrumented_runs.jobs.token_task import batch
from instrumented_runs.jobs.training_loop import run_steps
from instrumented_runs.jobs.transformer import stage as stage_module
from instrumented_runs.jobs.transformer import token_loss
from instrumented_runs.pacing.faults import Faults
from instrumented_runs.pacing.host import SETTLE_S, Pacer
from instrumented_runs.pipeline.delayed_links import delay_links
from instrumented_runs.pipeline.plan import stage_ranks_for
from instrumented_runs.pipeline.replicas import Place, average_gradients, find_place
from instrumented_runs.pipeline.schedules import make_schedule
from instrumented_runs.recorder.memory import InFlight, SavedBytes
from instrumented_runs.recorder.recording import Recorder
from instrumented_runs.settings import PipelineSettings
from instrumented_runs.worker import device
from traceanalyzer.errors import JobError
from traceanalyzer.job import ACTION_RANGE, Job, Pacing
from traceanalyzer.schedule import Action, Phase


def run(settings: PipelineSettings) -> None:
    """Train; every rank of the job calls this."""
    rank, place = dist.get_rank(), find_place(layout_of(settings))
    pacer = Pacer() if settings.compute_mode == "paced" else None
    faults = Faults(settings.faults, rank, settings.seed)
    if faults.link_delays_s() and dist.get_backend() == "nccl":
        raise JobError("a link of NCCL cannot be delayed", "leave delay_link out, or run without GPUs")
    delay_links(faults.link_delays_s())
    mine = [stage for stage, holder in enumerate(stage_ranks_for(settings)) if holder == place.pipeline_rank]
    in_flight = InFlight()
    stages = [make_stage(settings, index, place, pacer, faults, in_flight) for index in mine]
    schedule = make_schedule(settings, stages, token_loss)
    parameters = [p for stage in stages for p in stage.submod.parameters()]
    saved = SavedBytes(parameters)
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, fused=True)

    def step_once(recorder: Recorder, step: int) -> float | None:
        metered = pacer is not None or step == 0  # hooks would lengthen real computations
        with saved.metered() if metered else nullcontext():
            loss = train_step(settings, schedule, stages, step, place.replica)
        recorder.note_memory(in_flight.take_peak(), saved.take_peak() if metered else None)
        loss = average_gradients(parameters, loss, place)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item() if loss is not None and place.replica == 0 else None

    run_steps(settings, describe(settings), faults, step_once)


def train_step(
    settings: PipelineSettings,
    schedule: Any,  # noqa: ANN401 - two unrelated torch classes
    stages: list[PipelineStage],
    step: int,
    replica: int,
) -> torch.Tensor | None:
    """Run all microbatches of a step; the mean loss of this replica on the rank that holds the last stage."""
    size = settings.num_microbatches * settings.microbatch_size
    length, vocab_size = settings.sequence_length, settings.vocab_size
    whole = batch(settings.seed, step, settings.num_replicas * size, length, vocab_size)
    inputs, targets = (tensor[replica * size : (replica + 1) * size] for tensor in whole)
    losses: list[torch.Tensor] = []
    arguments = [inputs.to(device())] if any(stage.is_first for stage in stages) else []
    if any(stage.is_last for stage in stages):
        schedule.step(*arguments, target=targets.to(device()), losses=losses, **without_outputs(schedule))
        return torch.stack(losses).detach().mean()
    schedule.step(*arguments, **without_outputs(schedule))
    return None


def without_outputs(schedule: Any) -> dict[str, bool]:  # noqa: ANN401 - two unrelated torch classes
    """Keywords that spare `step` the joining of outputs, which only newer torch can."""
    return {"return_outputs": False} if "return_outputs" in inspect.signature(schedule.step).parameters else {}


def make_stage(
    settings: PipelineSettings, index: int, place: Place, pacer: Pacer | None, faults: Faults, in_flight: InFlight
) -> PipelineStage:
    """Stage `index` of the model, its three compute methods inside ranges."""
    module = stage_module(shape_of(settings), settings.sequence_length, settings.seed, index, settings.num_stages)
    stage = PipelineStage(module.to(device()), index, settings.num_stages, device(), group=place.pipeline)
    forward = settings.forward_ms / settings.num_chunks
    backward = settings.backward_ms / settings.num_chunks
    durations = {
        Phase.FORWARD: forward,
        Phase.BACKWARD: backward,
        Phase.INPUT_GRADIENT: backward / 2,
        Phase.WEIGHT_GRADIENT: backward / 2,
    }

    def instrument(method: Callable[..., Any], phase_of: Callable[[dict[str, Any]], Phase]) -> Callable[..., Any]:
        @wraps(method)
        def inside_range(microbatch: int, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - torch's signature
            phase = phase_of(kwargs)
            faults.before_action()
            slot = pacer.slot(durations[phase] * faults.stretch(index)) if pacer else nullcontext()
            with record_function(ACTION_RANGE.format(action=Action(index, phase, microbatch))), slot:
                result = method(microbatch, *args, **kwargs)
            in_flight.done(Action(index, phase, microbatch))
            return result

        return inside_range

    def backward_phase(kwargs: dict[str, Any]) -> Phase:
        return Phase.BACKWARD if kwargs.get("full_backward", True) else Phase.INPUT_GRADIENT

    stage.forward_one_chunk = instrument(stage.forward_one_chunk, lambda _: Phase.FORWARD)
    stage.backward_one_chunk = instrument(stage.backward_one_chunk, backward_phase)
    stage.backward_weight_one_chunk = instrument(stage.backward_weight_one_chunk, lambda _: Phase.WEIGHT_GRADIENT)
    if pacer and settings.num_chunks == 1 and device().type == "cpu":
        stage.scale_grads = settled(stage.scale_grads)
    return stage


def settled(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wait a little before a burst of work that follows a hand-over: the receiver may need this very core."""

    @wraps(method)
    def later(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - torch's signature
        time.sleep(SETTLE_S)
        return method(*args, **kwargs)

    return later


def describe(settings: PipelineSettings) -> Job:
    """What `run.json` says of the job."""
    paced = settings.compute_mode == "paced"
    return Job(
        kind="pipeline",
        layout=layout_of(settings),
        model=shape_of(settings),
        compute_mode=settings.compute_mode,
        backend=dist.get_backend(),
        dtype="float32",
        tokens_per_step=settings.num_replicas
        * settings.num_microbatches
        * settings.microbatch_size
        * settings.sequence_length,
        sequence_length=settings.sequence_length,
        schedule=settings.schedule or None,
        num_stages=settings.num_stages,
        num_microbatches=settings.num_microbatches,
        num_chunks=settings.num_chunks,
        pacing=Pacing(forward_ms=settings.forward_ms, backward_ms=settings.backward_ms) if paced else None,
        seed=settings.seed,
    )
