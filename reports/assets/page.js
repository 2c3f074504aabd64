"use strict";
(() => {
  const root = document.documentElement;
  const model = (name) => globalThis.Bokeh?.documents.map((d) => d.get_model_by_name(name)).find((m) => m !== null) ?? null;

  const views = () => Object.values(globalThis.Bokeh?.index ?? {});

  // Theme: colours of axes and grids follow CSS variables when a chart repaints; marked models get the page's ink.
  const repaint = () => {
    const ink = getComputedStyle(root).getPropertyValue("--soft").trim();
    for (const document of globalThis.Bokeh?.documents ?? []) {
      for (const m of document._all_models.values()) {
        if (!m.tags?.includes("ink")) continue;
        if ("text_color" in m) m.text_color = m.type === "Label" ? ink : { value: ink };
        if ("line_color" in m && m.type === "Segment") m.line_color = { value: ink };
      }
    }
    for (const view of views()) view.invalidate_layout?.();
  };
  const setTheme = (theme, keep) => {
    root.dataset.theme = theme;
    if (keep) try { localStorage.setItem("traceanalyzer-theme", theme); } catch { /* the choice lasts for this visit */ }
    repaint();
  };
  document.getElementById("theme")?.addEventListener("click", () => setTheme(root.dataset.theme === "dark" ? "light" : "dark", true));

  // Print: light, checks unfolded; canvases keep the screen's layout, so pictures of them take the paper's width.
  let before = null;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    for (const details of document.querySelectorAll("details.checks")) details.open = true;
    setTheme("light", false);
    for (const view of views()) {
      const picture = view.export("png", true).canvas;
      picture.className = "picture";
      view.el.closest(".canvas")?.append(picture);
    }
  });
  addEventListener("afterprint", () => {
    for (const picture of document.querySelectorAll("canvas.picture")) picture.remove();
    if (before) setTheme(before, false);
  });

  // Downloads.
  const save = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };
  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).blob();
  };
  for (const button of document.querySelectorAll("button[data-csv]")) {
    button.addEventListener("click", async () => {
      const name = button.dataset.csv;
      const block = document.querySelector(`script[data-csv-name="${CSS.escape(name)}"]`);
      save(await unpack(block.textContent), `${name}.csv`);
    });
  }
  document.getElementById("download")?.addEventListener("click", (event) => {
    const name = event.target.dataset.name, record = JSON.parse(document.getElementById(name).textContent);
    save(new Blob([JSON.stringify(record, null, 2)], { type: "application/json" }), `${name}.json`);
  });

  // Timelines: windows by button and key, and microbatch numbers where they fit.
  const show = (axis, start, end) => {
    const range = model(axis);
    if (range && end > start) range.setv({ start, end });
  };
  const move = (axis, pan, zoom) => {
    const range = model(axis);
    if (!range) return;
    const middle = (range.start + range.end) / 2 + pan * (range.end - range.start);
    const half = (zoom * (range.end - range.start)) / 2;
    show(axis, middle - half, middle + half);
  };
  const numbers = () => {
    const figure = model("timeline"), bars = model("timeline-bars"), texts = model("timeline-numbers");
    if (!figure || !bars || !texts) return;
    const { start, end } = figure.x_range, pixels = (figure.inner_width ?? 0) / (end - start);
    const row = (figure.inner_height ?? 0) / Math.abs(figure.y_range.end - figure.y_range.start);
    const shown = { x: [], y: [], text: [], ink: [] }, d = bars.data;
    for (let i = 0; row > 12 && i < d.start_ms.length && shown.x.length < 3000; i++) {
      const left = d.start_ms[i], right = d.end_ms[i], text = String(d.microbatch[i]);
      if (right < start || left > end || (right - left) * pixels < 6 + 7 * text.length) continue;
      shown.x.push((left + right) / 2); shown.y.push(d.row[i]); shown.text.push(text); shown.ink.push(d.ink[i]);
    }
    texts.data = shown;
  };
  let waiting = false;
  const later = () => { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; numbers(); press(); }); } };
  const press = () => {
    for (const b of document.querySelectorAll(".controls button[data-start]")) {
      const range = model(b.closest(".controls").dataset.axis);
      const same = (value, bound) => Math.abs(value - bound) < 0.05 * (range.end - range.start);
      b.setAttribute("aria-pressed", String(range !== null && same(+b.dataset.start, range.start) && same(+b.dataset.end, range.end)));
    }
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button");
    if (!button) return;
    const axis = button.dataset.axis ?? button.closest(".controls")?.dataset.axis;
    if (!axis) return;
    if (button.dataset.start !== undefined) {
      const start = +button.dataset.start, end = +button.dataset.end, margin = button.dataset.show ? 0.1 * (end - start) : 0;
      show(axis, start - margin, end + margin);
      if (button.dataset.show) document.getElementById(button.dataset.show)?.scrollIntoView({ block: "start" });
    } else if (button.dataset.zoom) move(axis, 0, +button.dataset.zoom);
    else if (button.dataset.pan) move(axis, +button.dataset.pan, 1);
  });
  const KEYS = { ArrowLeft: [-0.2, 1], ArrowRight: [0.2, 1], "+": [0, 0.6], "=": [0, 0.6], "-": [0, 1 / 0.6] };
  document.addEventListener("keydown", (event) => {
    const axis = event.target.dataset?.keys;
    if (!axis || !(event.key in KEYS) || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    move(axis, ...KEYS[event.key]);
  });

  // Bars with a text at their end: the axis ends where the longest text does.
  const figures = () => Object.values(globalThis.Bokeh?.index ?? {}).map((view) => view.model);
  const room = (figure) => {
    const [, longest, pixels] = figure.tags, width = figure.inner_width ?? 0, { start } = figure.x_range;
    if (width > 1.3 * pixels) figure.x_range.end = start + (longest - start) / (1 - pixels / width);
  };
  const fit = () => {
    for (const figure of figures()) {
      if (figure.tags?.[0] !== "room") continue;
      room(figure);
      figure.properties.inner_width.change.connect(() => room(figure));
    }
  };

  // Bokeh draws after this script ran; wait for its last figure.
  const begin = () => {
    const drawn = globalThis.Bokeh?.documents.length ?? 0;
    if (!drawn && document.querySelector(".canvas")) return void setTimeout(begin, 30);
    for (const controls of document.querySelectorAll(".controls")) {
      const range = model(controls.dataset.axis);
      for (const property of [range?.properties.start, range?.properties.end]) property?.change.connect(later);
    }
    model("timeline")?.properties.inner_width.change.connect(later);
    fit();
    repaint();
    later();
    root.dataset.height = document.body.scrollHeight;
    root.dataset.ready = "true";
  };
  begin();
})();
