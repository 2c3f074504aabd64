"""Terms of the reports with their definitions: what the `?` beside a term opens."""

from __future__ import annotations

import re

GLOSSARY: dict[str, str] = {
    "Bubble": "Time of the pipeline phase in which a stage has nothing it could compute, because it waits for another stage: "
    "warm-up, steady and drain together. Share: Σ bubble ÷ Σ pipeline phase over the ranks of all whole captured pipelines.",
    "Pipeline phase": "From the start of the first forward to the end of the last backward or weight gradient of one pipeline.",
    "Dependency": "The part of idle time that another stage's computation explains: the bubble.",
    "Closed form": "The published formula for a schedule with equal stages, free transfer and nothing late: 1F1B gives "
    "(p−1)/(m+p−1) of the phase for p stages and m microbatches.",
    "Ideal": "The run's own order of actions, simulated with median times, free transfer and no delay of a host.",
    "MFU": "Model FLOPs utilization: the model's FLOP per step ÷ what the devices' peak could do in the step. Recomputation does "
    "not count.",
    "HFU": "Hardware FLOPs utilization: as MFU, with recomputed FLOP counted.",
    "Roofline": "The most FLOP/s a kernel can reach at its FLOP per byte: the peak of the number format, or the memory's "
    "bandwidth × FLOP per byte, whichever is lower.",
    "Owner": "Every nanosecond of a rank's step has exactly one owner: computation first, then exposed transfer, waiting, copies, "
    "gaps and the host.",
    "Wait": "Time inside a communication operation before the last member that it needs had arrived.",
    "Transfer": "Time inside a communication operation after the last member had arrived.",
    "Exposed": "Communication while the rank computes nothing. The rest is hidden behind computation.",
    "Hidden": "Communication that runs while the rank computes.",
    "Bus bandwidth": "Bytes per second as nccl-tests count them: comparable between kinds of collectives and numbers of ranks, "
    "and with the links' peak.",
    "α–β": "A line through the measured transfers of one kind: time = α (latency) + bytes ÷ β (bandwidth).",
    "Imbalance": "Load of the fullest rank or expert ÷ the mean load.",
    "Within chance": "A load that an even and independent choice of experts would give in 95 of 100 cases.",
    "Hot": "A rank or expert whose load is beyond what chance gives.",
    "Late": "The rank that arrives last, and that the others wait for.",
    "Fault": "A rank, link, host or load that can be repaired.",
    "Change": "Another schedule, number of microbatches, placement, overlap or cut of stages.",
    "Typical step": "A whole step whose length is close to the median. Every figure speaks of these; the others are set apart and "
    "priced.",
    "Noise": "Half the width of the 95% interval of the median step. Smaller differences are chance.",
    "In flight": "Microbatches whose forward has run and whose backward has not ended: their activations are held.",
    "Launch-bound": "A kernel that takes less time than its thread needs until the next launch: the device waits for the host.",
    "Slowdown": "The step with this rank's own durations ÷ the step with its peers' durations.",
    "GPU-hours per day": "Saved share of the step × devices of the job × 24 hours: what a day of training would not need.",
}
_ALIASES = {
    "pipeline bubble": "Bubble",
    "bubble by stage": "Bubble",
    "owners of time": "Owner",
    "waiting": "Wait",
    "waiting for ranks": "Wait",
    "exposed communication": "Exposed",
    "load of every rank": "Imbalance",
    "load of every expert": "Imbalance",
    "load ÷ mean, by layer and expert": "Imbalance",
    "steps": "Typical step",
    "step times": "Typical step",
    "max ÷ mean": "Imbalance",
    "microbatches in flight": "In flight",
    "simulated": "Ideal",
    "gb/s (bus)": "Bus bandwidth",
    "model flops utilization": "MFU",
    "late by": "Late",
    "who is late, and why": "Late",
    "others wait, per step": "Wait",
}


def term_of(title: str) -> str:
    """The term that a heading is about; empty if it is none."""
    lowered = title.strip().lower()
    if lowered in _ALIASES:
        return _ALIASES[lowered]
    return next((term for term in GLOSSARY if term.lower() == lowered), "")


def anchor(term: str) -> str:
    """The id of a term's definition on the page."""
    return "term-" + re.sub(r"[^a-z0-9]+", "-", term.lower()).strip("-")
