// dashboard.js - the page of the admin plane: asks for dashboard/data once a second and shows it.
//
// One request a second while somebody sees the page, none while nobody does. What only changes slowly
// (compilation, actions, spans) is asked for every five seconds. A token that is needed is asked for,
// and kept in sessionStorage: it goes into a header, never into an address.
"use strict";
(() => {
  const EVERY_MS = 1000, SLOW_MS = 5000, PATIENCE_MS = 4000;
  const COLUMNS = 120, SPARKS = 90;
  const RECORDS = 2000, SHOWN = 400; // of the log: kept, and in the document
  const LEVELS = ["debug", "info", "warn", "error"];
  const CLASSES = [[1, "other"], [2, "2xx"], [3, "3xx"], [4, "4xx"], [5, "5xx"]];
  // Of charts, in pixels: their letters, and the room for these on the left and below.
  let LETTER = 11, LEFT = 46, BOTTOM = 16;

  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";

  function el(tag, props, ...kids) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(props || {})) {
      if (key === "class") node.className = value;
      else if (key in node) node[key] = value;
      else node.setAttribute(key, value);
    }
    node.append(...kids.filter((kid) => kid !== null && kid !== undefined));
    return node;
  }

  function say(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  function dress(node, name) {
    if (node.className !== name) node.className = name;
  }

  // --- numbers as people read them ---------------------------------------------------------

  const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

  function count(n) {
    if (n === undefined || n === null) return "–";
    if (n >= 1e7) return (n / 1e6).toFixed(1) + " M";
    if (n > 0 && n < 10 && n % 1) return n.toFixed(1);
    return whole.format(n);
  }

  function ms(n) { // three digits, without the unit
    if (!n) return "–";
    return n < 10 ? n.toFixed(2) : n < 100 ? n.toFixed(1) : whole.format(n);
  }

  function time_of(n) { // with its unit
    return n >= 1000 ? (n / 1000).toFixed(n < 1e4 ? 1 : 0) + " s" : ms(n) + " ms";
  }

  function bytes(n) {
    let unit = 0;
    for (; n >= 1024 && unit < 4; unit++) n /= 1024;
    return (unit && n < 100 ? n.toFixed(1) : whole.format(n)) + " " + ["B", "KiB", "MiB", "GiB", "TiB"][unit];
  }

  function percent(share, digits = 0) {
    return (100 * share).toFixed(digits) + " %";
  }

  function span(seconds) {
    const s = Math.floor(seconds), two = (a, x, b, y) => (b ? `${a}${x} ${b}${y}` : a + x);
    if (s >= 86400) return two(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
    if (s >= 3600) return two(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "m");
    if (s >= 60) return two(Math.floor(s / 60), "m", s % 60, "s");
    return s + "s";
  }

  const clock = (date) => date.toTimeString().slice(0, 8);

  // --- asking --------------------------------------------------------------------------------

  const state = { token: sessionStorage.getItem("perilune-token"), plane: null, heat: 0, log: 0,
    columns: [], ends: [], records: [], away: 0, data: null, before: null, cursor: null };

  // Whether the plane has it, as far as its list of paths tells: one that ends with / has all below it.
  function has(path) {
    const wanted = path.replace(/\?.*/, "");
    return !state.data || state.data.paths.some((one) => one === wanted || (one.endsWith("/") && wanted.startsWith(one)));
  }

  class Refused extends Error {}

  async function ask(path, patience = PATIENCE_MS) {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), patience);
    try {
      const headers = state.token ? { Authorization: "Bearer " + state.token } : {};
      const reply = await fetch(path, { headers, signal: stop.signal, cache: "no-store",
        credentials: "omit", redirect: "error" });
      if (reply.status === 401) throw new Refused();
      return { status: reply.status, type: reply.headers.get("content-type") || "",
        body: await reply.blob() };
    } finally {
      clearTimeout(timer);
    }
  }

  async function ask_json(path) {
    const reply = await ask(path);
    if (reply.status === 404) return null;
    if (reply.status !== 200) throw new Error("status " + reply.status);
    return JSON.parse(await reply.body.text());
  }

  let asking = null; // a promise, while the dialog is open

  function ask_token() {
    const dialog = $("ask");
    say($("ask-error"), state.token ? "That is not the token." : "");
    state.token = null;
    sessionStorage.removeItem("perilune-token");
    if (!asking)
      asking = new Promise((resolve) => {
        dialog.addEventListener("close", () => { asking = null; resolve(); }, { once: true });
        $("token").value = "";
        dialog.showModal();
      });
    return asking;
  }

  $("ask-form").addEventListener("submit", () => {
    state.token = $("token").value.trim();
    sessionStorage.setItem("perilune-token", state.token);
  });

  // --- pieces -----------------------------------------------------------------------------------

  // Terms and what they are: [[key, term, text, class]].
  function facts(list, rows) {
    for (const [key, term, value, name] of rows) {
      let pair = list.querySelector(`[data-key="${key}"]`);
      if (!pair) {
        pair = el("div", { "data-key": key, class: name || "" }, el("dt", {}, term), el("dd"));
        list.append(pair);
      }
      const dd = pair.lastChild;
      if (Array.isArray(value)) {
        const [text, unit, tone] = value;
        if (dd.dataset.text !== text + unit) {
          dd.dataset.text = text + unit;
          dd.replaceChildren(text, el("small", {}, unit));
        }
        dress(dd, tone || "");
      } else {
        say(dd, value);
      }
    }
  }

  // The same as two columns; a value may be a node.
  function pairs(list, rows) {
    list.replaceChildren(...rows.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]));
  }

  // Rows keep their nodes from one second to the next. A column: { head, cls, left, fill(td, row) }.
  function table(node, columns, rows, key) {
    if (!node.tHead) {
      node.append(el("thead", {}, el("tr", {}, ...columns.map((c) =>
        el("th", { scope: "col", class: c.cls || "" }, c.head)))), el("tbody"));
    }
    const body = node.tBodies[0], old = new Map([...body.rows].map((tr) => [tr.dataset.key, tr]));
    rows.forEach((row, i) => {
      const name = String(key(row));
      let tr = old.get(name);
      old.delete(name);
      if (!tr) tr = el("tr", { "data-key": name }, ...columns.map((c) => el("td", { class: c.cls || "" })));
      columns.forEach((c, n) => c.fill(tr.cells[n], row));
      if (body.rows[i] !== tr) body.insertBefore(tr, body.rows[i] || null);
    });
    for (const tr of old.values()) tr.remove();
  }

  function bar(td, share, text, warn = 0.8, bad = 0.95) {
    if (!td.firstChild) td.append(el("span"), el("span", { class: "bar", "aria-hidden": "true" }, el("i")));
    say(td.firstChild, text);
    const fill = td.lastChild.firstChild;
    fill.style.width = Math.min(100, 100 * (share || 0)).toFixed(1) + "%";
    dress(fill, share >= bad ? "bad" : share >= warn ? "warn" : "");
  }

  function spark(place, values, top) {
    let svg = place.querySelector("svg");
    if (!svg) {
      svg = document.createElementNS(SVG, "svg");
      svg.setAttribute("class", "spark");
      svg.setAttribute("viewBox", "0 0 100 20");
      svg.setAttribute("preserveAspectRatio", "none");
      svg.setAttribute("aria-hidden", "true");
      for (const name of ["area", ""]) {
        const path = document.createElementNS(SVG, "path");
        path.setAttribute("class", name);
        svg.append(path);
      }
      place.append(svg);
    }
    const most = top || Math.max(...values, 1e-9), step = 100 / (SPARKS - 1);
    const from = SPARKS - values.length;
    const line = values.map((v, i) => `${i ? "L" : "M"}${((from + i) * step).toFixed(1)} ${(19 - 18 * Math.min(1, v / most)).toFixed(1)}`).join("");
    svg.firstChild.setAttribute("d", values.length > 1 ? `${line}L100 20L${(from * step).toFixed(1)} 20Z` : "");
    svg.lastChild.setAttribute("d", values.length > 1 ? line : "");
  }

  const histories = new Map(); // what was seen while the page is open, by name

  function history(name, value) {
    const list = histories.get(name) || [];
    list.push(value || 0);
    if (list.length > SPARKS) list.shift();
    histories.set(name, list);
    return list;
  }

  function none(node, text) {
    node.replaceChildren(el("p", { class: "none" }, text));
  }

  // --- charts ---------------------------------------------------------------------------------------

  function colours() {
    const style = getComputedStyle(document.documentElement);
    return (name) => style.getPropertyValue("--" + name).trim();
  }

  function rgb(hex) {
    const n = parseInt(hex.slice(1), 16);
    return [n >> 16, (n >> 8) & 255, n & 255];
  }

  // A colour for 0 to 1, of the four that the style names.
  function ramp(colour) {
    const stops = [0, 1, 2, 3].map((i) => rgb(colour("heat" + i)));
    return (t) => {
      const at = Math.min(2.999, Math.max(0, t * 3)), i = Math.floor(at), f = at - i;
      return `rgb(${stops[i].map((c, k) => Math.round(c + f * (stops[i + 1][k] - c))).join(",")})`;
    };
  }

  function canvas_of(id) {
    const node = $(id), scale = window.devicePixelRatio || 1;
    const width = node.clientWidth, height = node.clientHeight;
    if (node.width !== Math.round(width * scale)) node.width = Math.round(width * scale);
    if (node.height !== Math.round(height * scale)) node.height = Math.round(height * scale);
    const g = node.getContext("2d");
    g.setTransform(scale, 0, 0, scale, 0, 0);
    g.clearRect(0, 0, width, height);
    LETTER = parseFloat(getComputedStyle(document.documentElement).fontSize) * 0.85;
    LEFT = Math.round(LETTER * 4.8);
    BOTTOM = Math.round(LETTER * 1.5);
    g.font = `${LETTER}px ${getComputedStyle(document.body).fontFamily}`;
    g.textBaseline = "middle";
    return { node, g, width, height, colour: colours() };
  }

  // Where columns lie: the newest one at the right edge.
  function place(width) {
    const w = (width - LEFT) / COLUMNS;
    return { w, x: (i) => LEFT + (COLUMNS - state.columns.length + i) * w,
      gap: w >= 5 ? 1 : w >= 3 ? 0.5 : 0 };
  }

  function time_axis({ g, width, height, colour }, labels) {
    g.fillStyle = colour("soft");
    g.strokeStyle = colour("faint");
    const each = (width - LEFT) / 10, every = width < 520 ? 5 : 2;
    for (let minute = 0; minute <= 10; minute += every) {
      const x = Math.round(width - minute * each) + (minute ? 0.5 : -0.5);
      g.beginPath();
      g.moveTo(x, 0);
      g.lineTo(x, height - (labels ? BOTTOM : 0));
      g.stroke();
      if (!labels) continue;
      g.textAlign = minute === 0 ? "right" : minute === 10 ? "left" : "center";
      g.fillText(minute ? `−${minute} min` : "now", x, height - LETTER / 2);
    }
  }

  function level_line({ g, width, colour }, y, text) {
    g.strokeStyle = colour("faint");
    g.beginPath();
    g.moveTo(LEFT, Math.round(y) + 0.5);
    g.lineTo(width, Math.round(y) + 0.5);
    g.stroke();
    g.fillStyle = colour("soft");
    g.textAlign = "right";
    g.fillText(text, LEFT - 8, Math.max(y, LETTER / 2));
  }

  const total = (column) => column.classes.reduce((a, b) => a + b, 0);

  function nice(n) { // the next of 1, 2, 5 times a power of ten
    const power = 10 ** Math.floor(Math.log10(Math.max(n, 1)));
    return [1, 2, 5, 10].map((k) => k * power).find((k) => k >= n);
  }

  function cursor_draw({ g, width, height, colour }, low) {
    if (state.cursor === null || !state.columns[state.cursor]) return;
    const { x, w } = place(width);
    g.strokeStyle = colour("ink");
    g.globalAlpha = 0.55;
    g.strokeRect(Math.round(x(state.cursor)) - 0.5, 0.5, Math.max(3, Math.round(w)), height - 1 - low);
    g.globalAlpha = 1;
  }

  function rate_draw() {
    const c = canvas_of("rate"), { g, height, colour } = c, { w, x, gap } = place(c.width);
    const most = nice(Math.max(1, ...state.columns.map((one) => total(one) / one.took_s)));
    time_axis(c, false);
    for (const share of [0.5, 1]) level_line(c, height - share * (height - 6), count(most * share));
    state.columns.forEach((one, i) => {
      let y = height;
      for (const [k] of [CLASSES[1], CLASSES[2], CLASSES[0], CLASSES[3], CLASSES[4]]) {
        const n = (one.classes[k] + (k === 1 ? one.classes[0] : 0)) / one.took_s;
        if (!n) continue;
        const h = Math.max(k >= 4 ? 1 : 0.5, (n / most) * (height - 6));
        g.fillStyle = colour("c" + k);
        g.fillRect(x(i), y - h, Math.max(1, w - gap), h);
        y -= h;
      }
    });
    cursor_draw(c, 0);
  }

  const BASE = 0.0305; // ms, where the first row begins

  // From the bottom, in rows: each power of two is two rows.
  function row_at(latency) {
    const ends = state.ends;
    for (let i = 0; i < ends.length; i++) {
      const low = i ? ends[i - 1] : BASE;
      if (latency <= ends[i]) return i + Math.max(0, (latency - low) / (ends[i] - low));
    }
    return ends.length + 0.5;
  }

  function heat_draw() {
    const c = canvas_of("heat"), { g, width, colour } = c, { w, x, gap } = place(width);
    const rows = state.ends.length + 1, height = c.height - BOTTOM, h = height / rows;
    const at = ramp(colour), y = (row) => height - row * h;
    let most = 1, cells = 0;
    for (const one of state.columns)
      for (let k = 1; k < one.cells.length; k += 2) most = Math.max(most, one.cells[k]);
    time_axis(c, true);
    for (const [tick, text] of [[0.1, "0.1 ms"], [1, "1 ms"], [10, "10 ms"], [100, "100 ms"], [1000, "1 s"], [10000, "10 s"]])
      level_line(c, y(row_at(tick)), text);
    state.columns.forEach((one, i) => {
      for (let k = 0; k < one.cells.length; k += 2) {
        g.fillStyle = at(most > 1 ? Math.log(one.cells[k + 1]) / Math.log(most) : 1);
        g.fillRect(x(i), y(one.cells[k] + 1), Math.max(1, w - gap), Math.max(1, h - (h > 4 ? 0.5 : 0)));
        cells++;
      }
    });
    for (const name of ["p50", "p99"]) {
      g.beginPath();
      let drawn = false;
      state.columns.forEach((one, i) => {
        const value = one[name + "_ms"];
        if (!value) { drawn = false; return; }
        g[drawn ? "lineTo" : "moveTo"](x(i), y(row_at(value)));
        g.lineTo(x(i) + w - gap, y(row_at(value)));
        drawn = true;
      });
      for (const [ink, wide, alpha] of [["paper", 4, 0.6], [name, 1.6, 1]]) { // a line, in a halo
        g.strokeStyle = colour(ink);
        g.lineWidth = wide;
        g.globalAlpha = alpha;
        g.stroke();
      }
      g.lineWidth = 1;
    }
    cursor_draw(c, BOTTOM);
    c.node.dataset.cells = cells;
  }

  function scale_draw() {
    const node = $("scale"), g = node.getContext("2d"), at = ramp(colours());
    for (let i = 0; i < node.width; i++) {
      g.fillStyle = at(i / (node.width - 1));
      g.fillRect(i, 0, 1, node.height);
    }
  }

  function column_text(one) {
    const all = total(one);
    const mix = CLASSES.map(([k, name]) => [name, one.classes[k] + (k === 1 ? one.classes[0] : 0)])
      .filter(([, n]) => n).map(([name, n]) => `${name} ${percent(n / all, n / all < 0.1 ? 1 : 0)}`);
    return `${clock(new Date(one.ended_s * 1000))}: ${count(all / one.took_s)} requests/s`
      + (all ? `, ${mix.join(", ")}; P50 ${time_of(one.p50_ms)}, P99 ${time_of(one.p99_ms)}` : "");
  }

  function cell_text(one, row) {
    for (let k = 0; k < one.cells.length; k += 2)
      if (one.cells[k] === row) {
        const low = row ? state.ends[row - 1] : 0, high = state.ends[row];
        return `; ${count(one.cells[k + 1])} took ` + (high === undefined ? `over ${time_of(low)}`
          : `${low ? time_of(low) : "0"} to ${time_of(high)}`);
      }
    return "";
  }

  function charts_draw() {
    rate_draw();
    heat_draw();
    const last = state.columns[state.columns.length - 1];
    const text = last ? "The last five seconds, " + column_text(last) : "Nothing was counted yet";
    $("heat").setAttribute("aria-label", "Latency heat map of the last ten minutes. " + text);
    $("rate").setAttribute("aria-label", "Requests per second by status, last ten minutes. " + text);
  }

  function probe(index, row) {
    state.cursor = index;
    const one = index === null ? null : state.columns[index];
    say($("probe"), one ? column_text(one) + (row === undefined ? "" : cell_text(one, row)) : "");
    rate_draw();
    heat_draw();
  }

  for (const id of ["rate", "heat"]) {
    const node = $(id);
    node.addEventListener("pointermove", (event) => {
      const { w, x } = place(node.clientWidth), i = Math.floor((event.offsetX - x(0)) / w);
      const h = (node.clientHeight - BOTTOM) / (state.ends.length + 1);
      const row = id === "heat" ? Math.floor((node.clientHeight - BOTTOM - event.offsetY) / h) : undefined;
      probe(state.columns[i] ? i : null, row);
    });
    node.addEventListener("pointerleave", () => probe(null));
    node.addEventListener("blur", () => probe(null));
    node.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -COLUMNS, End: COLUMNS }[event.key];
      if (!step || !state.columns.length) return;
      event.preventDefault();
      const from = state.cursor === null ? state.columns.length : state.cursor;
      probe(Math.max(0, Math.min(state.columns.length - 1, from + step)));
    });
  }

  // --- panels -----------------------------------------------------------------------------------------

  const TONES = { serving: "good", healthy: "good", starting: "warn", draining: "warn", degraded: "warn" };
  const sum = (list, key) => list.reduce((n, one) => n + (one[key] || 0), 0);

  function head_show(s) {
    say($("name"), s.name);
    document.title = `${s.name} · Perilune`;
    say($("state"), s.state + (s.reloading ? ", reloading" : "") + (s.upgrading ? ", upgrading" : ""));
    dress($("state"), "pill " + (TONES[s.state] || "bad"));
    facts($("facts"), [
      ["generation", "generation", `${s.generation} (${s.hash.slice(0, 8)})`],
      ["up", "up", span(s.uptime_s)],
      ["address", "at", s.addresses.join(", "), "opt"],
      ["pid", "pid", String(s.pid), "opt"],
      ["version", "perilune", s.version, "opt"],
    ]);
  }

  function figures_show(s) {
    const rate = s.requests_per_s || 0, errors = rate ? (s.errors_per_s || 0) / rate : 0;
    facts($("figures"), [
      ["rate", "requests per second", [count(s.requests_per_s), ""]],
      ["errors", "answered 5xx", [percent(errors, errors && errors < 0.1 ? 1 : 0), "", errors > 0.01 ? "bad" : ""]],
      ["p50", "P50", [ms(s.p50_ms), "ms"]],
      ["p99", "P99", [ms(s.p99_ms), "ms"]],
      ["flight", "in flight", [count(sum(s.workers, "in_flight")), ""]],
      ["connections", "connections", [count(sum(s.workers, "connections")), ""]],
    ]);
  }

  function legend_show() {
    const recent = state.columns.slice(-12), all = sum(recent.map((one) => ({ n: total(one) })), "n");
    $("legend").replaceChildren(...CLASSES.map(([k, name]) => {
      const n = recent.reduce((a, one) => a + one.classes[k] + (k === 1 ? one.classes[0] : 0), 0);
      return n || k === 2 || k > 3 ? el("li", { class: "k" + k }, name + " ", el("b", {}, all ? percent(n / all, n && n / all < 0.1 ? 1 : 0) : "–")) : null;
    }).filter(Boolean));
  }

  const number = (text) => (td, row) => say(td, text(row));

  const WORKER_COLUMNS = [
    { head: "Worker", fill: number((w) => String(w.index)) },
    { head: "State", cls: "l", fill(td, w) { say(td, w.state); dress(td, "l " + (TONES[w.state] || "bad")); } },
    { head: "pid", cls: "opt mid", fill: number((w) => String(w.pid)) },
    { head: "Gen", cls: "opt mid", fill: number((w) => String(w.generation)) },
    { head: "req/s", fill: number((w) => count(w.requests_per_s)) },
    { head: "Conns", cls: "opt", fill: number((w) => count(w.connections)) },
    { head: "Busy", fill(td, w) { bar(td, w.busy, percent(w.busy || 0)); } },
    { head: "Lag ms", cls: "opt", fill: number((w) => ms(w.lag_ms)) },
    { head: "Beat ms", cls: "opt", fill(td, w) { say(td, count(w.heartbeat_ms)); dress(td, w.heartbeat_ms > 1000 ? "opt bad" : "opt"); } },
    { head: "Lua heap", fill(td, w) { bar(td, w.cap ? w.memory_bytes / w.cap : 0, bytes(w.memory_bytes || 0)); td.title = w.cap ? "of " + bytes(w.cap) : ""; } },
    { head: "Traces", cls: "opt", fill: number((w) => count(w.traces)) },
    { head: "Given up", cls: "opt", fill: number((w) => count(w.aborts)) },
    { head: "Restarts", cls: "opt", fill(td, w) { say(td, count(w.restarts)); dress(td, w.restarts ? "opt warn" : "opt"); } },
  ];

  function workers_show(s, vitals) {
    const rows = s.workers.map((w) => {
      const v = (vitals && vitals.workers[w.index]) || {};
      return { ...w, traces: v.traces, aborts: v.aborts, cap: vitals && vitals.memory_hard_bytes };
    });
    table($("workers"), WORKER_COLUMNS, rows, (w) => w.index);
  }

  const ROUTE_COLUMNS = [
    { head: "Route", cls: "name", fill(td, r) {
      if (!td.firstChild) td.append(el("span", { class: "method" }, r.method), " ", r.route);
      td.title = `${r.method} ${r.route}`;
    } },
    { head: "Last 90 s", fill(td, r) { spark(td, r.history); } },
    { head: "req/s", fill: number((r) => count(r.requests_per_s)) },
    { head: "5xx", fill(td, r) {
      const share = r.requests_per_s ? r.errors_per_s / r.requests_per_s : 0;
      say(td, share ? percent(share, share < 0.1 ? 1 : 0) : "–");
      dress(td, share > 0.01 ? "bad" : "soft");
    } },
    { head: "P50 ms", cls: "opt", fill: number((r) => ms(r.p50_ms)) },
    { head: "P99 ms", fill: number((r) => ms(r.p99_ms)) },
    { head: "Total", cls: "opt", fill: number((r) => count(r.requests)) },
  ];

  // Busiest over the time that the page has seen: rows do not jump with each second.
  function routes_show(s) {
    const rows = (s.routes || []).map((r) => {
      const list = history(`route ${r.method} ${r.route}`, r.requests_per_s);
      return { ...r, history: list, weight: list.reduce((a, b) => a + b, 0) };
    });
    rows.sort((a, b) => b.weight - a.weight || b.requests - a.requests);
    table($("routes"), ROUTE_COLUMNS, rows.slice(0, 40), (r) => r.method + " " + r.route);
  }

  function health_show(health) {
    const order = { unhealthy: 0, degraded: 1, unknown: 2, healthy: 3 };
    const checks = [...health.checks].sort((a, b) => (order[a.state] ?? 2) - (order[b.state] ?? 2));
    const lines = checks.map((c) => el("li", { class: c.state, "data-check": c.name }, el("i", { "aria-hidden": "true" }),
      el("span", {}, c.name, c.critical ? el("span", { class: "soft" }, " critical") : null),
      el("span", {}, el("span", { class: TONES[c.state] || (c.state === "unhealthy" ? "bad" : "soft") }, c.state),
        el("span", { class: "soft since" }, c.since ? span(Math.max(0, Date.now() / 1000 - c.since)) : "")),
      el("small", {}, c.reason || "")));
    if (health.not_watched)
      lines.unshift(el("li", { class: "degraded" }, el("i"), el("span", {}, "the app's checks"), el("span", { class: "warn" }, "not run"), el("small", {}, health.not_watched)));
    $("checks").replaceChildren(...lines);
  }

  const LISTS = [["leaks", "Leaks, proven", "bad"], ["suspects", "Suspects", "warn"], ["oldest", "Longest waits", "soft"]];

  function waits_show(waits) {
    const vitals = state.data.vitals, rows = [];
    if (vitals) rows.push(["live", count(sum(vitals.workers, "coroutines"))], ["of them tasks", count(sum(vitals.workers, "tasks"))]);
    if (!waits) rows.push(["waits, leaks and suspects", "not available"]);
    for (const [reason, n] of Object.entries((waits && waits.by_reason) || {}).sort((a, b) => b[1] - a[1]))
      rows.push(["waiting: " + reason, count(n)]);
    pairs($("waits"), rows);
    for (const [key, title, tone] of LISTS) {
      const list = (waits && waits[key]) || [], node = $("waits-" + key);
      node.hidden = !list.length;
      say(node.previousElementSibling, list.length ? `${title}, ${list.length > 49 ? "50 of them" : list.length}` : "");
      relist(node, list.slice(0, 6).map((one) => ({ ...one, age_s: Math.floor(one.age_s) })), (one) => el("li", {},
        el("div", {}, where(one.started_at || one.at || "?"), el("span", { class: "tag " + tone },
          (one.count > 1 ? count(one.count) + " × " : "") + span(one.age_s)),
        el("span", { class: "why" }, [one.reason, one.at && one.at !== one.started_at ? "at " + short(one.at) : "", one.route,
          one.task && "task " + one.task, one.level ? "level " + one.level : ""].filter(Boolean).join(", ")))));
    }
  }

  // A place whose end, the line, is never cut off; seen from the app's folder.
  function where(text) {
    return el("span", { class: "where", title: text }, el("bdi", { dir: "ltr" }, short(text)));
  }

  function short(text) {
    const folder = state.data.status.app.replace(/[^/]*$/, "");
    return text.replaceAll(folder, "").replace(/\S*\/share\/lua\/5\.1\//g, "");
  }

  function memory_show(vitals) {
    if (!vitals) return none($("memory"), "Not available.");
    const all = (key) => sum(vitals.workers, key), now = performance.now() / 1000;
    const live = vitals.workers.filter((w) => w.is_live).length || 1;
    const rate = (key) => {
      const before = state.before ? state.before.all[key] : Infinity;
      return all(key) < before ? null : (all(key) - before) / (now - state.before.at);
    };
    const collecting = ["collect_busy_s", "collect_idle_s", "collect_whole_s"].map(rate);
    const share = collecting.includes(null) ? null : collecting.reduce((a, b) => a + b) / live;
    const keys = ["collect_busy_s", "collect_idle_s", "collect_whole_s", "collect_cycles", "preemptions", "deadlines"];
    const per = (n) => (n === null ? "–" : count(Math.round(n * 10) / 10) + " /s");
    const heap = el("span", {}, bytes(all("memory_bytes")) + " "), collector = el("span", {}, (share === null ? "–" : percent(share, 1)) + " ");
    spark(heap, history("heap", all("memory_bytes")));
    spark(collector, history("collector", share), Math.max(0.05, ...(histories.get("collector") || [0])));
    pairs($("memory"), [
      ["Lua heaps", heap],
      ["cap of each", vitals.memory_hard_bytes ? bytes(vitals.memory_hard_bytes) : "none"],
      ["collector's share of time", collector],
      ["of it after requests, at rest, forced", collecting.includes(null) ? "–" : collecting.map((n) => percent(n / live, 1)).join(" · ")],
      ["cycles completed", count(all("collect_cycles"))],
      ["preemptions", per(rate("preemptions"))],
      ["deadlines missed", count(all("deadlines"))],
      ["machine code", bytes(all("code_bytes"))],
    ]);
    state.before = { at: now, all: Object.fromEntries(keys.map((key) => [key, all(key)])) };
  }

  function code_show(s) {
    const last = s.last_reload, dropped = Object.values(s.log.dropped).reduce((a, b) => a + b, 0);
    pairs($("code"), [
      ["serves", `${s.generation}, ${s.hash}`],
      ["app", s.app],
      ["reloads", `${s.reloads.committed} committed, ${s.reloads.rejected} rejected`],
      ["last load", last ? el("span", { class: last.error ? "bad" : "" }, `${last.result} in ${time_of(last.duration_ms)}`) : "–"],
      ["crashes of workers", el("span", { class: s.crashes ? "bad" : "" }, count(s.crashes))],
      ["log records dropped", el("span", { class: dropped ? "warn" : "" }, count(dropped))],
    ]);
    $("reload-error").hidden = !(last && last.error);
    say($("reload-error"), (last && last.error) || "");
  }

  // --- what changes slowly ---------------------------------------------------------------------------------

  const MIX = ["compiled", "interpreted", "c", "rest"];

  const MIX_COLUMNS = [
    { head: "Route", cls: "name", fill: number((r) => r.route) },
    { head: "", fill(td, r) {
      if (!td.firstChild) td.append(el("span", { class: "mix", "aria-hidden": "true" }, ...MIX.map((k) => el("i", { class: k }))));
      MIX.forEach((k, i) => { td.firstChild.children[i].style.width = (100 * r[k]) / r.all + "%"; });
    } },
    { head: "compiled", fill: number((r) => percent(r.compiled / r.all)) },
    { head: "interpreted", cls: "opt", fill: number((r) => percent(r.interpreted / r.all)) },
    { head: "C", cls: "opt", fill: number((r) => percent(r.c / r.all)) },
    { head: "collector, compiler", cls: "opt", fill: number((r) => percent(r.rest / r.all)) },
    { head: "samples", cls: "opt", fill: number((r) => count(r.all)) },
  ];

  function finding(one) {
    const tone = { costly: "bad", look: "warn" }[one.weight] || "soft";
    return el("li", { "data-at": one.at }, el("details", {}, el("summary", {}, where(one.at),
      el("span", { class: "tag " + tone }, one.blacklisted ? "blacklisted " + one.blacklisted : one.weight),
      el("span", { class: "why" }, `${one.reason}, ${count(one.count)} ×${one.route ? ", " + one.route : ""}`)),
    el("p", {}, one.from === one.at || one.blacklisted ? "" : `The trace began at ${short(one.from)}. `, short(one.advice))));
  }

  // Lists of details keep open what is open.
  function relist(list, keys, make) {
    const text = JSON.stringify(keys);
    if (list.dataset.text === text) return;
    list.dataset.text = text;
    const open = new Set([...list.children].filter((li) => li.querySelector("details[open]")).map((li) => li.dataset.at));
    list.replaceChildren(...keys.map(make));
    for (const li of list.children) if (open.has(li.dataset.at)) li.querySelector("details").open = true;
  }

  function jit_show(report) {
    if (!report) return say($("jit-summary"), "Not available.");
    $("jit-summary").replaceChildren(el("b", {}, count(report.traces)), " traces compiled, ", el("b", {}, count(report.aborts)),
      " given up, ", el("b", {}, count(report.flushes)), " flushes, ", el("b", {}, bytes(report.code_bytes)), " of machine code. ",
      report.shares ? "" : "Shares of CPU by route: not available.");
    const routes = ((report.shares && report.shares.routes) || [])
      .map((r) => ({ ...r, all: r.samples, rest: r.samples - r.compiled - r.interpreted - r.c })).filter((r) => r.all);
    $("jit-routes").hidden = !routes.length;
    if (routes.length) table($("jit-routes"), MIX_COLUMNS, routes.slice(0, 20), (r) => r.route);
    relist($("jit-list"), report.list.slice(0, 25), finding);
  }

  function actions_show(actions) {
    if (!actions) return none($("actions"), "Not available.");
    if (!actions.rules.length) return none($("actions"), "There are no rules.");
    const tones = { over: "warn", acting: "warn", cooling: "warn", held: "warn", unknown: "soft" };
    $("actions").replaceChildren(el("ul", { class: "checks" }, ...actions.rules.map((r) => el("li",
      { class: r.state === "quiet" ? "healthy" : tones[r.state] === "warn" ? "degraded" : "" }, el("i", { "aria-hidden": "true" }),
      el("span", {}, r.name), el("span", { class: tones[r.state] || "soft" }, r.state + (r.fired ? `, fired ${r.fired} ×` : "")),
      el("small", {}, `${r.when}${r.for_s ? " for " + span(r.for_s) : ""}: ${r.actions.join(", ")}`
        + (r.fired_s_ago !== undefined ? `; last ${span(r.fired_s_ago)} ago` : "") + (r.reason ? `; ${r.reason}` : ""))))),
    ...actions.firings.slice(0, 5).map((f) => el("p", { class: "more" }, `${clock(new Date(f.at * 1000))} ${f.rule}: ${f.action} ${f.outcome}${f.result || f.reason ? ", " + short(String(f.result || f.reason)) : ""}`)),
    actions.on ? "" : el("p", { class: "more" }, "Rules are switched off."));
  }

  // --- traces -------------------------------------------------------------------------------------------------

  function spans_show(answer) {
    if (!answer) return none($("traces"), "Not available.");
    const roots = answer.spans.filter((s) => s.what === "request").slice(0, 8);
    if (!roots.length) return none($("traces"), "None was kept yet.");
    if (!$("traces").querySelector("ul")) $("traces").replaceChildren(el("ul", { class: "findings" }));
    relist($("traces").querySelector("ul"), roots, (s) => {
      const node = el("details", {}, el("summary", {},
        el("span", { class: "cut" }, el("span", { class: "method" }, s.method || ""), " ", (s.target || s.name || "").replace(/^[A-Z]+ /, "")),
        el("span", { class: "tag " + (s.status === "error" ? "bad" : "soft") }, `${s.http_status || s.status}  ${time_of(s.duration_ms)}`),
        el("span", { class: "why" }, `${clock(new Date(s.start * 1000))}, kept: ${s.kept.join(", ")}, ${s.trace_id}`)));
      node.addEventListener("toggle", async () => {
        if (!node.open || node.children.length > 1) return;
        const whole = await ask_json("debug/spans?limit=200&trace=" + s.trace_id).catch(() => null);
        if (whole) node.append(waterfall(whole.spans));
      });
      return el("li", { "data-at": s.span_id }, node);
    });
  }

  function waterfall(spans) {
    const from = Math.min(...spans.map((s) => s.start)), to = Math.max(...spans.map((s) => s.start + s.duration_ms / 1000));
    return el("ul", { class: "waterfall" }, ...spans.sort((a, b) => a.start - b.start).map((s) => {
      const bar = el("i", { class: s.status === "error" ? "bad" : s.what });
      bar.style.marginLeft = (100 * (s.start - from)) / (to - from || 1) + "%";
      bar.style.width = Math.max(0.4, (100 * s.duration_ms) / 1000 / (to - from || 1)) + "%";
      return el("li", {}, el("span", { class: "cut" }, s.name), el("span", { class: "track", "aria-hidden": "true" }, bar), el("span", {}, time_of(s.duration_ms)));
    }));
  }

  async function slow() {
    if (document.hidden || state.away || !state.data) return;
    for (const [path, show] of [["debug/waits", waits_show], ["debug/actions", actions_show], ["debug/spans?limit=200", spans_show],
      ["debug/jit", jit_show]]) {
      let answer = null;
      try {
        answer = has(path) ? await ask_json(path) : null;
      } catch (error) {
        if (error instanceof Refused) return;
      }
      show(answer);
    }
  }

  // --- the log --------------------------------------------------------------------------------------------------

  const KNOWN = new Set(["time", "level", "msg", "req_id", "trace_id", "span_id", "tenant", "route", "method", "target",
    "status", "duration_ms", "bytes_in", "bytes_out", "remote", "http", "worker", "process", "generation"]);

  function record_line(r) {
    if (r.msg === "request" && r.method)
      return [`${r.method} ${r.target}`, `${r.status ?? "–"}  ${r.duration_ms ?? "–"} ms${r.aborted ? "  aborted" : ""}`];
    const more = Object.entries(r).filter(([key]) => !KNOWN.has(key))
      .map(([key, value]) => `${key}=${typeof value === "object" ? JSON.stringify(value) : value}`);
    return [r.msg, more.join("  ")];
  }

  function record_node(entry) {
    const r = entry.record, when = new Date(r.time), [message, fields] = record_line(r);
    const level = r.status >= 500 ? "error" : r.level;
    const node = el("details", { class: level, "data-level": r.level }, el("summary", {},
      el("time", { dateTime: r.time }, clock(when), el("span", { class: "opt" }, "." + String(when.getMilliseconds()).padStart(3, "0"))),
      el("span", { class: "level" }, r.level),
      el("span", {}, el("span", { class: "msg" }, message), el("span", { class: "fields" }, "  " + fields))));
    node.addEventListener("toggle", () => {
      if (node.open && !node.querySelector("pre"))
        node.append(el("pre", {}, Object.entries(r).map(([key, value]) => `${key}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join("\n")));
    });
    return node;
  }

  let tests = [], least = 0;

  // Words that all have to be there; field:value looks at one field.
  function filter_read() {
    least = Number($("level").value);
    tests = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
      const pair = word.match(/^([\w.]+):(.+)$/);
      return (entry) => {
        if (pair && pair[1] in entry.record) return String(entry.record[pair[1]]).toLowerCase().includes(pair[2]);
        return entry.text.includes(word);
      };
    });
  }

  function passes(entry) {
    return entry.mark || (LEVELS.indexOf(entry.record.level) >= least && tests.every((test) => test(entry)));
  }

  function log_count() {
    const shown = $("log").querySelectorAll("details").length;
    say($("log-count"), `${whole.format(shown)} of ${whole.format(state.records.filter((e) => !e.mark).length)} records`);
  }

  function log_append(entries) {
    const log = $("log"), fresh = entries.filter(passes).slice(-SHOWN);
    if (fresh.length) {
      log.append(...fresh.map((entry) => (entry.mark ? el("p", { class: "mark" }, entry.mark) : record_node(entry))));
      while (log.children.length > SHOWN) log.firstChild.remove();
      if ($("follow").checked) log.scrollTop = log.scrollHeight;
    }
    log_count();
  }

  function log_again() {
    filter_read();
    $("log").replaceChildren();
    log_append(state.records);
  }

  function log_take(tail) {
    const entries = tail.records.map(({ record }) => ({ record, text: JSON.stringify(record).toLowerCase() }));
    state.records.push(...entries);
    if (state.records.length > RECORDS) state.records.splice(0, state.records.length - RECORDS);
    if (entries.length) log_append(entries);
  }

  $("filter").addEventListener("input", log_again);
  $("level").addEventListener("change", log_again);
  $("follow").addEventListener("change", () => { if ($("follow").checked) $("log").scrollTop = $("log").scrollHeight; });
  // Whoever scrolls up wants to read; what moves because the window changes is no wish.
  let log_size = "";

  function log_pin() {
    const log = $("log"), size = `${log.clientHeight} ${log.clientWidth} ${log.scrollHeight}`;
    if (size === log_size)
      $("follow").checked = log.scrollTop + log.clientHeight >= log.scrollHeight - 24;
    else if ($("follow").checked)
      log.scrollTop = log.scrollHeight;
    log_size = size;
  }

  $("log").addEventListener("scroll", log_pin);
  new ResizeObserver(log_pin).observe($("log"));
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
      event.preventDefault();
      $("filter").focus();
    }
  });

  // --- profiles and files ---------------------------------------------------------------------------------------------

  async function take(path, patience) {
    if (!has(path)) throw new Error("this server has no " + path.replace(/\?.*/, ""));
    for (;;) {
      try {
        return await ask(path, patience);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        await ask_token();
      }
    }
  }

  // Stacks, "outer;inner 40" a line, as a tree.
  function tree_of(folded) {
    const root = { name: "all", value: 0, depth: 0, kids: new Map(), parent: null };
    for (const line of folded.split("\n")) {
      const space = line.lastIndexOf(" "), value = Number(line.slice(space + 1));
      if (space < 1 || !value) continue;
      let node = root;
      root.value += value;
      for (const name of line.slice(0, space).split(";")) {
        let kid = node.kids.get(name);
        if (!kid) node.kids.set(name, (kid = { name, value: 0, depth: node.depth + 1, kids: new Map(), parent: node }));
        kid.value += value;
        node = kid;
      }
    }
    return root;
  }

  const flame = { root: null, at: null, height: 0 };
  const NARROWEST = 0.0015; // share of the width that a box is drawn for

  function kind_of(name) {
    return /^(route|task) |^all$/.test(name) ? "own" : /^\(/.test(name) ? "core" : /\.lua:/.test(name) ? "lua" : "c";
  }

  function frame_text(node) {
    return `${short(node.name)}: ${percent(node.value / flame.root.value, 1)} of all`;
  }

  function flame_box(node, left, width) {
    const box = el("button", { type: "button", class: "frame " + kind_of(node.name), title: frame_text(node) },
      width > 0.02 ? short(node.name) : "");
    if (width <= 0.02) box.setAttribute("aria-label", frame_text(node));
    box.style.left = 100 * left + "%";
    box.style.width = 100 * width + "%";
    box.style.top = node.depth * 1.55 + "em";
    box.addEventListener("click", () => flame_draw(node));
    for (const event of ["pointerenter", "focus"]) box.addEventListener(event, () => say($("flame-said"), frame_text(node)));
    flame.height = Math.max(flame.height, node.depth + 1);
    return box;
  }

  // Below `at` to scale; what has led there over the whole width.
  function flame_draw(at) {
    const boxes = [];
    flame.at = at;
    flame.height = 0;
    for (let node = at.parent; node; node = node.parent) boxes.unshift(flame_box(node, 0, 1));
    const draw = (node, left) => {
      boxes.push(flame_box(node, left, node.value / at.value));
      for (const kid of [...node.kids.values()].sort((a, b) => b.value - a.value)) {
        if (kid.value / at.value >= NARROWEST) draw(kid, left);
        left += kid.value / at.value;
      }
    };
    draw(at, 0);
    const place = $("flame").querySelector(".flame-place");
    place.replaceChildren(...boxes);
    place.style.height = flame.height * 1.55 + "em";
    say($("flame-said"), at.parent ? frame_text(at) : "A click looks closer, one further up goes back.");
  }

  function flame_take(folded) {
    flame.root = tree_of(folded);
    if (!flame.root.value) throw new Error("there are no samples: nothing has used the processor");
    $("flame").hidden = false;
    flame_draw(flame.root);
  }

  $("profile").addEventListener("click", async () => {
    const seconds = Number($("seconds").value), button = $("profile"), due = Date.now() + seconds * 1000;
    button.disabled = true;
    const timer = setInterval(() => say($("profile-said"), `Taking samples, ${Math.max(0, Math.ceil((due - Date.now()) / 1000))} s left`), 250);
    try {
      const reply = await take(`debug/pprof/profile?seconds=${seconds}&format=folded`, (seconds + 20) * 1000);
      if (reply.status !== 200) throw new Error("status " + reply.status);
      flame_take(await reply.body.text());
      say($("profile-said"), `Of ${seconds} seconds, until ${clock(new Date())}`);
    } catch (error) {
      say($("profile-said"), "No flame graph: " + error.message);
    } finally {
      clearInterval(timer);
      button.disabled = false;
    }
  });

  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", async () => {
      button.disabled = true;
      say($("profile-said"), "Asking for " + button.dataset.name);
      try {
        const reply = await take(button.dataset.save, 60000);
          if (reply.status !== 200) throw new Error("status " + reply.status);
        const link = el("a", { href: URL.createObjectURL(reply.body), download: button.dataset.name });
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 60000);
        say($("profile-said"), `${button.dataset.name}, ${bytes(reply.body.size)}`);
      } catch (error) {
        say($("profile-said"), `No ${button.dataset.name}: ${error.message}`);
      } finally {
        button.disabled = false;
      }
    });
  }

  // --- the round ------------------------------------------------------------------------------------------------------------

  function live_show(is_live) {
    document.body.classList.toggle("away", !is_live);
    dress($("live"), "live " + (is_live ? "on" : "off"));
    say($("live"), is_live ? "live" : "away");
    $("notice").hidden = is_live;
    if (!is_live)
      say($("notice"), `The server has not answered since ${clock(new Date(state.away))}. Trying again each second; what is below is old.`);
  }

  // Another plane (the server started again, or loaded anew) counts from its own beginning.
  function plane_check(d) {
    if (state.plane === d.plane) return false;
    const was = state.plane;
    state.plane = d.plane;
    if (was === null) return false;
    Object.assign(state, { heat: 0, log: 0, columns: [], before: null });
    state.records.push({ mark: "the server began anew", text: "", record: {} });
    log_append(state.records.slice(-1));
    return true;
  }

  function show(d) {
    state.data = d;
    head_show(d.status);
    figures_show(d.status);
    workers_show(d.status, d.vitals);
    routes_show(d.status);
    health_show(d.health);
    memory_show(d.vitals);
    code_show(d.status);
    if (d.heat) {
      state.ends = d.heat.ends_ms;
      state.heat = d.heat.next;
      state.columns = state.columns.concat(d.heat.columns).slice(-COLUMNS);
      if (d.heat.columns.length || !$("heat").dataset.cells) {
        legend_show();
        charts_draw();
      }
    }
    if (d.log) {
      state.log = d.log.next;
      log_take(d.log);
    }
  }

  async function round() {
    let d;
    try {
      d = await ask_json(`dashboard/data?heat=${state.heat}&log=${state.log}`);
    } catch (error) {
      if (error instanceof Refused) return ask_token();
      state.away = state.away || Date.now();
      return live_show(false);
    }
    state.away = 0;
    live_show(true);
    if (!plane_check(d)) show(d);
  }

  let running = false;

  async function run() {
    if (running) return;
    running = true;
    let slow_at = 0;
    while (!document.hidden) {
      const began = performance.now();
      await round();
      if (began >= slow_at) {
        slow_at = began + SLOW_MS;
        slow();
      }
      await new Promise((resolve) => setTimeout(resolve, Math.max(50, EVERY_MS - (performance.now() - began))));
    }
    running = false;
  }

  function redraw() {
    scale_draw();
    if (state.data) charts_draw();
  }

  document.addEventListener("visibilitychange", run);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new ResizeObserver(redraw).observe($("heat"));
  filter_read();
  redraw();
  run();
})();
