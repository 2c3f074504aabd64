"""Runs the flow from traces to measured communication, for tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from planted import Planted

from traceanalyzer.measurements.communication.collectives import split_collectives
from traceanalyzer.measurements.communication.links import links
from traceanalyzer.measurements.communication.messages import split_messages
from traceanalyzer.schema import empty
from traceanalyzer.tables import Tables, build_tables
from traceanalyzer.tables.communication.communications import communications
from traceanalyzer.traces import read_job, read_traces
from traceanalyzer.traces.run_folder import ROUTING_RECORDS


@dataclass
class Measured:
    tables: Tables
    collectives: pl.DataFrame
    p2p: pl.DataFrame
    communications: pl.DataFrame


def measure(folder: Path) -> Measured:
    traces = read_traces(folder)
    tables = build_tables(traces.events, traces.ranks, read_job(folder), empty(ROUTING_RECORDS))
    peaks, one_clock = links(tables.ranks), tables.clock.one_clock
    splits = split_collectives(tables.collectives, one_clock=one_clock, links=peaks, clocks=tables.clocks)
    messages = split_messages(tables.p2p, tables.kernels, one_clock=one_clock, links=peaks, clocks=tables.clocks)
    return Measured(tables, splits, messages, communications(splits, messages))


def beside_truth(measured: Measured, planted: Planted) -> pl.DataFrame:
    """Communication kernels with `true_wait_ns`, `true_transfer_ns`, `true_role` of the same kernel."""
    truth = pl.DataFrame(
        [
            (op["rank"], op["correlation"], op["wait_ns"], op["transfer_ns"], op["role"])
            for op in planted.truth.device_ops
            if "wait_ns" in op
        ],
        schema={
            "rank": pl.Int32,
            "correlation": pl.UInt64,
            "true_wait_ns": pl.Int64,
            "true_transfer_ns": pl.Int64,
            "true_role": pl.String,
        },
        orient="row",
    )
    ids = measured.tables.kernels.select("rank", "cycle", "index", "correlation")
    return measured.communications.join(ids, on=["rank", "cycle", "index"]).join(truth, on=["rank", "correlation"])
