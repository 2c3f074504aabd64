"""First screens of public traces, as the table in docs/measurements.md.

    python benchmarks/first_screens.py FOLDER

FOLDER holds the sets named in `SETS`; a set that is not there is left out. Nothing of it is part of this project.
"""

from __future__ import annotations

import sys
from pathlib import Path

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.errors import TraceAnalyzerError

SETS = {
    "dlrm8-v100": "all 8 ranks; rank 7 spends least in communication kernels (1.7 ms, the others 3.5 to 11.3), so it arrives last",
    "megatron-tp2-v100": "both ranks; rank 1 spends 48.4 of 58.3 ms in all-reduces, rank 0 0.27, so rank 0 arrives last",
    "torchrec-a2a-v100/run4": "all 4 ranks; before both large all-to-alls the launching threads of rank 2 are late: 10.7 ms of idle device in forward, 20.8 ms in `_AlltoAllSingleBackward`, which takes 0.6 ms on rank 0",
    "torchrec-resnet18": "both ranks; rank 0 spends 7.73 ms in collectives, rank 1 0.17, so rank 1 arrives last",
    "deepseek-dualpipe-h800": "1 of 64 ranks; an independent count gives 96.4% computing, 2.29% exposed, 96.3% hidden",
    "torchao-ep-moe-b200": "1 of 2 ranks; an independent count gives 20.9 of 34.3 ms computing",
    "nanogpt-h100/baseline": "1 of 8 ranks; an independent count over the file gives 92.0% computing, 5.61% exposed",
    "nanogpt-h100/hook": "1 of 8 ranks; an independent count over the file gives 92.4% computing, 5.19% exposed",
    "nccl-args-a100": "1 of 2 ranks; an independent count gives 17.5% computing, 503 of 661 ms idle",
    "ns-resolution": "a lone device; an independent count gives 97.5% computing",
    "ddp-mi300": "a lone device that is idle for nine tenths of the time",
    "singles-h100/Qwen_Qwen1.5-0.5B-Chat__1016005.json.gz": "a lone device; one step",
    "singles-h100/gaunernst_bert-small-uncased__1016001.json.gz": "a lone device; its kernels wait for their launches",
    "singles-mi300/Qwen_Qwen1.5-0.5B-Chat__1016005.json.gz": "a lone device; one step",
    "singles-mi300/gaunernst_bert-small-uncased__1016001.json.gz": "a lone device; its kernels wait for their launches",
    "ascend": "one rank; 276 tasks of `Ascend Hardware`, of which 202 start before their launch, so the clock is put right",
    "mtia": "one rank; 3,453 kernels on one stream, each joined to its call",
    "megatronapp-pp4-marks/data-1-pipeline-4-tensor-1-pp-aggregated-iter10.json.gz": "marks of 4 ranks; blame without a price, for replays miss the step by 25.9%",
    "straggler-op-table-SE/trace-SE.parquet": "whole job, replay error 0.18%; the 1.36 s replay stage 1 at the level of stage 0, the 2.18 s are the published study's M_S (0.688 of 3.17 s): every operation of stage 1 at the mean, so that its variation ends, too",
    "straggler-op-table-ST/trace-ST.parquet": "whole job; the study's own what-if (M_S 1.219) names the last stage, too; its ideal is the mean of all stages, ours the level of the other stages",
}
"""Set → why its sentences are true."""


def row(path: Path, name: str, why: str) -> str:
    """One line of the table: sentences, tiles, why."""
    try:
        said = analyze(read(path)).review.headline
    except TraceAnalyzerError as error:
        return f"| `{name}` | {error.message} | | {why} |"
    sentences = "<br>".join(sentence.replace("|", "\\|") for sentence in said.sentences[:3])
    tiles = ", ".join(f"{tile.title} {tile.value_text}" for tile in said.tiles)
    return f"| `{name.partition('__')[0]}` | {sentences} | {tiles} | {why} |"


def main() -> None:
    """Print the table."""
    folder = Path(sys.argv[1])
    print("| traces | first three sentences | tiles | why this is true |")
    print("|---|---|---|---|")
    for name, why in SETS.items():
        if (folder / name).exists():
            print(row(folder / name, name, why))


if __name__ == "__main__":
    main()
