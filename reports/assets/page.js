"use strict";
(() => {
  const root = document.documentElement;
  const views = () => Object.values(globalThis.Bokeh?.index ?? {});

  // Theme: colours of axes and grids follow CSS variables when a chart repaints; marked models get the page's ink.
  // Charts in sight come first; the others follow one by one, so that a switch is seen at once. Paper needs all of them now.
  const marked = new WeakMap();
  const inked = (view) => {
    if (!marked.has(view)) marked.set(view, [...view.model.references()].filter((m) => m.tags?.includes("ink")));
    return marked.get(view);
  };
  const paint = (view, ink, now) => {
    for (const m of inked(view)) {
      if ("text_color" in m) m.text_color = m.type === "Label" ? ink : { value: ink };
      if ("line_color" in m && m.type === "Segment") m.line_color = { value: ink };
    }
    if (now) view.invalidate_layout?.();  // drawn at once
    else view.request_repaint?.();
  };
  let turn = 0;
  const repaint = (now) => {
    const ink = getComputedStyle(root).getPropertyValue("--soft").trim(), own = ++turn, rest = [];
    for (const view of views()) {
      const { top, bottom } = view.el.getBoundingClientRect();
      if (now || (bottom > 0 && top < innerHeight)) paint(view, ink, now);
      else rest.push([Math.abs(top), view]);
    }
    rest.sort(([a], [b]) => a - b);
    const next = () => {
      if (own !== turn || !rest.length) return;
      paint(rest.shift()[1], ink);
      setTimeout(next, 16);
    };
    setTimeout(next, 60);
  };
  const setTheme = (theme, keep, now) => {
    root.dataset.theme = theme;
    if (keep) try { localStorage.setItem("traceanalyzer-theme", theme); } catch { /* the choice lasts for this visit */ }
    repaint(now);
  };
  document.getElementById("theme")?.addEventListener("click", () => setTheme(root.dataset.theme === "dark" ? "light" : "dark", true));

  // Print: light; prose unfolded, the tables behind it left out; canvases keep the screen's layout, so pictures of them take the paper's width.
  const PROSE = "details.checks, details.withheld_causes, details.withheld, details.command, details.without, #method > details, #provenance > details";
  let before = null, unfolded = [];
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    unfolded = [...document.querySelectorAll(PROSE)].filter((details) => !details.open);
    for (const details of unfolded) details.open = true;
    setTheme("light", false, true);
    for (const view of views()) {
      const picture = view.export("png", true).canvas;
      picture.className = "picture";
      view.el.closest(".canvas")?.append(picture);
    }
  });
  addEventListener("afterprint", () => {
    for (const picture of document.querySelectorAll("canvas.picture")) picture.remove();
    for (const details of unfolded) details.open = false;
    if (before) setTheme(before, false, true);
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
  document.getElementById("download")?.addEventListener("click", async (event) => {
    const name = event.target.dataset.name, block = document.getElementById(name);
    const long = block.type.endsWith("octet-stream");
    const record = JSON.parse(long ? await (await unpack(block.textContent)).text() : block.textContent);
    save(new Blob([JSON.stringify(record, null, 2)], { type: "application/json" }), `${name}.json`);
  });

  // Bars with a text at their end: the axis ends where the longest text does.
  const figures = () => Object.values(globalThis.Bokeh?.index ?? {}).map((view) => view.model);
  const room = (figure) => {
    const [, longest, pixels] = figure.tags, width = figure.inner_width ?? 0, { start } = figure.x_range;
    if (width > 1.3 * pixels) figure.x_range.end = start + (longest - start) / (1 - pixels / width);
  };
  // Numbers in cells: shown where the widest fits.
  const cells = (figure) => {
    const [, columns, pixels] = figure.tags;
    for (const drawn of figure.renderers) if (drawn.tags?.[0] === "numbers") drawn.visible = (figure.inner_width ?? 0) / columns >= pixels;
  };
  // Numbers below an axis: as many as stand side by side.
  const marks = (figure) => {
    for (const axis of figure.below ?? []) if (axis.ticker?.type === "BasicTicker") axis.ticker.desired_num_ticks = Math.max(2, Math.min(6, Math.floor((figure.inner_width ?? 600) / 60)));
  };
  // Names left of an axis take at most half of a narrow picture; the numbers below it have them whole.
  const whole = new WeakMap();
  const names = (figure) => {
    for (const axis of figure.left ?? []) {
      const given = whole.get(axis) ?? axis.major_label_overrides;
      if (!(given instanceof Map) || !given.size) continue;
      whole.set(axis, given);
      const most = Math.max(10, Math.floor((0.5 * (figure.outer_width ?? 1200)) / 6.6));
      const cut = (name) => (typeof name === "string" && name.length > most ? `${name.slice(0, most - 1)}…` : name);
      const now = new Map([...given].map(([at, name]) => [at, cut(name)]));
      const shown = axis.major_label_overrides;
      if ([...now].some(([at, name]) => shown.get(at) !== name)) axis.major_label_overrides = now;
    }
  };
  // Names of dots: shown where the picture is as wide as they were placed for; hovering tells them elsewhere.
  const dots = (figure) => {
    for (const drawn of figure.renderers) if (drawn.tags?.[0] === "names") drawn.visible = (figure.inner_width ?? 0) >= figure.tags[1];
  };
  const fit = () => {
    for (const figure of figures()) {
      const fits = [marks, figure.name?.startsWith("timeline") ? null : names, { room, cells, dots }[figure.tags?.[0]]].filter(Boolean);
      const all = () => fits.forEach((each) => each(figure));
      all();
      figure.properties.inner_width?.change.connect(all);
    }
  };

  // Bokeh draws after this script ran; wait for its last figure.
  const begin = () => {
    const drawn = globalThis.Bokeh?.documents.length ?? 0;
    if (!drawn && document.querySelector(".canvas")) return void setTimeout(begin, 30);
    fit();
    repaint();
    root.dataset.height = document.body.scrollHeight;
    root.dataset.ready = "true";
  };
  begin();
})();
