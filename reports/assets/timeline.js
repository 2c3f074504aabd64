"use strict";
(() => {
  const facts_block = document.getElementById("timeline-facts");
  if (!facts_block) return;
  const facts = JSON.parse(facts_block.textContent);
  const ACTION = 0, IDEAL = 1, WAIT = 2, DEVICE = 3;
  const MOST_BARS = 5000;
  const WAITS = new Set(["dependency", "late send", "late member"]), MOVES = new Set(["transfer", "communication"]);
  const known_models = new Map();
  const model = (name) => {
    const found = known_models.get(name) ?? Bokeh.documents.map((d) => d.get_model_by_name(name)).find((m) => m !== null) ?? null;
    if (found) known_models.set(name, found);
    return found;
  };
  const $ = (id) => document.getElementById(id);
  const unit = facts.unit_ns / 1e6, kinds = facts.kinds, ranks = facts.ranks;
  const placeOfRank = new Map(ranks.map((r, i) => [r.rank, i]));

  // ---- Reading: byte planes of each column, one after another.
  const bytes = async (id) => {
    const packed = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const columns = (raw) => {
    let at = 0;
    const column = (width) => {
      const out = new Uint32Array(facts.num);
      for (let plane = 0; plane < width; plane++, at += facts.num)
        for (let i = 0, shift = 8 * plane; i < facts.num; i++) out[i] |= raw[at + i] << shift;
      return out;
    };
    const [start, lasts, kind, name, peer, match] = [4, 4, 1, 2, 2, 4].map(column);
    let first = 0;
    const tracks = facts.tracks.map(([layer, rank, row, num]) => {
      let longest = 0;
      for (let i = first + 1; i < first + num; i++) start[i] += start[i - 1];
      for (let i = first; i < first + num; i++) longest = Math.max(longest, lasts[i]);
      const track = { layer, rank, row, first, last: first + num, longest };
      first += num;
      return track;
    });
    return { start, lasts, kind, name, peer, match, tracks };
  };

  let spans = null, bins = null;
  let step = facts.shown, group = 0, moment = null, query = null, hit = -1;
  const NAME = 17;
  let lanes = [], ideals = [], laneOf = new Map(), shift = 0, gap = 0.9;
  const byRank = new Map();

  const text = (ms) => {
    const size = Math.abs(ms);
    if (size >= 1000) return `${Number((ms / 1000).toPrecision(4))} s`;
    return size >= 1 ? `${Number(ms.toPrecision(4))} ms` : size >= 0.001 ? `${Number((1000 * ms).toPrecision(4))} µs` : `${Math.round(1e6 * ms)} ns`;
  };
  const msOf = (units) => facts.zero_ms + units * unit;
  const unitsOf = (ms) => Math.max(0, (ms - facts.zero_ms) / unit);
  const first_at = (track, at) => {
    let low = track.first, high = track.last;
    while (low < high) { const middle = (low + high) >> 1; if (spans.start[middle] < at) low = middle + 1; else high = middle; }
    return low;
  };

  // ---- Drawing.
  const blank = () => ({ y: [], left: [], right: [], height: [], color: [], alpha: [], name: [], place: [], when: [], lasts: [] });
  const draw_track = (out, track, view, top, height, options = {}) => {
    const { start, lasts, kind, name, peer } = spans;
    const moved = options.moved ?? 0, from = unitsOf(view.from - moved), to = unitsOf(view.to - moved);
    const thin = view.thin, end = to + 1, lane = options.where ?? `rank ${track.rank}`;
    const place = track.layer === DEVICE ? `${lane}, stream row ${track.row + 1}` : lane;
    const push = (a, b, k, label, alpha, busy) => {
      const high = track.layer === DEVICE && WAITS.has(kinds[k].key) ? 0.45 * height : height;
      out.y.push(top + height / 2); out.height.push(high); out.color.push(kinds[k].color); out.alpha.push(alpha);
      out.left.push(msOf(a) + moved - shift); out.right.push(msOf(b) + moved - shift);
      out.name.push(label); out.place.push(place);
      out.when.push(`${text(msOf(a) + moved - shift)} after its step's start`); out.lasts.push(busy === null ? text((b - a) * unit) : `${text((b - a) * unit)}, ${text(busy * unit)} of it busy`);
    };
    const faint = options.alpha ?? 1;
    for (let i = first_at(track, from - track.longest); i < track.last && start[i] < end; ) {
      const a = start[i], b = a + lasts[i];
      if (b < from) { i++; continue; }
      const found = query !== null && query.has(name[i]);
      if (b - a >= thin || (found && view.mark)) {
        const k = kind[i], waits = peer[i] ? `, for rank ${peer[i] - 1}` : "";
        const label = kinds[k].key.length < 3 ? facts.names[name[i]] || kinds[k].label : `${kinds[k].label}${waits}${facts.names[name[i]].startsWith("waits") ? "" : `: ${facts.names[name[i]]}`}`;
        push(a, Math.max(b, a + (found ? thin : 0)), k, label, query === null || found ? faint : 0.2 * faint, null);
        if (options.number && (b - a) * view.pixels * unit > 12) view.number(a, b, i, moved, top + height / 2, height);
        if (peer[i] && WAITS.has(kinds[k].key)) view.culprit(a, b, i, top + height / 2);
        if (track.layer === DEVICE && spans.match[i] && MOVES.has(kinds[k].key)) view.band(a, b, i);
        i++;
        continue;
      }
      // Narrower than a line: one bar for all such neighbours, in the colour of what takes most of it.
      const sums = new Map();
      let last = b, count = 0, busy = 0, some = false;
      while (i < track.last && start[i] <= last + thin && lasts[i] < thin && start[i] < a + 2 * thin) {
        sums.set(kind[i], (sums.get(kind[i]) ?? 0) + lasts[i]);
        last = Math.max(last, start[i] + lasts[i]); busy += lasts[i]; count++; some ||= query !== null && query.has(name[i]);
        i++;
      }
      const most = [...sums].reduce((x, y) => (y[1] > x[1] ? y : x))[0];
      const what = track.layer === DEVICE ? "kernels" : "actions";
      push(a, Math.max(last, a + thin), most, count === 1 ? `${kinds[most].label}` : `${count} ${what}, mostly ${kinds[most].label}`, (query === null || some ? faint : 0.2 * faint) * Math.max(0.35, Math.min(1, busy / Math.max(1, last - a))), busy);
    }
  };

  const counted = (view) => {
    let count = 0, tracks = 0;
    const from = unitsOf(view.from), to = unitsOf(view.to);
    for (const rank of lanes) for (const track of byRank.get(rank)?.[DEVICE] ?? []) {
      const here = first_at(track, to) - first_at(track, from);
      count += here; tracks += here > 0;
    }
    return { count, tracks };
  };
  const detailed = (view) => facts.whole || facts.detail.some(([a, b]) => a < view.to && b > view.from);

  const bars_of = (view, kernels) => {
    const out = blank();
    view.texts = { x: [], y: [], text: [], ink: [] }; view.waits = []; view.moves = new Map();
    view.number = (a, b, i, moved, y, height) => {
      const label = (/(\d+)$/.exec(facts.names[spans.name[i]]) ?? [""])[0], width = (b - a) * unit * view.pixels;
      if (!label || height * view.row < 11 || width < 6 + 7 * label.length || view.texts.x.length > 2500) return;
      view.texts.x.push(msOf((a + b) / 2) + moved - shift); view.texts.y.push(y); view.texts.text.push(label); view.texts.ink.push(kinds[spans.kind[i]].ink);
    };
    view.culprit = (a, b, i, y) => { if ((b - a) * unit * view.pixels > 14) view.waits.push([b - a, b, i, y]); };
    view.band = (a, b, i) => {
      const of = spans.match[i], known = view.moves.get(of) ?? { a: 0, b: 0, lanes: new Set(), kind: spans.kind[i] };
      known.a = Math.max(known.a, a); known.b = Math.max(known.b, b); known.lanes.add(view.lane);
      view.moves.set(of, known);
    };
    const [strip, stack] = !facts.has_actions ? [0, 0.88] : kernels ? (view.row >= 34 ? [0.3, 0.56] : [0.22, 0.64]) : [0.88, 0];
    lanes.forEach((rank, lane) => {
      const tracks = byRank.get(rank) ?? {}, top = lane - 0.44;
      view.lane = lane;
      const where = `rank ${rank}${ranks[placeOfRank.get(rank)].stage !== null ? `, stage ${ranks[placeOfRank.get(rank)].stage}` : ""}`;
      if (strip && !kernels) for (const track of tracks[WAIT] ?? []) draw_track(out, track, view, top + 0.2 * strip, 0.6 * strip, { where });
      if (strip) for (const track of tracks[ACTION] ?? []) draw_track(out, track, view, top, strip, { where, number: true });
      const device = tracks[DEVICE] ?? [];
      if (kernels) for (const track of device) {
        const rows = Math.max(1, ...device.map((t) => t.row + 1)), high = stack / rows;
        draw_track(out, track, view, top + (strip ? strip + 0.02 : 0) + track.row * high, high * 0.94, { where });
      }
      if (bins && !facts.has_actions) draw_bins(out, view, rank, top);
    });
    ideals.forEach((rank, i) => {
      const track = byRank.get(rank)[IDEAL][0], y = lanes.length + gap + i;
      for (const s of below()) if (s.start < view.to && s.ideal > view.from)
        draw_track(out, track, view, y - 0.4, 0.8, { moved: s.start - facts.zero_ms, number: true, alpha: 0.72, where: `${facts.halves[4]}, rank ${rank}` });
    });
    return out;
  };
  // A lower half that is longer than the steps lie apart would cover the next one's: the chosen step's is drawn, and what fits beside it.
  let fitted = { step: -1, steps: [] };
  const below = () => {
    if (fitted.step === step) return fitted.steps;
    const steps = [facts.steps[step]].filter((s) => s && s.ideal !== null);
    if (steps.length) for (const s of facts.steps) if (s.ideal !== null && steps.every((f) => s.start >= f.ideal || s.ideal <= f.start)) steps.push(s);
    fitted = { step, steps };
    return steps;
  };
  const draw_bins = (out, view, rank, top) => {
    const place = placeOfRank.get(rank), [begin, last] = facts.window, width = (last - begin) / facts.num_bins;
    const computing = Math.max(0, kinds.findIndex((k) => k.key === "gemm" || k.key === "other"));
    for (let i = Math.max(0, Math.floor((view.from - begin) / width)); i < facts.num_bins && begin + i * width < view.to; i++) {
      const a = begin + i * width, share = bins[place * facts.num_bins + i] / 255;
      if (share < 0.01 || facts.detail.some(([x, y]) => x < a + width && y > a)) continue;
      out.y.push(top + 0.88 - 0.44 * share); out.height.push(0.88 * share); out.color.push(kinds[computing].color); out.alpha.push(0.55);
      out.left.push(a - shift); out.right.push(a + width - shift);
      out.name.push(`computes for ${Math.round(100 * share)}% of this bin`); out.place.push(`rank ${rank}`); out.when.push(`${text(a - shift)} after its step's start`); out.lasts.push(`bin of ${text(width)}`);
    }
  };

  const draw = () => {
    const figure = model("timeline");
    if (!figure || !spans) return;
    const begun = performance.now(), range = figure.x_range, width = Math.max(50, figure.inner_width || 1100);
    const view = { from: range.start + shift, to: range.end + shift, pixels: width / (range.end - range.start), mark: true };
    view.row = (figure.inner_height || 400) / Math.abs(figure.y_range.end - figure.y_range.start);
    const { count, tracks } = counted(view);
    const here = detailed(view);
    const kernels = !facts.has_actions || (here && count > 0 && (tracks * width) / count >= 16 && view.row >= 13);
    let out, thin = 1.3;
    do {
      view.thin = thin / view.pixels / unit;
      view.mark = thin < 12;
      out = bars_of(view, kernels);
      thin *= 1.5;
    } while (out.y.length > MOST_BARS && thin < 100);
    model("timeline-tracks").data = tracks_of(view);
    model("timeline-bands").data = bands_of(view, kernels);
    model("timeline-bars").data = out;
    model("timeline-numbers").data = view.texts;
    model("timeline-culprits").data = culprits_of(view);
    ends_of(view);
    const note = $("timeline-detail");
    note.textContent = kernels || !facts.has_actions || here ? "" : "Kernels of this window are not in the page; the Perfetto command of a finding, or `traceanalyzer perfetto`, writes them.";
    const root = $("timeline");
    root.dataset.kernels = String(kernels); root.dataset.bars = String(out.y.length); root.dataset.ms = (performance.now() - begun).toFixed(1);
  };
  const tracks_of = (view) => {
    const out = { y: [], left: [], right: [] };
    const push = (y, a, b) => { out.y.push(y); out.left.push(a - shift); out.right.push(b - shift); };
    const near = facts.steps.filter((s) => s.start < view.to && Math.max(s.end, s.ideal ?? 0) > view.from).slice(0, 40);
    for (const s of near) {
      lanes.forEach((_, lane) => push(lane, s.start, s.end));
      if (below().includes(s)) ideals.forEach((_, i) => push(lanes.length + gap + i, s.start, s.ideal));
    }
    return out;
  };
  const bands_of = (view, kernels) => {
    const out = { left: [], right: [], top: [], bottom: [], color: [] };
    if (!kernels) return out;
    for (const { a, b, lanes: of, kind } of view.moves.values()) {
      if (of.size < 2 || (b - a) * unit * view.pixels < 2 || out.left.length > 300) continue;
      const order = [...of].sort((x, y) => x - y);
      for (let i = 0; i < order.length; ) {
        let j = i;
        while (j + 1 < order.length && order[j + 1] === order[j] + 1) j++;
        out.left.push(msOf(a) - shift); out.right.push(msOf(b) - shift); out.top.push(order[i] - 0.48); out.bottom.push(order[j] + 0.48); out.color.push(kinds[kind].color);
        i = j + 1;
      }
    }
    return out;
  };
  const culprits_of = (view) => {
    const out = { x0: [], y0: [], x1: [], y1: [], color: [] };
    for (const [, b, i, y] of view.waits.sort((p, q) => q[0] - p[0])) {
      const lane = laneOf.get(spans.peer[i] - 1), x = msOf(b) - shift;
      if (lane === undefined || Math.abs(lane - y) < 0.5 || x + shift > view.to) continue;
      out.x0.push(x); out.x1.push(x); out.y0.push(y); out.y1.push(lane); out.color.push(kinds[spans.kind[i]].color);
      if (out.x0.length >= 24) break;
    }
    return out;
  };
  const ends_of = (view) => {
    const bottom = lanes.length + (ideals.length ? 0.4 + ideals.length : -0.45);
    const lines = (of) => ({ x0: of.map((x) => x - shift), y0: of.map(() => -0.6), y1: of.map(() => bottom) });
    const near = facts.steps.filter((s) => s.start < view.to && Math.max(s.end, s.ideal ?? 0) > view.from).slice(0, 60);
    model("timeline-ends").data = lines(near.map((s) => s.end));
    model("timeline-ideal-ends").data = lines(near.filter((s) => below().includes(s)).map((s) => s.ideal));
  };

  // ---- What is shown.
  let waiting = false;
  // Before the next frame: what changed is then drawn once, range and bars together.
  const later = () => { if (!waiting) { waiting = true; queueMicrotask(() => { waiting = false; frame(); draw(); press(); }); } };
  // The frame on strip and map, which do not move with the zero of the axis, and the axis of the lanes follow each other.
  const follow = (range, start, end) => { if (Math.abs(range.start - start) > 1e-7 || Math.abs(range.end - end) > 1e-7) range.setv({ start, end }); };
  const frame = () => { const range = model("timeline-x"); follow(model("timeline-frame"), range.start + shift, range.end + shift); };
  const lead = () => { const range = model("timeline-frame"); follow(model("timeline-x"), range.start - shift, range.end - shift); };
  const press = () => {
    const range = model("timeline-x"), s = facts.steps[step], width = range.end - range.start;
    const whole = range.start <= 0.05 * width && range.end + shift >= Math.max(s.end, s.ideal ?? 0) - 0.05 * width;
    for (const b of document.querySelectorAll("[data-timeline] button[data-step]")) b.setAttribute("aria-pressed", String(+b.dataset.step === step && whole));
    if ($("timeline-steps")) $("timeline-steps").value = String(step);
  };
  const set_group = (place) => {
    group = place;
    lanes = facts.groups[place].map((i) => ranks[i].rank);
    laneOf = new Map(lanes.map((rank, i) => [rank, i]));
    const stages = new Set(facts.groups[place].map((i) => ranks[i].stage));
    const stageOf = new Map(facts.ideal_stages), known = [...stageOf.keys()].sort((a, b) => stageOf.get(a) - stageOf.get(b));
    const own = known.filter((rank) => stages.has(stageOf.get(rank)));
    ideals = (own.length ? own : known).slice(0, 16);
    const figure = model("timeline"), rows = lanes.length + (ideals.length ? ideals.length + 1.6 : 0);
    const [least, most, tallest] = facts.lane_pixels;
    figure.height = 64 + Math.round(Math.min(tallest, Math.max(60, rows * Math.min(most, Math.max(least, 520 / rows)))));
    // Above either half there is room for its name, however thin the lanes are.
    const row = ideals.length ? (figure.height - 64 - 2 * NAME) / (lanes.length + ideals.length + 0.5) : (figure.height - 64) / (rows + 0.2);
    gap = NAME / row;
    figure.y_range.setv({ start: lanes.length + (ideals.length ? gap + ideals.length - 0.4 : -0.4), end: ideals.length ? -0.5 - gap : -0.6 });
    const labels = new Map(), every = Math.max(1, Math.ceil(13 / row));
    const late = lanes.map((rank) => ranks[placeOfRank.get(rank)].late);
    lanes.forEach((rank, i) => { if (late[i]) labels.set(i, `▲ rank ${rank}`); });
    let named = -every;
    const taken = (i) => lanes.some((_, j) => late[j] && Math.abs(i - j) < every);
    lanes.forEach((rank, i) => { if (i - named >= every && !taken(i)) { labels.set(i, `rank ${rank}`); named = i; } });
    ideals.forEach((rank, i) => { if (i % every === 0) labels.set(lanes.length + gap + i, stageOf.get(rank) === null ? `rank ${rank}` : `stage ${stageOf.get(rank)}`); });
    const axis = model("timeline-ranks");
    axis.major_label_overrides = labels;
    axis.ticker.ticks = [...labels.keys()];
    const narrow = (figure.inner_width || 1000) < 560;
    const name = (id, y, words) => { const label = model(id); if (label) label.setv({ y, text: words }); };
    name("timeline-measured-name", -0.48, !ideals.length ? "" : facts.halves[narrow ? 2 : 0]);
    name("timeline-ideal-name", lanes.length + gap - 0.52, !ideals.length ? "" : facts.halves[narrow ? 3 : 1]);
    if ($("timeline-lanes")) $("timeline-lanes").value = String(place);
  };
  const place_moment = () => {
    const box = model("timeline-moment");
    if (!moment) return void (box.visible = false);
    const lane = laneOf.get(moment.rank);
    box.setv({ left: moment.start - shift, right: moment.end - shift, top: lane === undefined ? -0.5 : lane - 0.5, bottom: lane === undefined ? lanes.length - 0.5 : lane + 0.5, visible: true });
  };
  const set_step = (place, whole) => {
    step = Math.max(0, Math.min(facts.steps.length - 1, place));
    const s = facts.steps[step];
    shift = s.start;
    model("timeline-time").axis_label = s.label;
    $("timeline-caption").textContent = s.caption;
    if (whole) { const length = Math.max(s.end, s.ideal ?? 0) - s.start; model("timeline-x").setv({ start: -0.015 * length, end: 1.025 * length }); }
    place_moment();
    later();
  };
  const show = (start, end, margin) => {
    const middle = (start + end) / 2;
    const away = (s) => Math.max(s.start - middle, middle - s.end, 0);
    set_step(facts.steps.reduce((best, s, i) => (away(s) < away(facts.steps[best]) ? i : best), 0), false);
    const least = 1e-4, pad = Math.max(margin * (end - start), least);
    model("timeline-x").setv({ start: start - pad - shift, end: end + pad - shift });
    later();
  };
  const move = (pan, zoom) => {
    const range = model("timeline-x"), middle = (range.start + range.end) / 2 + pan * (range.end - range.start);
    const half = Math.max((zoom * (range.end - range.start)) / 2, 1e-4);
    range.setv({ start: middle - half, end: middle + half });
  };

  // ---- Search.
  const set_query = (words) => {
    const wanted = words.trim().toLowerCase();
    hit = -1;
    query = null;
    if (wanted) query = new Set(facts.names.flatMap((name, i) => (name && name.toLowerCase().includes(wanted) ? [i] : [])));
    view_hits();
    later();
  };
  const hits = () => {
    const found = [];
    if (query === null) return found;
    for (const rank of lanes) for (const layer of [ACTION, DEVICE]) for (const track of byRank.get(rank)?.[layer] ?? [])
      for (let i = track.first; i < track.last; i++) if (query.has(spans.name[i])) found.push({ i, rank });
    return found.sort((p, q) => spans.start[p.i] - spans.start[q.i]);
  };
  const view_hits = () => {
    const num = query === null ? 0 : hits().length;
    $("timeline-hits").textContent = query === null ? "" : num === 0 ? "no match in these lanes" : hit < 0 ? `${num.toLocaleString("en")} match${num === 1 ? "" : "es"}` : `${hit + 1} of ${num.toLocaleString("en")}`;
    for (const b of document.querySelectorAll("[data-hit]")) b.disabled = num === 0;
  };
  const go_hit = (turn) => {
    const found = hits();
    if (!found.length) return;
    if (hit < 0) {  // the first one in view
      const from = unitsOf(model("timeline-x").start + shift), next = found.findIndex(({ i }) => spans.start[i] >= from);
      hit = turn > 0 ? Math.max(0, next) : (next < 0 ? found.length : next) - 1;
    } else hit += turn;
    hit = (hit + found.length) % found.length;
    const { i, rank } = found[hit], start = msOf(spans.start[i]), end = start + spans.lasts[i] * unit;
    moment = { start, end, rank };
    show(start, end, 6);
    view_hits();
  };

  // ---- A finding's moment.
  const entry_of = (button) => {
    const link = button.closest("li")?.querySelector('a[href^="#finding-"]');
    return button.closest("[data-finding]") ?? (link ? document.getElementById(decodeURIComponent(link.getAttribute("href").slice(1))) : null);
  };
  const tell = (button) => {
    const entry = entry_of(button), note = $("timeline-note");
    const command = button.dataset.command ?? entry?.querySelector("details.command code")?.textContent ?? "";
    const title = button.dataset.title ?? entry?.querySelector("h3")?.textContent ?? "";
    note.replaceChildren();
    const add = (tag, words) => { const made = document.createElement(tag); made.textContent = words; note.append(made, " "); return made; };
    add("b", title);
    add("span", `${text(+button.dataset.end - +button.dataset.start)}${moment.rank === null ? "" : ` on rank ${moment.rank}`}.`);
    if (command) {
      add("span", "In Perfetto:");
      add("code", command);
      add("button", "copy").addEventListener("click", () => navigator.clipboard?.writeText(command).catch(() => getSelection().selectAllChildren(note.querySelector("code"))));
    }
    add("button", "clear").addEventListener("click", () => { moment = null; note.hidden = true; place_moment(); });
    note.hidden = false;
  };
  const point_to = (button) => {
    const start = +button.dataset.start, end = +button.dataset.end, known = button.dataset.rank ?? entry_of(button)?.dataset.rank ?? "";
    const rank = known === "" ? null : +known;
    moment = { start, end, rank };
    if (rank !== null && !laneOf.has(rank)) {
      const holds = facts.groups.findIndex((of) => of.some((i) => ranks[i].rank === rank));
      if (holds >= 0) set_group(holds);
    }
    show(start, end, 0.1);
    tell(button);
    $(button.dataset.show)?.scrollIntoView({ block: "start" });
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button");
    if (!button || !spans) return;
    const { step: to, turn, zoom, pan, hit: next } = button.dataset;
    if (button.dataset.show && button.dataset.start !== undefined) point_to(button);
    else if (!button.closest("[data-timeline]")) return;
    else if (to !== undefined) set_step(+to, true);
    else if (turn !== undefined) set_step(step + +turn, true);
    else if (zoom !== undefined) move(0, +zoom);
    else if (pan !== undefined) move(+pan, 1);
    else if (next !== undefined) go_hit(+next);
  });
  const KEYS = { ArrowLeft: [-0.2, 1], ArrowRight: [0.2, 1], "+": [0, 0.6], "=": [0, 0.6], "-": [0, 1 / 0.6] };
  document.addEventListener("keydown", (event) => {
    if (!event.target.dataset?.keys || !(event.key in KEYS) || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    move(...KEYS[event.key]);
  });
  $("timeline-steps")?.addEventListener("change", (event) => set_step(+event.target.value, true));
  $("timeline-lanes")?.addEventListener("change", (event) => { set_group(+event.target.value); place_moment(); view_hits(); later(); });
  $("timeline-search").addEventListener("input", (event) => set_query(event.target.value));
  $("timeline-search").addEventListener("keydown", (event) => { if (event.key === "Enter") go_hit(event.shiftKey ? -1 : 1); });

  const begin = async () => {
    const figure = globalThis.Bokeh?.documents.length ? model("timeline") : null;
    if (!figure) return void setTimeout(begin, 30);
    const [raw, shares] = await Promise.all([bytes("timeline-data"), $("timeline-bins") ? bytes("timeline-bins") : null]);
    spans = columns(raw);
    bins = shares;
    for (const track of spans.tracks) {
      const of = byRank.get(track.rank) ?? {};
      (of[track.layer] ??= []).push(track);
      byRank.set(track.rank, of);
    }
    const range = model("timeline-x");
    for (const property of [range.properties.start, range.properties.end, figure.properties.inner_width, figure.properties.inner_height]) property.change.connect(later);
    set_group(0);
    set_step(facts.shown, true);
    const window_frame = model("timeline-frame");
    let moved = false;
    const drag = () => { if (!moved) { moved = true; queueMicrotask(() => { moved = false; lead(); }); } };
    for (const property of [window_frame.properties.start, window_frame.properties.end]) property.change.connect(drag);
    frame();
    draw();
    press();
    $("timeline").dataset.drawn = "true";
  };
  begin();
})();
