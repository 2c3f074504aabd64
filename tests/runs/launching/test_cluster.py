"""Jobs over several nodes: what launches them is sound, and two agents on one machine stand for two nodes."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("torch", reason="reference jobs need torch")

from instrumented_runs.launching.nodes import Nodes, parse_rendezvous
from instrumented_runs.requests import make_request, parse_assignment
from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.cli import main
from traceanalyzer.errors import InputError, UsageError

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "examples" / "cluster"
STUB = ROOT / "tests" / "support" / "launched" / "srun_stub"
SCRIPTS = [CLUSTER / "run_job.sbatch", STUB]
JOB = """
kind = "pipeline"
compute = "paced"
num_ranks = 4
num_replicas = 2
num_microbatches = 2
num_layers = 2
num_steps = 2
num_unprofiled_steps = 1
forward_ms = 10.0
backward_ms = 20.0
hidden_size = 16
num_heads = 2
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    checker = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if checker is None:
        pytest.skip("shellcheck is not installed")
    assert subprocess.run([checker, "--shell=bash", str(script)], capture_output=True, check=False).stdout == b""


def test_the_batch_script_asks_for_one_task_per_node_and_a_signal_before_the_end() -> None:
    asked = {line.split()[1] for line in SCRIPTS[0].read_text().splitlines() if line.startswith("#SBATCH")}
    assert {"--ntasks-per-node=1", "--signal=B:TERM@90"} <= asked


def test_the_pytorchjob_has_what_kubeflow_asks_for() -> None:
    (job,) = yaml.safe_load_all((CLUSTER / "pytorchjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert set(replicas) == {"Master", "Worker"}
    assert replicas["Master"]["replicas"] == 1
    for replica in replicas.values():
        (container,) = replica["template"]["spec"]["containers"]
        assert container["name"] == "pytorch"  # the operator sets variables in a container of this name alone
        assert container["image"]
        assert container["command"][:3] == ["torchrun", "-m", "instrumented_runs"]
        check_mounts(replica["template"]["spec"])


def test_the_indexed_job_numbers_its_pods_and_names_the_first() -> None:
    service, job = yaml.safe_load_all((CLUSTER / "indexed_job.yaml").read_text())
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (service["kind"], service["spec"]["clusterIP"]) == ("Service", "None")
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert (job["apiVersion"], job["kind"], spec["completionMode"]) == ("batch/v1", "Job", "Indexed")
    assert spec["completions"] == spec["parallelism"] == 2
    assert pod["subdomain"] == service["metadata"]["name"]
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    words = container["command"]
    assert words[words.index("--nnodes") + 1] == str(spec["completions"])
    host, port = parse_rendezvous(words[words.index("--rdzv") + 1])
    assert host == f"{job['metadata']['name']}-0.{pod['subdomain']}"
    assert container["ports"] == [{"containerPort": port}]
    check_mounts(pod)


def check_mounts(pod: dict[str, list[dict[str, object]]]) -> None:
    named = {volume["name"] for volume in pod["volumes"]}
    mounts: list[dict[str, object]] = pod["containers"][0]["volumeMounts"]  # pyright: ignore[reportAssignmentType]
    assert {mount["name"] for mount in mounts} == named


def test_nothing_of_a_job_reaches_a_shell() -> None:
    """No module of the runs starts a shell, or a process from text."""
    for path in (ROOT / "instrumented_runs").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in ("os.system", "os.popen", "eval", "exec"), path
                shell = [keyword for keyword in node.keywords if keyword.arg == "shell"]
                assert not shell, path


def test_settings_come_from_preset_file_and_assignments_in_this_order(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("kind: experts\nnum-experts: 16\nhot_factor: 2\nseed: 3\ncompute: real\n")
    request = make_request(None, tmp_path / "job.yaml", ["seed=5", 'faults=["clock:rank=1,ms=4"]'])
    assert (request.kind, request.compute) == ("experts", "real")
    assert request.values == {"num_experts": 16, "hot_factor": 2.0, "seed": 5, "faults": ("clock:rank=1,ms=4",)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"kind": "pipeline", "num_microbatchs": 4}', "no setting 'num_microbatchs'"),
        ('{"kind": "pipeline", "num_microbatches": "$(touch x)"}', "num_microbatches"),
        ('{"kind": "pipeline", "folder": "/"}', "'folder' is not"),
        ('{"kind": "rm -rf"}', "there is no job 'rm -rf'"),
        ('{"kind": "dense", "compute": "fast"}', "compute is 'fast'"),
        ("[1]", "not a mapping"),
        ("{", "not the settings of a job"),
    ],
)
def test_what_is_no_request_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "job.json").write_text(text)
    with pytest.raises((UsageError, InputError), match=says.replace("$", r"\$").replace("(", r"\(")):
        make_request(None, tmp_path / "job.json", [])


def test_places_to_meet() -> None:
    assert parse_rendezvous("a.b:1234") == ("a.b", 1234)
    assert parse_rendezvous("[fe80::1]:99") == ("fe80::1", 99)
    assert parse_rendezvous("node7") == ("node7", 29500)
    for wrong in (":1", "-x:1", "a:0", "a:b"):
        with pytest.raises(UsageError, match="place to meet"):
            parse_rendezvous(wrong)
    with pytest.raises(UsageError, match="need a place to meet"):
        Nodes.of(2, 0, None)
    with pytest.raises(UsageError, match="node 2 is not one of 2"):
        Nodes.of(2, 2, "a:1")
    with pytest.raises(UsageError, match="spread evenly"):
        Nodes.of(2, 0, "a:1").ranks_here(5)
    with pytest.raises(UsageError, match="sets nothing"):
        parse_assignment("seed")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["pipeline", "--stages", "4"], "memory of pipeline rank 3"),
        (
            ["pipeline", "--stages", "10", "--replicas", "2", "--schedule", "Interleaved1F1B", "--microbatches", "5"],
            "memory",
        ),
        (["experts", "--set", "hot_rank=0"], "token copies"),
        (["mix", "--set", "num_microbatches=0"], "num_microbatches must be at least 1, got 0"),
        (["mix", "--set", "num_heads=0"], "num_heads must be at least 1, got 0"),
        (["pipeline", "--set", "num_layers=-1"], "num_layers must be at least 0, got -1"),
        (["pipeline", "--set", "forward_ms=nan"], "forward_ms must be at least 0, got nan"),
    ],
)
def test_a_dry_run_of_every_kind_describes_it_or_refuses_what_is_no_size(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *words, "--dry-run"]) == (2 if "must be" in says else 0)
    printed = capsys.readouterr()
    assert says in printed.out + printed.err


def test_a_job_that_the_machine_has_no_memory_for_is_refused_before_it_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("traceanalyzer.cli.running.room.memory_of_this_machine", lambda: 1 << 20)
    wanted = ["run", "deepseek-v3-like", "--out", str(tmp_path / "run")]
    assert main(wanted) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0].endswith("of memory, and it has 1.00 MiB")
    assert "--set" in told[1]
    assert not (tmp_path / "run").exists()
    assert main([*wanted, "--dry-run"]) == 0
    assert "would be refused here: the ranks of this machine need 1" in capsys.readouterr().out


def test_a_dry_run_tells_mesh_memory_step_and_bubble_and_launches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.toml").write_text(JOB)
    options = ["--config", str(tmp_path / "job.toml"), "--nnodes", "2", "--rdzv", "a:1", "--out", str(tmp_path / "run")]
    assert main(["run", "--dry-run", *options]) == 0
    told = capsys.readouterr().out
    assert "node 1: ranks 2–3" in told
    assert "pp 2: 2 of 2 groups across nodes, for example ranks 0, 2" in told
    assert "dp 2: within nodes" in told
    assert "simulated bubble 33.3% (by formula 33.3%)" in told
    assert "pipeline phase 90.0 ms" in told  # (2 microbatches + 1) · 30 ms
    assert "memory of pipeline rank 0" in told
    assert not (tmp_path / "run").exists()


def namespaces() -> bool:
    tried = subprocess.run(["unshare", "--map-root-user", "--uts", "hostname", "x"], capture_output=True, check=False)
    return tried.returncode == 0


@pytest.mark.wide
@pytest.mark.runs
@pytest.mark.skipif(not shutil.which("unshare") or not namespaces(), reason="no host names of one's own here")
def test_the_batch_script_runs_two_nodes_and_their_folders_are_one_run(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").symlink_to(STUB)
    (tmp_path / "bin" / "scontrol").write_text("#!/bin/bash\necho 127.0.0.1\n")
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    (tmp_path / "job $(touch evil).toml").write_text(JOB)
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "RUN": str(tmp_path / "run"),
        "LOCAL": str(tmp_path / "disk"),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_NNODES": "2",
        "SLURM_JOB_NODELIST": "stub-[0-1]",
    }
    done = subprocess.run(
        ["bash", str(SCRIPTS[0]), str(tmp_path / "job $(touch evil).toml")],
        env={**os.environ, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "traces of all nodes" in done.stdout
    assert not (tmp_path / "evil").exists()
    nodes = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert nodes == ["node00000", "node00001"]
    analysis = analyze(read(str(tmp_path / "run")))
    assert analysis.review.quality.num_ranks_found == 4
    assert analysis.tables["ranks"].sort("rank")["host"].to_list() == ["stub-0", "stub-0", "stub-1", "stub-1"]
    job = json.loads((tmp_path / "run" / "node00000" / "run.json").read_bytes())
    assert [record["host"] for record in job["ranks"]] == ["stub-0", "stub-0", "stub-1", "stub-1"]


@pytest.mark.runs
@pytest.mark.wide
def test_the_same_file_runs_under_plain_torchrun(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(JOB)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    options = ["-m", "instrumented_runs", "--config", str(tmp_path / "job.toml"), "--out", str(tmp_path / "run")]
    wrong = subprocess.run([*command, "2", *options], capture_output=True, text=True, check=False)
    assert "the job has 4 ranks, and 2 were started" in wrong.stderr
    done = subprocess.run([*command, "4", *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert analyze(read(str(tmp_path / "run"))).review.quality.num_ranks_found == 4
