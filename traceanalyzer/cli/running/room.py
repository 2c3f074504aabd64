"""Memory that the ranks of a reference job take by theory, and whether this machine has it."""

from __future__ import annotations

from instrumented_runs.descriptions import layout_of, shape_of
from instrumented_runs.launching.nodes import Nodes
from instrumented_runs.mixes.settings import MixSettings
from instrumented_runs.settings import DenseSettings, ExpertSettings, PipelineSettings, RunSettings
from traceanalyzer.cli.options.budget import memory_of_this_machine
from traceanalyzer.errors import DomainError, UsageError
from traceanalyzer.review.words import byte_count
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.memory.rank import Allowance, RankMemory, Training, stage_memory
from traceanalyzer.theory.memory.recipes import find_recipe
from traceanalyzer.theory.memory.sharding import Sharding


def check_room(settings: RunSettings, nodes: Nodes) -> None:
    """Raise `UsageError` if the ranks of this node need more memory than the machine has; GPUs are not asked."""
    problem = too_large(settings, nodes)
    if problem is not None:
        raise UsageError(
            problem,
            "give smaller sizes with --set (hidden_size, num_experts, num_layers), or spread it over more nodes",
        )


def too_large(settings: RunSettings, nodes: Nodes) -> str | None:
    """That the ranks of this node do not fit into its memory, in words; None if they may."""
    try:
        by_stage = memory_of_ranks(settings)
    except DomainError:
        return None
    first, here = nodes.first_rank(settings.num_ranks), nodes.ranks_here(settings.num_ranks)
    each = settings.num_ranks // layout_of(settings).pp  # ranks of one pipeline rank; of each kind the first is known
    places = [rank // each for rank in range(first, first + here)]
    needed = sum(by_stage[max(known for known in by_stage if known <= place)].total for place in places)
    there = memory_of_this_machine()
    if needed <= there:
        return None
    return f"the ranks of this machine need {byte_count(needed)} of memory, and it has {byte_count(there)}"


def memory_of_ranks(settings: RunSettings) -> dict[int, RankMemory]:
    """By the first pipeline rank of every kind of stage. Raises `DomainError` where theory does not know it."""
    shape, layout = shape_of(settings), layout_of(settings)
    sequences, microbatches, schedule, chunks = 1, 1, ScheduleName("GradAccumulation"), 1
    if isinstance(settings, PipelineSettings):
        sequences, microbatches = settings.microbatch_size, settings.num_microbatches
        schedule, chunks = ScheduleName(settings.schedule or "1F1B"), settings.num_chunks
    elif isinstance(settings, ExpertSettings):
        sequences = settings.sequences_per_shard * settings.num_shards // settings.num_ranks
    elif isinstance(settings, MixSettings):
        sequences, microbatches = settings.microbatch_size, settings.num_microbatches
        schedule = ScheduleName(settings.schedule) if settings.pp > 1 else schedule
    elif isinstance(settings, DenseSettings):
        sequences = settings.num_sequences
    training = Training(
        shape=shape,
        recipe=find_recipe("fp32"),
        sequence_length=getattr(settings, "sequence_length"),  # noqa: B009 - every kind has one
        microbatch_size=sequences,
        num_microbatches=microbatches,
        schedule=schedule,
        num_chunks=chunks,
    )
    zero = settings.zero if isinstance(settings, MixSettings) else 0
    sharding = Sharding(pp=layout.pp, dp=layout.dp, ep=layout.ep, tp=layout.tp, cp=layout.cp, zero=zero)
    return stage_memory(training, sharding, Allowance(fixed_bytes=0, fragmentation=0))
