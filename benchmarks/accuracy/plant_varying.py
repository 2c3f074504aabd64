"""Plants jobs whose computation and transfers vary by chance, for `one_rank_bounds.py`.

PYTHONPATH=.:tests/support python benchmarks/accuracy/plant_varying.py FOLDER
"""

import sys
from pathlib import Path

from planted import Faults, Job, plant

_PIPELINE = Job(pp=4, num_steps=2)
_COALESCED = Job(pp=4, num_steps=2, coalesced=True)
_EXPERTS = {"pp": 1, "dp": 4, "ep": 4, "moe_layers": 2, "num_steps": 4, "even_exchange": True}
_BOTH = {"varying_compute": 0.1, "varying_transfer": 1.0}
JOBS = {
    "transfer-100": (_PIPELINE, Faults(varying_transfer=1.0)),
    "transfer-30": (_PIPELINE, Faults(varying_transfer=0.3)),
    "compute-10": (_PIPELINE, Faults(varying_compute=0.1)),
    "compute-30": (_PIPELINE, Faults(varying_compute=0.3)),
    "slow-stage-both": (_PIPELINE, Faults(slow_compute={2: 1.4}, **_BOTH)),
    "slow-stage-coalesced-both": (_COALESCED, Faults(slow_compute={1: 1.4}, **_BOTH)),
    "experts-both": (Job(**_EXPERTS, num_microbatches=2), Faults(slow_compute={2: 1.3}, **_BOTH)),
    "experts-transfer-30": (Job(**_EXPERTS, num_microbatches=4), Faults(varying_transfer=0.3)),
}

if __name__ == "__main__":
    for name, (job, faults) in JOBS.items():
        plant(job, faults, Path(sys.argv[1]) / name)
