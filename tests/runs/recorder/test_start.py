"""What a recorder finds at start: launcher, process groups, layout, and which ranks of a large job it records."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

pytest.importorskip("torch", reason="the recorder needs torch")

from instrumented_runs.recorder.start.environment import Surroundings, srun_tasks, surroundings
from instrumented_runs.recorder.start.groups import Group, check_declared, chosen_ranks, even, layout_of
from instrumented_runs.recorder.start.identity import agreed_job_id, new_job_id
from instrumented_runs.recorder.start.opening import Opening, opened_job
from traceanalyzer.errors import UsageError
from traceanalyzer.job import Job
from traceanalyzer.layout import Layout

MESH = {"pp": "mesh_pp", "dp": "mesh_dp", "tp": "mesh_tp", "cp": "mesh_cp", "ep": "mesh_ep"}
MEGATRON = {
    "pp": "PIPELINE_MODEL_PARALLEL_GROUP",
    "dp": "DATA_PARALLEL_GROUP",
    "tp": "TENSOR_MODEL_PARALLEL_GROUP",
    "cp": "CONTEXT_PARALLEL_GROUP",
    "ep": "EXPERT_MODEL_PARALLEL_GROUP",
}


def groups_of(sizes: Mapping[str, int], order: str, names: Mapping[str, str]) -> list[tuple[Group, ...]]:
    """Groups of every rank of a mesh whose dimensions stand in `order`, outermost first; one number per dimension."""
    dimensions = order.split()
    total = 1
    for name in dimensions:
        total *= sizes[name]

    def place(rank: int) -> dict[str, int]:
        found = {}
        for name in reversed(dimensions):
            rank, found[name] = divmod(rank, sizes[name])
        return found

    places = [place(rank) for rank in range(total)]
    return [
        tuple(
            Group(
                names[name], even([r for r in range(total) if all(places[r][d] == mine[d] for d in mine if d != name)])
            )
            for name in dimensions
        )
        for mine in places
    ]


@pytest.mark.parametrize("names", [MESH, MEGATRON])
@pytest.mark.parametrize(
    ("sizes", "layout"),
    [
        ({"pp": 3, "dp": 2}, Layout(pp=3, dp=2)),
        ({"pp": 2, "dp": 3, "tp": 2}, Layout(pp=2, dp=3, tp=2)),
        ({"pp": 2, "dp": 2, "cp": 3, "tp": 2}, Layout(pp=2, dp=2, cp=3, tp=2)),
        ({"tp": 4}, Layout(tp=4)),
    ],
)
def test_the_layout_is_read_from_described_groups(
    names: Mapping[str, str], sizes: Mapping[str, int], layout: Layout
) -> None:
    groups = groups_of(sizes, " ".join(sizes), names)
    found, basis = layout_of(groups, layout.world_size)
    assert found == layout
    assert all(names[name] in basis for name in sizes)


def test_experts_lie_within_the_replicas() -> None:
    layout = Layout(pp=2, dp=4, ep=2)
    groups = groups_of({"pp": 2, "dp": 4}, "pp dp", MESH)
    groups = [(*of, Group("mesh_ep", even(layout.expert_group(rank)))) for rank, of in enumerate(groups)]
    assert layout_of(groups, 8)[0] == layout


@pytest.mark.parametrize(
    ("groups", "num_ranks", "says"),
    [
        ([()] * 6, 6, "no process group is described"),
        (groups_of({"pp": 3}, "pp", MESH) * 2, 6, "do not multiply to 6"),
        (groups_of({"pp": 2, "dp": 3}, "dp pp", MESH), 6, "in another order"),
        ([(Group("mesh_pp", (0, 1)),), (Group("mesh_pp", (0, 1, 2)),), ()], 3, "different sizes"),
    ],
)
def test_what_groups_do_not_show_stays_unknown_and_says_why(
    groups: list[tuple[Group, ...]], num_ranks: int, says: str
) -> None:
    layout, why = layout_of(groups, num_ranks)
    assert layout is None
    assert says in why


@pytest.mark.parametrize(
    ("layout", "num_ranks", "chosen"),
    [
        (None, 64, tuple(range(64))),
        (Layout(pp=4, dp=64, ep=8), 256, (0, 1, 2, 3, 4, 5, 6, 7, 64, 128, 192)),
        (Layout(pp=8, dp=4, tp=8), 256, tuple(range(0, 256, 32))),
        (Layout(pp=2, dp=8, cp=2, tp=4, ep=4), 128, (0, 4, 8, 12, 64)),
        (Layout(dp=512), 512, tuple(range(8))),
    ],
)
def test_of_a_large_job_one_pipeline_and_one_expert_group_are_recorded(
    layout: Layout | None, num_ranks: int, chosen: tuple[int, ...]
) -> None:
    assert chosen_ranks(layout, num_ranks, ranks_per_node=8)[0] == chosen


def test_a_large_job_of_another_numbering_is_recorded_by_the_groups_of_rank_0() -> None:
    groups = groups_of({"pp": 5, "dp": 20}, "dp pp", MESH)
    assert layout_of(groups, 100)[0] is None
    assert chosen_ranks(None, 100, groups[0]) == ((0, 1, 2, 3, 4), "one pipeline and one expert group")
    assert chosen_ranks(None, 100, (), ranks_per_node=4)[0] == (0, 1, 2, 3)


def opened(job: Job, groups: list[tuple[Group, ...]]) -> Job:
    openings = [Opening("night", of) for of in groups]
    return opened_job(job, openings, len(groups), Surroundings(launcher="none"), None)


def test_declared_recorded_and_unknown_layouts_are_told_apart() -> None:
    mesh = groups_of({"pp": 2, "dp": 3}, "pp dp", MESH)
    declared = opened(Job.of(pp=2), mesh)
    recorded = opened(Job.of(), mesh)
    unknown = opened(Job.of(), [()] * 6)
    assert (declared.layout, declared.basis["layout"]) == (Layout(pp=2, dp=3), "declared")
    assert (recorded.layout, recorded.basis["layout"]) == (Layout(pp=2, dp=3), "process groups mesh_dp, mesh_pp")
    assert unknown.layout is None
    assert (unknown.num_ranks, unknown.world_size, unknown.job_id) == (6, 6, "night")


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (Job.of(pp=4), "pp=4 make 4 ranks, and the job has 6"),
        (Job.of(pp=2, dp=2), "pp=2 · dp=2 make 4 ranks, and the job has 6"),
        (Job.of(pp=3), "the job declares pp=3, and the process group mesh_pp has 2 ranks"),
    ],
)
def test_a_declaration_that_does_not_fit_the_job_is_refused(job: Job, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        opened(job, groups_of({"pp": 2, "dp": 3}, "pp dp", MESH))


def test_groups_that_agree_with_a_declaration_pass() -> None:
    check_declared(Layout(pp=2, dp=3), groups_of({"pp": 2, "dp": 3}, "pp dp", MESH)[0])


TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1"}
SRUN = {"SLURM_PROCID": "2", "SLURM_NTASKS": "3", "SLURM_LOCALID": "0", "SLURM_NODEID": "2", "SLURM_JOB_ID": "77"}


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, ("none", 0, 1, None, None)),
        (TORCHRUN | {"TORCHELASTIC_RUN_ID": "none"}, ("torchrun", 5, 8, 1, 1)),
        (TORCHRUN, ("environment", 5, 8, 1, 1)),
        (SRUN, ("srun", 2, 3, 0, 2)),
        (SRUN | TORCHRUN, ("environment", 5, 8, 1, 1)),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, ("none", 0, 1, None, None)),  # a batch script is no step
        ({"RANK": "x", "WORLD_SIZE": "many"}, ("none", 0, 1, None, None)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, ("mpirun", 1, 2, None, None)),
    ],
)
def test_rank_and_size_are_those_of_the_launcher(environ: dict[str, str], found: tuple[object, ...]) -> None:
    seen = surroundings(environ)
    assert (seen.launcher, seen.rank, seen.num_ranks, seen.local_rank, seen.node) == found


def test_a_step_of_srun_is_one_also_for_its_first_task() -> None:
    assert srun_tasks({"SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "6"}) == 6
    assert (
        srun_tasks({"SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "6", "SLURM_STEP_NUM_TASKS": "1"}) == 1
    )


def test_ranks_that_cannot_speak_find_one_name_and_other_runs_another() -> None:
    base = TORCHRUN | {"TORCHELASTIC_RUN_ID": "night", "MASTER_ADDR": "a", "MASTER_PORT": "29500"}
    ids = [agreed_job_id(surroundings(base | {"RANK": str(rank), "LOCAL_RANK": "0"})) for rank in range(8)]
    assert len(set(ids)) == 1
    others = [{"TORCHELASTIC_RUN_ID": "day"}, {"TORCHELASTIC_RESTART_COUNT": "1"}, {"MASTER_PORT": "29501"}]
    assert ids[0] not in {agreed_job_id(surroundings(base | other)) for other in others}
    assert agreed_job_id(surroundings({})) != agreed_job_id(surroundings({}))
    assert new_job_id() != new_job_id()
