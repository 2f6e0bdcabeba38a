// The table of runs, the view of one run, and what the address says about the page.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const element = Charts.element, isOffline = typeof Offline !== "undefined";
  const ROW = 27, MARGIN = 20, MOST_CHOSEN = 50; // pixels, rows, groups of runs
  const view = { where: "", fold: "", sort: "", x: "epoch", smooth: "0", log: "", runs: null, keys: null, run: "" };
  let listing = { rows: [], columns: [], keys: {} }, curves = {}, timer = 0, asked = 0;

  // --- where answers come from: a server, or the data of a page without one

  const tags = new Map(); // what the server has answered: [tag, value] by address

  async function ask(path, parameters) {
    if (isOffline) return Offline.answer(path, parameters);
    const address = `api/${path}?${new URLSearchParams(parameters)}`;
    const [tag, value] = tags.get(address) || [];
    const answer = await fetch(address, tag ? { headers: { "If-None-Match": tag }, cache: "no-store" } : { cache: "no-store" });
    if (answer.status === 304) return value;
    const body = await answer.json();
    if (answer.status === 400) throw Object.assign(new Error(body.error), body);
    if (answer.ok && answer.headers.get("ETag")) {
      if (tags.size > 20) tags.clear();
      tags.set(address, [answer.headers.get("ETag"), body]);
    }
    return body;
  }

  // --- the address, so that a link is a view

  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const name of Object.keys(view)) {
      const text = given.get(name);
      if (name === "runs" || name === "keys") view[name] = text == null ? null : text.split(",").filter(Boolean);
      else view[name] = text ?? { x: "epoch", smooth: "0" }[name] ?? "";
    }
    $("where").value = view.where; $("fold").checked = view.fold !== "";
    $("x").value = view.x; $("smooth").value = view.smooth; $("log").checked = view.log !== "";
  }

  function writeAddress() {
    const kept = new URLSearchParams();
    for (const [name, value] of Object.entries(view)) {
      const text = Array.isArray(value) ? value.join(",") : value;
      if (text !== null && text !== "" && text !== { x: "epoch", smooth: "0" }[name]) kept.set(name, text);
      if (Array.isArray(value) && !value.length) kept.set(name, "");
    }
    history.replaceState(null, "", `#${kept}`);
  }

  // --- cells

  const nameOf = (row) => row.ids.join("+");
  const labelOf = (row) => (row.ids.length > 1 ? `${row.ids.length} x ${row.ids[0]}` : row.ids[0]);

  function duration(seconds) {
    const s = Math.round(seconds), units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
    const first = units.findIndex(([, size]) => s >= size);
    if (first < 0) return "0s";
    const [[unit, size], next] = [units[first], units[first + 1]];
    const rest = next ? Math.floor((s % size) / next[1]) : 0;
    return `${Math.floor(s / size)}${unit}${rest ? ` ${rest}${next[0]}` : ""}`;
  }

  function cellText(key, value) {
    if (value == null) return "-";
    if (key === "seconds") return duration(value);
    if (key === "started") return new Date(value).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
    if (typeof value === "number" && key.includes("/")) return value.toFixed(4);
    if (typeof value === "number" && !Number.isInteger(value)) return `${Number(value.toPrecision(6))}`;
    return String(value);
  }

  function cell(row, key) {
    const values = row.values, spread = row.spreads && row.spreads[key];
    if (spread) {
      const [mean, deviation, n] = spread;
      return n > 1 && key !== "seconds" ? `${cellText(key, mean)} ± ${cellText(key, deviation)}` : cellText(key, mean);
    }
    if (key === "epoch" && !["finished", "stopped", "imported"].includes(values.status)) return `${values.epoch ?? 0}/${values["training.epochs"] ?? "?"}`;
    return cellText(key, values[key]);
  }

  const isNumber = (text, key) => /^-?\d/.test(text) && !["started", "name"].includes(key);

  // --- the table: only the rows that can be seen are in the page

  function drawHead() {
    const head = $("runs").querySelector("thead tr");
    head.replaceChildren();
    for (const key of ["run", ...listing.columns]) {
      const title = element("th", head), sorted = view.sort.replace("-", "") === key;
      if (key === "run") { element("button", title, `${listing.rows.length === 1 ? "1 row" : `${listing.rows.length.toLocaleString("en")} rows`}`).onclick = () => change({ sort: "" }); continue; }
      if (listing.rows.some((row) => isNumber(cell(row, key), key))) title.className = "number";
      const button = element("button", title, key + (sorted ? (view.sort[0] === "-" ? " ▲" : " ▼") : ""));
      button.title = "sort";
      button.onclick = () => change({ sort: view.sort === key ? `-${key}` : key });
      if (sorted) title.setAttribute("aria-sort", view.sort[0] === "-" ? "ascending" : "descending");
    }
  }

  function drawRows() {
    const box = $("runs"), body = box.querySelector("tbody"), total = listing.rows.length;
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - MARGIN);
    const last = Math.min(total, first + Math.ceil(box.clientHeight / ROW) + 2 * MARGIN);
    const focused = document.activeElement && document.activeElement.dataset.row;
    body.replaceChildren();
    spacer(body, first * ROW);
    for (const row of listing.rows.slice(first, last)) drawRow(body, row);
    spacer(body, (total - last) * ROW);
    if (focused) body.querySelector(`input[data-row="${CSS.escape(focused)}"]`)?.focus();
  }

  function spacer(body, height) {
    if (height <= 0) return;
    const line = element("tr", body, "", "spacer");
    element("td", line).style.height = `${height}px`;
    line.firstChild.colSpan = listing.columns.length + 1;
  }

  function drawRow(body, row) {
    const name = nameOf(row), position = (view.runs || []).indexOf(name), line = element("tr", body);
    line.setAttribute("aria-selected", position >= 0);
    const first = element("td", line), box = element("input", first);
    box.type = "checkbox"; box.checked = position >= 0; box.dataset.row = name;
    box.setAttribute("aria-label", `curves of ${labelOf(row)}`);
    box.onchange = () => toggle(name);
    if (position >= 0) element("span", first, "", "swatch").style.background = Charts.colour(position);
    first.append(" ");
    const link = element("a", first, labelOf(row));
    link.href = "#"; link.title = row.ids.join("\n");
    link.onclick = (event) => { event.preventDefault(); show(row.ids[0]); };
    for (const key of listing.columns) {
      const text = cell(row, key), td = element("td", line, text, key === "status" ? `${row.values.status}` : "");
      td.title = text;
      if (isNumber(text, key)) td.classList.add("number");
    }
    line.onclick = (event) => { if (!event.target.closest("a, input")) toggle(name); };
  }

  function toggle(name) {
    const chosen = view.runs || [];
    view.runs = chosen.includes(name) ? chosen.filter((other) => other !== name) : [...chosen, name].slice(-MOST_CHOSEN);
    writeAddress(); drawRows(); loadCurves();
  }

  // --- curves

  // What a legend says of folded runs: the settings in which they differ from the other rows.
  function settingsOf(name) {
    const row = listing.rows.find((other) => nameOf(other) === name);
    const keys = listing.columns.filter((key) => key.includes(".") && !key.includes("/"));
    return row ? keys.map((key) => `${key.split(".").pop()} ${cell(row, key)}`).join(", ") : "";
  }

  const groupsOf = () => (view.runs || []).map((name, position) => {
    const ids = name.split("+");
    return {
      ids, colour: Charts.colour(position),
      label: ids.length > 1 ? `${ids.length} x ${settingsOf(name) || ids[0]}` : ids[0],
      curves: ids.map((id) => curves[id]).filter((curve) => curve && curve.epoch.length),
    };
  });

  async function loadCurves() {
    const ids = (view.runs || []).flatMap((name) => name.split("+"));
    if (ids.length) curves = await ask("curves", ids.map((id) => ["run", id]));
    drawCurves();
  }

  function drawCurves() {
    const groups = groupsOf(), available = [...new Set(groups.flatMap((g) => g.curves.flatMap((c) => c.available)))];
    const monitors = listing.rows.map((row) => row.values["training.monitor"]).filter(Boolean);
    const usual = [...new Set([...monitors.slice(0, 1), "validation/loss", "train/loss"])];
    const keys = (view.keys || usual).filter((key) => available.includes(key));
    const buttons = $("keys");
    buttons.replaceChildren();
    for (const key of available) {
      const button = element("button", buttons, key);
      button.type = "button";
      button.setAttribute("aria-pressed", keys.includes(key));
      button.onclick = () => { view.keys = keys.includes(key) ? keys.filter((other) => other !== key) : [...keys, key]; writeAddress(); drawCurves(); };
    }
    $("nothing").hidden = groups.length > 0;
    $("clear").hidden = groups.length === 0;
    Charts.draw($("plots"), groups, keys, { x: view.x, smooth: Number(view.smooth), log: view.log !== "" });
  }

  // --- one run

  function rowsOf(parent, title, pairs) {
    const shown = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
    if (!shown.length) return;
    element("h3", parent, title);
    const table = element("table", parent);
    for (const [key, value] of shown) {
      const line = element("tr", table);
      element("td", line, key);
      const td = element("td", line);
      value instanceof Node ? td.append(value) : (td.textContent = cellText(key, value));
    }
  }

  function runLink(id) {
    const link = document.createElement("a");
    link.href = "#"; link.textContent = id;
    link.onclick = (event) => { event.preventDefault(); show(id); };
    return link;
  }

  async function show(id) {
    view.run = id; writeAddress();
    const box = $("run");
    box.hidden = !id;
    if (!id) { drawCurves(); return; }
    const run = await ask("run", { id });
    if (view.run !== id) return;
    box.replaceChildren();
    const close = element("button", box, "×", "close");
    close.setAttribute("aria-label", "close"); close.onclick = () => show("");
    element("h2", box, id);
    const values = run.values, facts = ["status", "tags", "note", "started", "seconds", "host", "user", "device", "error"];
    rowsOf(box, "Facts", [...facts.map((key) => [key, values[key]]), ["epochs", `${values.epoch ?? 0} of ${values["training.epochs"] ?? "?"}`]]);
    const pages = run.files.filter((name) => !name.startsWith("plots/"));
    element("h3", box, "Files");
    const list = element("p", box);
    for (const name of pages) {
      const link = element("a", list, name === "report.html" ? "report" : name);
      link.href = `run/${encodeURIComponent(id)}/${name}`; link.target = "_blank";
      list.append("  ");
    }
    for (const split of ["validation", "test"]) rowsOf(box, split, Object.entries(run.metrics[split] || {}).filter(([key]) => key.split("/").length === 2));
    rowsOf(box, "Comes from", run.parents.map((parent) => [parent.why, runLink(parent.run)]));
    rowsOf(box, "Continued by", (run.children || []).map((child) => ["run", runLink(child)]));
    rowsOf(box, "Sessions", run.sessions.map((s) => [s.status || "running", `${cellText("started", s.started)}, ${duration(s.seconds)} on ${s.host}`]));
    for (const name of run.files.filter((file) => file.startsWith("plots/"))) {
      const picture = element("img", box);
      picture.src = `run/${encodeURIComponent(id)}/${name}`; picture.alt = name; picture.loading = "lazy";
    }
    rowsOf(box, "Settings", Object.entries(values).filter(([key]) => key.includes(".") && !/^(package|data|execution|numerics)\.|\//.test(key)));
    drawCurves();
  }

  // --- everything together

  function change(new_values) {
    Object.assign(view, new_values);
    writeAddress(); load();
  }

  function showError(error) {
    const box = $("error");
    box.hidden = !error;
    if (!error) return;
    const caret = error.column ? `${view.where}\n${" ".repeat(error.column - 1)}^ ` : "";
    box.textContent = caret + [error.message, error.hint].filter(Boolean).join("; ");
  }

  async function load() {
    clearTimeout(timer);
    const mine = ++asked;
    try {
      const { where, fold, sort } = view, answer = await ask("runs", { where, fold, sort });
      if (mine !== asked) return;
      showError(null);
      if (answer !== listing) {
        listing = answer;
        const names = new Set(listing.rows.map(nameOf));
        if (view.runs === null) view.runs = listing.rows.slice(0, 3).map(nameOf);
        else if (!view.runs.every((name) => names.has(name) || !name.includes("+"))) view.runs = view.runs.filter((name) => names.has(name));
        drawHead(); drawRows();
        const running = listing.running ? `, ${listing.running} running` : "";
        const groups = view.fold ? " groups" : "";
        $("count").textContent = `${listing.matching.toLocaleString("en")}${groups} of ${listing.runs.toLocaleString("en")} runs${running}`;
        await loadCurves();
      }
    } catch (error) {
      if (mine === asked) showError(error.column === undefined ? { message: `no answer: ${error.message}` } : error);
    }
    const wait = listing.running ? 2000 : 15000;
    if (!isOffline) timer = setTimeout(() => (document.hidden ? (timer = setTimeout(load, wait)) : load()), wait);
  }

  function start() {
    readAddress();
    let typing = 0;
    $("where").oninput = () => { clearTimeout(typing); typing = setTimeout(() => change({ where: $("where").value.trim() }), 250); };
    $("query").onsubmit = (event) => { event.preventDefault(); change({ where: $("where").value.trim() }); };
    $("fold").onchange = () => change({ fold: $("fold").checked ? "seed" : "", runs: null });
    $("x").onchange = () => { view.x = $("x").value; writeAddress(); drawCurves(); };
    $("log").onchange = () => { view.log = $("log").checked ? "1" : ""; writeAddress(); drawCurves(); };
    $("smooth").oninput = () => { view.smooth = $("smooth").value; writeAddress(); drawCurves(); };
    $("clear").onclick = () => { view.runs = []; writeAddress(); drawRows(); drawCurves(); };
    $("runs").onscroll = () => requestAnimationFrame(drawRows);
    document.addEventListener("keydown", (event) => { if (event.key === "Escape" && view.run) show(""); });
    window.addEventListener("hashchange", () => { readAddress(); load(); if (view.run) show(view.run); });
    window.addEventListener("resize", () => { drawRows(); drawCurves(); });
    document.addEventListener("visibilitychange", () => { if (!document.hidden) load(); });
    load().then(() => { if (view.run) show(view.run); });
  }

  start();
})();
