"""Step times and where they went: python examples/ask_the_tables.py TRACES."""

import sys

import polars as pl

import traceanalyzer as ta

result = ta.analyze(ta.read(sys.argv[1]))
print(result.review.headline.sentences[0])
steps = result.tables["steps"]
print(steps.select("rank", "step", ((pl.col("end_ns") - pl.col("start_ns")) / 1e6).alias("ms")))
owners = result.tables["accounting"].group_by("owner").agg((pl.col("duration_ns").sum() / 1e6).alias("ms"))
print(owners.sort("ms", descending=True))
