"""Tables of expert parallelism: routing, traffic, loads and who waits for whom."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema.columns import GROUP, LAYER, RANK, SEQUENCE, STEP, WAY, Column, Table

ROUTING_TABLE = Table(
    name="routing",
    meaning="One row per step, layer, source rank and expert: the token copies routed there.",
    columns={
        "step": STEP,
        "layer": LAYER,
        "group": GROUP,
        "rank": Column(pl.Int32, "Global rank that the tokens come from."),
        "expert": Column(pl.Int32, "Expert; null if only the receiving rank is known."),
        "expert_rank": Column(pl.Int32, "Rank that holds the expert."),
        "tokens": Column(pl.Int64, "Token copies routed there."),
        "source": Column(pl.String, "Source: `side_file`, `splits` or `unpaired_splits`."),
    },
)
ROUTING = ROUTING_TABLE.schema

TRAFFIC_TABLE = Table(
    name="traffic",
    meaning="One row per exchange and pair of ranks: what went from one to the other.",
    columns={
        "step": STEP,
        "group": GROUP,
        "sequence": SEQUENCE,
        "layer": LAYER,
        "direction": WAY,
        "source": Column(pl.Int32, "Global rank that sends."),
        "target": Column(pl.Int32, "Global rank that receives."),
        "tokens": Column(pl.Int64, "Rows sent; null if the call split its input evenly without stating its rows."),
        "bytes": Column(pl.Int64, "Size of these rows."),
        "agrees": Column(
            pl.Boolean, "Whether the sender's and the receiver's lists agree; null if only one side was captured."
        ),
    },
)
TRAFFIC = TRAFFIC_TABLE.schema

LOAD_STATISTICS_TABLE = Table(
    name="load_statistics",
    meaning="One row per step, layer and group: how uneven the loads of ranks and experts are.",
    columns={
        "step": STEP,
        "layer": LAYER,
        "group": GROUP,
        "unit": Column(pl.String, "What has the load: `rank` or `expert`."),
        "side": Column(pl.String, "Which token copies count: `received` or `sent`."),
        "num": Column(pl.Int32, "Ranks or experts that are counted."),
        "tokens": Column(pl.Int64, "Load of all members."),
        "max_over_mean": Column(pl.Float64, "Largest load over the mean."),
        "max_vio": Column(pl.Float64, "Largest over mean load, less 1."),
        "cv": Column(pl.Float64, "Population standard deviation of the loads over their mean."),
        "gini": Column(pl.Float64, "Gini coefficient of the loads."),
        "entropy_share": Column(pl.Float64, "Entropy of the loads' shares over its maximum: 1 is even."),
        "num_effective": Column(pl.Float64, "Number of evenly loaded members with the same entropy: exp(entropy)."),
        "num_idle": Column(pl.Int32, "Members without a token."),
        "hottest": Column(pl.Int32, "The member with most tokens; the smallest of several."),
    },
)
LOAD_STATISTICS = LOAD_STATISTICS_TABLE.schema

EXPERT_CHAIN_TABLE = Table(
    name="expert_chain",
    meaning="One row per step, layer and rank: tokens, times and waits along the expert layer.",
    columns={
        "step": STEP,
        "layer": LAYER,
        "group": GROUP,
        "rank": RANK,
        "sent_tokens": Column(pl.Int64, "Token copies sent, own share included."),
        "received_tokens": Column(pl.Int64, "Token copies received, own share included."),
        "load_over_mean": Column(pl.Float64, "Received tokens over the group's mean."),
        "dropped_tokens": Column(pl.Int64, "Copies of the rank's own tokens that no expert had room for."),
        "computed_rows": Column(pl.Int64, "Rows of the rank's expert computation, forward."),
        "padded_rows": Column(pl.Int64, "Of these, rows that no token fills."),
        "router_ns": Column(pl.Int64, "Choosing experts, forward."),
        "permutation_ns": Column(pl.Int64, "Sorting tokens by expert and back, forward."),
        "count_exchange_ns": Column(pl.Int64, "Exchange of token counts, wait included."),
        "dispatch_sent_bytes": Column(pl.Int64, "Sent over a link at dispatch: own share left out."),
        "dispatch_received_bytes": Column(pl.Int64, "Received over a link at dispatch."),
        "dispatch_wait_ns": Column(pl.Int64, "Wait at dispatch."),
        "dispatch_transfer_ns": Column(pl.Int64, "Transfer of dispatch."),
        "experts_ns": Column(pl.Int64, "Expert computation, forward."),
        "combine_wait_ns": Column(pl.Int64, "Wait at combine."),
        "combine_transfer_ns": Column(pl.Int64, "Transfer of combine."),
        "combine_late_rank": Column(pl.Int32, "The rank that it waited for at combine."),
        "combine_caused_wait_ns": Column(pl.Int64, "Wait of the others for this rank at combine."),
        "combine_backward_wait_ns": Column(pl.Int64, "Wait at the backward of combine."),
        "experts_backward_ns": Column(pl.Int64, "Expert computation, backward."),
        "dispatch_backward_wait_ns": Column(pl.Int64, "Wait at the backward of dispatch."),
        "dispatch_backward_caused_wait_ns": Column(
            pl.Int64, "Wait of the others for this rank at the backward of dispatch."
        ),
    },
)
EXPERT_CHAIN = EXPERT_CHAIN_TABLE.schema

EXCHANGES_TABLE = Table(
    name="exchanges",
    meaning="One row per all-to-all: who was late, who was slow, and what the others waited.",
    columns={
        "step": STEP,
        "group": GROUP,
        "sequence": SEQUENCE,
        "layer": LAYER,
        "direction": WAY,
        "skew_ns": Column(pl.Int64, "Last arrival less first arrival."),
        "late_rank": Column(pl.Int32, "The last to arrive."),
        "lead_ns": Column(pl.Int64, "How long it arrived after the next to last one."),
        "transfer_ns": Column(pl.Int64, "Longest transfer of a member."),
        "slow_rank": Column(pl.Int32, "The member with the longest transfer."),
        "expected_ns": Column(
            pl.Int64, "What that transfer would take at the run's own latency and rate; null if unknown."
        ),
        "wait_ns": Column(pl.Int64, "Wait, summed over members."),
        "cause": Column(pl.String, "Why it is slow: `even` (it is not), `compute`, `communication` or `mixed`."),
    },
)
EXCHANGES = EXCHANGES_TABLE.schema

EXPERT_BLAME_TABLE = Table(
    name="expert_blame",
    meaning="One row per all-to-all, waiting rank and cause: for whom it waited, and why.",
    columns={
        "step": STEP,
        "group": GROUP,
        "sequence": SEQUENCE,
        "layer": LAYER,
        "direction": WAY,
        "waiter": Column(pl.Int32, "The rank that waited."),
        "culprit": Column(pl.Int32, "The rank that it waited for."),
        "cause": Column(pl.String, "What the culprit did: `experts`, `other_compute`, `transfer`, `host` or `before`."),
        "duration_ns": Column(pl.Int64, "The wait."),
    },
)
EXPERT_BLAME = EXPERT_BLAME_TABLE.schema
