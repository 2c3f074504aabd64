"""Size of the page, first paint and redrawing of timelines: `PYTHONPATH=tests/support python benchmarks/timeline_page.py [RANKS KERNELS]...`.

Makes reviews of so many ranks with so many kernels in all (random durations), renders each and opens it in headless Chromium.
The redrawing time is from the change of the range to the frame after the next, the script's part in brackets.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from bokeh.embed import components
from browser import QUIET_ARGUMENTS, until
from playwright.sync_api import Page, sync_playwright
from report_cases import pipeline_case

from reports import render
from reports.page.embedding import bokeh_script
from reports.timeline.layout import lay_out
from reports.timeline.packing import pack
from reports.timeline.spans import device_spans
from traceanalyzer.schema import ACTIONS, TABLES, conform, empty

STAGES, MICROBATCHES, STEPS = 8, 16, (1, 2, 3)
FORWARD_NS = 2_000_000
ZOOM = """(share) => new Promise((done) => {
  const range = Bokeh.documents.map((d) => d.get_model_by_name("timeline-x")).find((m) => m !== null);
  const [a, b] = [range.start, range.end], begun = performance.now(), middle = a + 0.4 * (b - a);
  range.setv({ start: middle - share * (b - a) / 2, end: middle + share * (b - a) / 2 });
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => { const took = performance.now() - begun; const own = +document.getElementById("timeline").dataset.ms; range.setv({ start: a, end: b }); setTimeout(() => done([took, own]), 300); }, 0)));
})"""


def actions(num_ranks: int) -> pl.DataFrame:
    """GPipe of `STAGES` stages, as many replicas as there are ranks for."""
    stages = min(STAGES, num_ranks)
    ranks = pl.DataFrame({"rank": np.arange(num_ranks)}).with_columns(stage=pl.col("rank") % stages)
    order = pl.DataFrame(
        {"phase": ["F"] * MICROBATCHES + ["B"] * MICROBATCHES, "microbatch": [*range(MICROBATCHES)] * 2}
    )
    order = order.with_row_index("position")
    period = (MICROBATCHES + stages) * 3 * FORWARD_NS
    forward = (pl.col("stage") + pl.col("microbatch")) * FORWARD_NS
    backward = (MICROBATCHES + stages) * FORWARD_NS + (
        stages - 1 - pl.col("stage") + pl.col("microbatch")
    ) * 2 * FORWARD_NS
    start = pl.when(pl.col("phase") == "F").then(forward).otherwise(backward) + pl.col("step") * period
    length = pl.when(pl.col("phase") == "F").then(FORWARD_NS).otherwise(2 * FORWARD_NS)
    made = ranks.join(order, how="cross").join(pl.DataFrame({"step": STEPS}), how="cross").with_columns(start_ns=start)
    return conform(made.with_columns(end_ns=pl.col("start_ns") + length), ACTIONS)


def kernels(done: pl.DataFrame, num: int, seed: int = 0) -> pl.DataFrame:
    """Kernels of random lengths inside the actions, about `num` in all."""
    random, each = np.random.default_rng(seed), max(1, num // len(done))
    cuts = np.sort(random.random((len(done), each - 1)), axis=1)
    edges = np.concatenate([np.zeros((len(done), 1)), cuts, np.ones((len(done), 1))], axis=1)
    start, length = (done[name].to_numpy()[:, None] for name in ("start_ns", "end_ns"))
    at = (start + edges * (length - start)).astype(np.int64)
    kinds = np.array(["gemm", "other", "attention"])[random.integers(0, 3, (len(done), each))]
    columns = {
        "rank": np.repeat(done["rank"].to_numpy(), each), "step": np.repeat(done["step"].to_numpy(), each), "kind": kinds.ravel(),
        "start_ns": at[:, :-1].ravel(), "end_ns": at[:, 1:].ravel(), "index": np.arange(len(done) * each),
    }  # fmt: skip
    named = pl.concat_str(pl.col("kind"), pl.lit("_kernel_"), (pl.col("index") % 90).cast(pl.String))
    return conform(pl.DataFrame(columns).with_columns(name=named, cycle=0, stream=7), TABLES["kernels"].schema)


IMAGE = """(share) => new Promise((done) => {
  const range = Bokeh.documents[0].get_model_by_name("x"), [a, b] = [range.start, range.end], begun = performance.now();
  range.setv({ start: a + 0.4 * (1 - share) * (b - a), end: a + (0.4 + 0.6 * share) * (b - a) });
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => { const took = performance.now() - begun; range.setv({ start: a, end: b }); setTimeout(() => done(took), 200); }, 0)));
})"""


def aggregated(frame: pl.DataFrame, bins: int) -> npt.NDArray[np.uint8]:
    """The kind that starts most kernels in each bin of each rank, one byte: what an aggregation keeps in place of kernels."""
    start, end = frame["start_ns"].to_numpy().min(), frame["end_ns"].to_numpy().max()
    counted = (
        frame.select("rank", "kind", bin=(pl.col("start_ns") - start) * bins // (end - start + 1))
        .group_by("rank", "bin", "kind").len().sort("len", descending=True).unique(["rank", "bin"], keep="first")
    )  # fmt: skip
    made: npt.NDArray[np.uint8] = np.zeros((frame["rank"].n_unique(), bins), np.uint8)
    made[counted["rank"].to_numpy(), counted["bin"].to_numpy()] = (
        counted["kind"].cast(pl.Categorical).to_physical().to_numpy() + 1
    )
    return made


def image_page(image: npt.NDArray[np.uint8], path: Path) -> Path:
    """A page with nothing but the aggregation, as an image."""
    from bokeh.models import Range1d  # noqa: PLC0415 - only this comparison needs it
    from bokeh.plotting import figure  # noqa: PLC0415

    made = figure(width=1300, height=540, x_range=Range1d(start=0, end=image.shape[1], name="x"), tools="")
    made.image([image], x=0, y=0, dw=image.shape[1], dh=image.shape[0], palette="Viridis256")
    script, div = components(made, wrap_script=False)
    path.write_text(
        f"<!doctype html><body>{div}<script>{bokeh_script()}</script><script>{script}</script>", encoding="utf-8"
    )
    return path


def compare_with_image(page: Page, frame: pl.DataFrame, folder: Path) -> None:
    """Size and redrawing of aggregations: bins of the width of a pixel, and of the width of the median kernel."""
    span = frame["end_ns"].to_numpy().max() - frame["start_ns"].to_numpy().min()
    fine = int(span / max(1.0, np.median((frame["end_ns"] - frame["start_ns"]).to_numpy())))
    for bins in (1_200, min(fine, 500_000)):
        image = aggregated(frame, bins)
        size = len(base64.b64encode(gzip.compress(image.tobytes(), 6)))
        drawn = ""
        if bins <= 20_000:
            page.goto(image_page(image, folder / "image.html").as_uri())
            until(page, "window.Bokeh && Object.keys(Bokeh.index).length > 0 && Object.values(Bokeh.index)[0].is_idle")
            first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            zooms = [page.evaluate(IMAGE, share) for share in (1.0, 0.1, 0.01)]
            drawn = f"; first paint {first:.0f} ms, redrawing {', '.join(f'{ms:.0f}' for ms in zooms)} ms"
        print(
            f"  aggregated into {bins:,} bins of each of {len(image)} ranks: {size / 1e6:.2f} MB packed{drawn}",
            flush=True,
        )


def painted(page: Page, file: Path) -> tuple[float, float, list[list[float]], int]:
    """First contentful paint and everything drawn, ms; redrawing at three zooms, ms; bars drawn whole."""
    begun = time.perf_counter()
    page.goto(file.as_uri())
    until(page, "document.getElementById('timeline')?.dataset.drawn === 'true'")
    ready = 1000 * (time.perf_counter() - begun)
    first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    bars = int(page.evaluate("+document.getElementById('timeline').dataset.bars"))
    return first, ready, [page.evaluate(ZOOM, share) for share in (1.01, 0.1, 0.01)], bars


def measure(page: Page, num_ranks: int, num_kernels: int, folder: Path) -> None:
    review, _ = pipeline_case()
    done = actions(num_ranks)
    frames = {"actions": done, "kernels": kernels(done, num_kernels)}
    begun = time.process_time()
    laid = lay_out(frames)
    spent = time.process_time() - begun
    spans = device_spans(
        frames["kernels"], *(empty(TABLES[n].schema) for n in ("communications", "collectives", "p2p"))
    )
    every = pack([(3, spans)], laid.window[0], ["gemm", "other", "attention"])
    file = render(review, frames, folder / f"{num_ranks}.html")
    seconds = time.process_time() - begun
    first, ready, zooms, bars = painted(page, file)
    print(
        f"{num_ranks:5} ranks, {len(frames['kernels']):9,} kernels, {len(laid.lanes.ranks)} lanes: page {file.stat().st_size / 1e6:.2f} MB, "
        f"in it {len(laid.device.spans):,} kernels (all of them packed: {len(every.data) / 1e6:.2f} MB); laid out in {spent:.1f} s, "
        f"rendered in {seconds:.1f} s of CPU; first paint {first:.0f} ms, drawn {ready:.0f} ms with {bars:,} bars, "
        f"redrawing whole, a tenth, a hundredth: {', '.join(f'{ms:.0f} (script {own:.0f})' for ms, own in zooms)} ms", flush=True,
    )  # fmt: skip
    compare_with_image(page, frames["kernels"], folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "sizes", nargs="*", type=int, default=[8, 8_000, 8, 1_000_000, 64, 1_000_000, 512, 1_000_000, 4096, 1_000_000]
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(QUIET_ARGUMENTS))
        for ranks, num in zip(asked.sizes[::2], asked.sizes[1::2], strict=True):
            measure(browser.new_page(viewport={"width": 1360, "height": 900}), ranks, num, Path(name))


if __name__ == "__main__":
    main()
