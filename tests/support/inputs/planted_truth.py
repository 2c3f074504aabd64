"""The bubble of a planted run, from what was planted."""

from __future__ import annotations

import re
from statistics import median

from planted import Job, Truth


def true_dependency_share(truth: Truth, job: Job) -> float:
    """Median over steps of dependency ÷ phase, from the true spans by the definition in words."""
    spans: dict[tuple[int, int, str, int, int], list[int]] = {}
    for op in truth.device_ops:
        found = re.fullmatch(r"(\d+)([FBIW])(\d+)", op["action"] or "")
        if found and op["step"] > 0 and op["kind"] in ("gemm", "attention", "elementwise"):
            key = (op["step"], op["rank"], found[2], int(found[1]), int(found[3]))
            start, end = spans.get(key, [op["start_ns"], op["end_ns"]])
            spans[key] = [min(start, op["start_ns"]), max(end, op["end_ns"])]
    shares = []
    for step in sorted({key[0] for key in spans}):
        own = {key[1:]: span for key, span in spans.items() if key[0] == step}
        ends = {(phase, stage, mb): end for (_, phase, stage, mb), (_, end) in own.items()}
        first, last = min(s for s, _ in own.values()), max(e for _, e in own.values())
        dependency = 0
        for rank in range(job.world_size):
            at = first
            for start, end, phase, stage, mb in sorted(
                (s, e, p, st, m) for (r, p, st, m), (s, e) in own.items() if r == rank
            ):
                if phase == "F":
                    needed = ends.get(("F", stage - 1, mb), at)
                elif phase == "W":
                    needed = ends["I", stage, mb]
                elif phase == "I":
                    needed = ends.get(("I", stage + 1, mb), ends["F", stage, mb])
                else:
                    needed = ends.get(("B", stage + 1, mb), ends["F", stage, mb])
                dependency += min(max(needed, at), start) - at
                at = end
            dependency += last - at
        shares.append(dependency / ((last - first) * job.world_size))
    return median(shares)
