"""Tables of expert parallelism: routing, traffic, loads and who waits for whom."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema.categories import DIRECTION

ROUTING = pl.Schema(
    {
        "step": pl.Int32,
        "layer": pl.Int32,
        "group": pl.String,  # ranks of the expert group joined by commas
        "rank": pl.Int32,  # source
        "expert": pl.Int32,  # null where only the receiving rank is known
        "expert_rank": pl.Int32,  # rank that holds the expert
        "tokens": pl.Int64,  # token copies routed there
        "source": pl.String,  # side_file, splits or unpaired_splits
    }
)

TRAFFIC = pl.Schema(
    {
        "step": pl.Int32,
        "group": pl.String,
        "sequence": pl.Int32,
        "layer": pl.Int32,
        "direction": DIRECTION,
        "source": pl.Int32,  # global rank
        "target": pl.Int32,
        "tokens": pl.Int64,  # rows; null where the call split its input evenly without saying how many rows it has
        "bytes": pl.Int64,
        "agrees": pl.Boolean,  # sender's and receiver's lists say the same; null where only one side was captured
    }
)

LOAD_STATISTICS = pl.Schema(
    {
        "step": pl.Int32,
        "layer": pl.Int32,
        "group": pl.String,
        "unit": pl.String,  # rank or expert
        "side": pl.String,  # received or sent
        "num": pl.Int32,  # members
        "tokens": pl.Int64,  # of all members
        "max_over_mean": pl.Float64,
        "max_vio": pl.Float64,
        "cv": pl.Float64,  # population
        "gini": pl.Float64,
        "entropy_share": pl.Float64,  # entropy over its maximum: 1 is even
        "num_effective": pl.Float64,  # exp(entropy)
        "num_idle": pl.Int32,  # members without a token
        "hottest": pl.Int32,  # the member with most tokens; the smallest of several
    }
)

EXPERT_CHAIN = pl.Schema(
    {
        "step": pl.Int32,
        "layer": pl.Int32,
        "group": pl.String,
        "rank": pl.Int32,
        "sent_tokens": pl.Int64,  # copies, own share included
        "received_tokens": pl.Int64,
        "load_over_mean": pl.Float64,  # received tokens over the group's mean
        "dropped_tokens": pl.Int64,  # of the rank's own tokens: copies that no expert had room for
        "computed_rows": pl.Int64,  # rows of the rank's expert computation, forward
        "padded_rows": pl.Int64,  # of these, rows that no token fills
        "router_ns": pl.Int64,  # forward
        "permutation_ns": pl.Int64,  # forward: sorting tokens by expert and back
        "count_exchange_ns": pl.Int64,  # wait included
        "dispatch_sent_bytes": pl.Int64,  # over a link: own share left out
        "dispatch_received_bytes": pl.Int64,
        "dispatch_wait_ns": pl.Int64,
        "dispatch_transfer_ns": pl.Int64,
        "experts_ns": pl.Int64,
        "combine_wait_ns": pl.Int64,
        "combine_transfer_ns": pl.Int64,
        "combine_late_rank": pl.Int32,  # whom the rank waited for at combine
        "combine_caused_wait_ns": pl.Int64,  # wait of the others for this rank at combine
        "combine_backward_wait_ns": pl.Int64,
        "experts_backward_ns": pl.Int64,
        "dispatch_backward_wait_ns": pl.Int64,
        "dispatch_backward_caused_wait_ns": pl.Int64,
    }
)

EXCHANGES = pl.Schema(
    {
        "step": pl.Int32,
        "group": pl.String,
        "sequence": pl.Int32,
        "layer": pl.Int32,
        "direction": DIRECTION,
        "skew_ns": pl.Int64,  # last arrival less first arrival
        "late_rank": pl.Int32,  # the last to arrive
        "lead_ns": pl.Int64,  # its arrival after the next to last one
        "transfer_ns": pl.Int64,  # longest transfer of a member
        "slow_rank": pl.Int32,  # the member with the longest transfer
        "expected_ns": pl.Int64,  # transfer of that member at the run's own latency and rate; null where not known
        "wait_ns": pl.Int64,  # summed over members
        "cause": pl.String,  # even, compute, communication, mixed
    }
)

EXPERT_BLAME = pl.Schema(
    {
        "step": pl.Int32,
        "group": pl.String,
        "sequence": pl.Int32,
        "layer": pl.Int32,
        "direction": DIRECTION,
        "waiter": pl.Int32,
        "culprit": pl.Int32,
        "cause": pl.String,  # experts, other_compute, transfer, host, before
        "duration_ns": pl.Int64,
    }
)
