"""Files of other tools: each named in one line, with the command that gives a trace."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path

import pytest
from catalogue.nsys_cases import export

from traceanalyzer.cli import main
from traceanalyzer.errors import InputError
from traceanalyzer.traces import read_traces

SNAPSHOT = {"segments": [{"device": 0, "total_size": 512}], "device_traces": [[]]}
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab12\nsize 99\n"

FILES: dict[str, tuple[bytes, str, str]] = {
    "rank3.json": (LFS, "Git LFS pointer", "git lfs pull --include '*rank3.json'"),
    "rank4.json.gz": (LFS, "Git LFS pointer", "git lfs pull"),
    "run.nsys-rep": (b"PK\x03\x04" + bytes(90), "report of Nsight Systems", "nsys export --type sqlite -o run.sqlite run.nsys-rep"),
    "k.ncu-rep": (b"NVR\0", "report of Nsight Compute", "nsys profile"),
    "et_3.json": (json.dumps({"schema": "1.2.0-chakra.0.0.5", "nodes": [{"id": 4, "ctrl_deps": 2}]}).encode(), "execution trace", "export_chrome_trace"),
    "et_4.json.gz": (gzip.compress(json.dumps({"schema": "1", "nodes": []}).encode()), "execution trace", "export_chrome_trace"),
    "c.1.et": (b"\x05\n\x030.4", "execution trace", "export_chrome_trace"),
    "out_results.json": (json.dumps({"rocprofiler-sdk-tool": [{"agents": []}]}).encode(), "rocprofv3", "torch.profiler"),
    "12_kernel_trace.csv": (b'"Kind","Kernel_Name","Correlation_Id"\n1,"k",2\n', "rocprofv3", "torch.profiler"),
    "node.xplane.pb": (b"\n\x04\x12\x02ab", "XPlane", "create_perfetto_trace=True"),
    "t.pftrace": (b"\n\x10@\x01R\x0c", "Perfetto in its binary form", "traceconv json t.pftrace t.json"),
    "s.pickle": (pickle.dumps(SNAPSHOT), "snapshot of torch.cuda.memory", "_memory_viz"),
    "s.json": (json.dumps(SNAPSHOT).encode(), "snapshot of torch.cuda.memory", "_memory_viz"),
    "events.out.tfevents.17.h.0": (bytes(40), "TensorBoard's events", "tensorboard_trace_handler"),
    "averages.txt": (b"----\nName  Self CPU %   # of Calls\n", "key_averages", "export_chrome_trace"),
    "nccl.log": (b"h:1:2 [0] NCCL INFO AllReduce: opCount 3\n", "NCCL's debug log", "NCCL_INSPECTOR_ENABLE=1"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_tool_is_named_with_the_command_to_run(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, what, remedy = FILES[name]
    (tmp_path / name).write_bytes(content)
    for command in ("analyze", "check"):
        assert main([command, str(tmp_path / name)]) == 3
        first, second = capsys.readouterr().err.strip().splitlines()
        assert what in first
        assert remedy in second
    assert main(["analyze", str(tmp_path)]) == 3
    assert what in capsys.readouterr().err


def test_a_trace_beside_foreign_files_is_read_and_a_pointer_in_place_of_a_rank_is_a_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    event = {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "ts": 1, "dur": 2}
    (tmp_path / "rank0.json").write_text(json.dumps({"traceEvents": [event], "note": "NCCL INFO"}))
    for name in ("rank3.json", "et_3.json", "s.json"):
        (tmp_path / name).write_bytes(FILES[name][0])
    assert main(["check", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "loss   file.unusable              rank3.json" in said
    assert said.count("file.foreign") == 1  # two files of one code
    assert main(["check", str(tmp_path / "rank0.json")]) == 0


def test_a_schema_that_is_damaged_is_told_in_one_line(tmp_path: Path) -> None:
    file = export(tmp_path)
    content = file.read_bytes()
    at = content.index(b"INTEGER NOT NULL, streamId")
    file.write_bytes(content[:at] + b"[" + content[at + 1 :])
    with pytest.raises(InputError, match="SQLite file that cannot be trusted") as refused:
        read_traces(file)
    assert "\n" not in refused.value.message
    assert len(refused.value.message) < 500
