"""A capture of a job with thousands of ranks, multiplied from a small planted one, and the truth about it.

    PYTHONPATH=tests/support:. python benchmarks/scale/multiply.py FOLDER --pp 16 --ep 8 --dp 64 [--microbatches 8] [--steps 2]

A block is one expert group's width of pipelines. Three blocks are simulated together (`tests/support/planted`): two healthy
ones, whose computation varies by chance, and one with a slow rank and a slow link. Every block of the large job is one of
them with other ranks, so that what happens is coherent: members of a collective over the whole job, of a gradient's
all-reduce and of an expert exchange end together, and all wait for the one slow rank. Each rank's clock is off by its own
offset. Lists of members above 30 are cut as torch cuts them; `distributedInfo` has them whole.

`FOLDER/capture` is read by every command; `FOLDER/truth.json` says what was planted. For this purpose only: durations of
collectives are those of the small job.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from planted import Faults, Job, plant

from traceanalyzer.traces.capture.ingest import ingest
from traceanalyzer.traces.capture.manifest import DocumentEntry, Manifest, Part, SourceEntry, save_manifest
from traceanalyzer.traces.kineto.facts import FileFacts

BLOCKS = 3
"""Simulated: two healthy ones and the faulty one, which is the last."""
_LISTED = 30
_SLOW, _LINK = 1.3, 6.0


@dataclass(frozen=True)
class Layout:
    """Places of ranks: `rank = position * dp + block * ep + member`."""

    pp: int
    ep: int
    dp: int

    @property
    def world(self) -> int:
        """Ranks of the job."""
        return self.pp * self.dp

    def groups(self, rank: int) -> dict[str, list[int]]:
        """Members by the first letters of a group's description."""
        position, replica = divmod(rank, self.dp)
        block = replica // self.ep * self.ep
        return {
            "default_pg": list(range(self.world)),
            "mesh_pp": [place * self.dp + replica for place in range(self.pp)],
            "mesh_dp": list(range(position * self.dp, (position + 1) * self.dp)),
            "mesh_ep": list(range(position * self.dp + block, position * self.dp + block + self.ep)),
        }


@dataclass(frozen=True)
class Twin:
    """A rank of the large job and the simulated one whose events it has."""

    small: Layout
    large: Layout
    rank: int
    source: int
    offset_ns: int

    def moved(self, rank: int) -> int:
        """Where a simulated rank of the same block stands in the large job."""
        position, replica = divmod(rank, self.small.dp)
        shift = self.rank % self.large.dp // self.large.ep - self.source % self.small.dp // self.small.ep
        return position * self.large.dp + replica + shift * self.large.ep


def twins(small: Layout, large: Layout) -> list[Twin]:
    """Every rank of the large job; the middle block is the faulty one."""
    num_blocks = large.dp // large.ep
    found: list[Twin] = []
    for rank in range(large.world):
        position, replica = divmod(rank, large.dp)
        block, member = divmod(replica, large.ep)
        template = BLOCKS - 1 if block == num_blocks // 2 else block % (BLOCKS - 1)
        source = position * small.dp + template * small.ep + member
        found.append(Twin(small, large, rank, source, int(hashlib.sha256(str(rank).encode()).hexdigest()[:5], 16)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, default in (
        ("pp", 16),
        ("ep", 8),
        ("dp", 64),
        ("microbatches", 8),
        ("steps", 2),
        ("kernels", 2),
        ("split", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    multiply(**vars(parser.parse_args()))


def multiply(folder: Path, pp: int, ep: int, dp: int, microbatches: int, steps: int, kernels: int, split: int) -> int:
    """Write `folder/capture` and `folder/truth.json`; return the number of events.

    `split` cuts every computation and its launch into so many that follow each other: events without simulating them.
    """
    small, large = Layout(pp, ep, BLOCKS * ep), Layout(pp, ep, dp)
    slow, link = (_faulty(small, small, position) for position in (pp // 3, pp * 2 // 3))
    job = Job(
        pp=pp, dp=small.dp, ep=ep, num_microbatches=microbatches, num_steps=steps, kernels_per_action=kernels,
        moe_layers=1 if ep > 1 else 0, labels="own", ranks_per_host=8,
    )  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    plant(job, Faults(slow_compute={slow: _SLOW}, slow_link={link: _LINK}, varying_compute=0.02), folder / "small")
    base = ingest([folder / "small/traces"], folder / "base", num_workers=1).manifest
    capture = folder / "capture"
    (capture / "events").mkdir(parents=True)
    documents = {d.facts.recorded_rank: d for source in base.sources for d in source.documents}
    frames = {
        rank: _split(pl.concat([pl.read_parquet(folder / "base" / p.path) for p in d.parts]), split)
        for rank, d in documents.items()
    }
    sources = [_write(capture, documents[twin.source], frames[twin.source], twin) for twin in twins(small, large)]
    save_manifest(capture, Manifest(tool_version="multiplied", complete=True, sources=tuple(sources)))
    events = sum(document.facts.num_events for source in sources for document in source.documents)
    faulty = [_faulty(small, large, position) for position in (pp // 3, pp * 2 // 3)]
    truth = {
        "num_ranks": large.world, "num_events": events, "pp": pp, "ep": ep, "dp": dp,
        "straggler": {"rank": faulty[0], "slowdown": _SLOW}, "slow_link": {"rank": faulty[1], "factor": _LINK},
        "clock_offset_ns": {twin.rank: twin.offset_ns for twin in twins(small, large)},
    }  # fmt: skip
    (folder / "truth.json").write_text(json.dumps(truth))
    shutil.rmtree(folder / "small")
    shutil.rmtree(folder / "base")
    return events


def _faulty(small: Layout, layout: Layout, position: int) -> int:
    """The last member of the faulty block at a pipeline position."""
    block = BLOCKS - 1 if layout == small else layout.dp // layout.ep // 2
    return position * layout.dp + block * layout.ep + layout.ep - 1


def _split(frame: pl.DataFrame, split: int) -> pl.DataFrame:
    """Computations and their launches in parts of (nearly) equal length; every correlation stays one kernel's and one launch's."""
    computing = (pl.col("category") == "kernel") & ~pl.col("name").cast(pl.String).str.contains("(?i)nccl")
    launched = frame.filter(computing)["correlation"].drop_nulls().unique()
    divided = pl.col("category").is_in(["kernel", "cuda_runtime"]) & pl.col("correlation").is_in(launched.implode())
    length, part, parts = pl.col("duration_ns"), pl.col("_part"), pl.col("_parts")
    first = length * part // parts
    return (
        frame.with_columns(pl.when(divided.fill_null(value=False)).then(split).otherwise(1).alias("_parts"))
        .with_columns(pl.int_ranges(0, parts).alias("_part"))
        .explode("_part")
        .with_columns(
            (pl.col("start_ns") + first).alias("start_ns"),
            (length * (part + 1) // parts - first).alias("duration_ns"),
            (pl.col("correlation") * split + part.cast(pl.UInt64)).alias("correlation"),
            pl.int_range(pl.len(), dtype=pl.Int64).alias("index"),
        )
        .drop("_part", "_parts")
    )


def _write(capture: Path, document: DocumentEntry, frame: pl.DataFrame, twin: Twin) -> SourceEntry:
    """One rank's part, with its facts."""
    name = f"events/rank={twin.rank:05d}/0000.parquet"
    (capture / name).parent.mkdir()
    _renamed(frame, twin).write_parquet(capture / name, compression="zstd", compression_level=1)
    data = (capture / name).read_bytes()
    part = Part(path=name, sha256=hashlib.sha256(data).hexdigest(), num_rows=frame.height, num_bytes=len(data))
    facts = _facts(document.facts, twin)
    counts = replace(
        facts.counts, events_seen=frame.height + sum(facts.counts.events_dropped.values()), events_kept=frame.height
    )
    entry = DocumentEntry(facts=replace(facts, num_events=frame.height, counts=counts), parts=(part,))
    return SourceEntry(path=facts.file, num_bytes=None, modified_ns=None, sha256=facts.digest, documents=(entry,))


def _facts(facts: FileFacts, twin: Twin) -> FileFacts:
    groups = twin.large.groups(twin.rank)
    listed = [
        {**group, "pg_name": _name(group["pg_desc"], groups), "pg_size": len(groups[group["pg_desc"]]), "ranks": groups[group["pg_desc"]]}
        for group in json.loads(facts.process_groups or "[]")
    ]  # fmt: skip
    return replace(
        facts,
        file=f"traces/rank{twin.rank:05d}.json.gz",
        digest=hashlib.sha256(f"{facts.digest} {twin.rank}".encode()).hexdigest(),
        recorded_rank=twin.rank,
        name_rank=twin.rank,
        process_ranks={},
        world_size=twin.large.world,
        host=f"node{twin.rank // 8:04d}",
        base_ns=facts.base_ns + twin.offset_ns,
        process_groups=json.dumps(listed),
    )


def _name(description: str, groups: dict[str, list[int]]) -> str:
    return f"{description}_{groups[description][0]}_{len(groups[description])}"


def _renamed(frame: pl.DataFrame, twin: Twin) -> pl.DataFrame:
    """Rows whose names and arguments speak of the rank's own places in the large job."""
    groups = twin.large.groups(twin.rank)
    column = frame["args"]
    old = column.drop_nulls().unique()
    old = old.filter(old.str.contains("Process Group", literal=True))
    new = pl.Series([_args(text, twin, groups) for text in old], dtype=pl.String)
    return frame.with_columns(column.replace(old, new).alias("args"))


def _args(text: str, twin: Twin, groups: dict[str, list[int]]) -> str:
    found = json.loads(text)
    description = found.get("Process Group Description", "default_pg")
    members = groups[description]
    shown = [str(rank) for rank in members]
    if len(shown) > _LISTED:
        shown = [*shown[: _LISTED - 1], "...", shown[-1]]
    new = {
        "Process Group Name": _name(description, groups),
        "Process Group Ranks": f"[{', '.join(shown)}]",
        "Group size": len(members),
        "Global rank start": members[0],
        "Global rank stride": members[1] - members[0] if len(members) > 1 else 1,
        "Rank": members.index(twin.rank) if "Rank" in found else None,
        "Comms Id": _identity(_name(description, groups), found),
        **{key: twin.moved(found[key]) for key in ("Src Rank", "Dst Rank") if key in found},
    }
    return json.dumps({key: new.get(key, value) for key, value in found.items()}, separators=(",", ":"))


def _identity(name: str, found: dict[str, object]) -> int:
    """One number per collective, equal on its members."""
    text = f"{name}/{found.get('Seq')}/{found['Collective name'] in ('send', 'recv')}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


if __name__ == "__main__":
    main()
