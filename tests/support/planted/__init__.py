"""Planted traces: multi-rank GPU traces in Kineto's format from a small simulation that knows the truth.

Imports nothing from `traceanalyzer`, so that what is tested is never its own judge.

    from planted import Faults, Job, plant

    planted = plant(Job(schedule="1F1B", pp=4, num_microbatches=8), Faults(clock_offset_ns={1: 5_000_000}), folder)
    planted.traces                   # folder with one rank<r>.json.gz per rank: hand this to the code under test
    planted.truth.device_ops         # every kernel and copy: rank, step, kind, action, stream, start_ns, end_ns, ...
    planted.truth.step_ranges        # the CPU's ProfilerStep ranges
    planted.truth.messages           # every point-to-point message with both ends
    (folder / "truth.json")          # the same as JSON; it lies beside the traces' folder, never in it

How a rank is simulated: one CPU timeline issues launches in program order, `steps_ahead` steps ahead of the device; a
device operation starts when its launch call has returned (plus a latency), the previous operation of its stream has
ended and the events its stream waits for have happened. A communication kernel starts (*arrives*) likewise and then
spins: a receive until its sender arrives, a collective until the last member it exchanges bytes with arrives; from then
on the *transfer* lasts `latency + bytes / bandwidth` of the slowest link used. Truth times are nanoseconds of one
perfect clock; the traces carry every rank's own clock (`true + offset + drift * (true - EPOCH_NS)`).

Everything is deterministic: the same job and faults give the same bytes. See `Job` and `Faults` for what can be planted.
Ranks are numbered `rank = pipeline_rank * dp + replica`; an expert group is `ep` consecutive replicas of one stage.
Step 0 runs before the capture: its kernels that still run when the capture begins have no launch record. Captured steps
are 1 to `num_steps`.
"""

from planted.job import EPOCH_NS, Faults, Job, orders
from planted.kineto import Planted, plant
from planted.simulation import Truth, simulate

__all__ = ["EPOCH_NS", "Faults", "Job", "Planted", "Truth", "orders", "plant", "simulate"]
