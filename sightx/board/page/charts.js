// Curves of the chosen runs, one panel per metric, drawn by uPlot.
"use strict";

const Charts = (() => {
  const COLOURS = ["#1f77d0", "#e8710a", "#2a9d4a", "#c6306d", "#7b52c9", "#8a6d00", "#00939b", "#a8452a", "#5f7a1f", "#d0489b"];
  let plots = [];

  const colour = (position) => COLOURS[position % COLOURS.length];

  // Exponential moving average, divided by the weight that it has seen so far (as TensorBoard does).
  function smooth(values, weight) {
    if (!weight) return values;
    let sum = 0, seen = 0;
    return values.map((value) => {
      if (value == null) return null;
      sum = weight * sum + (1 - weight) * value;
      seen = weight * seen + (1 - weight);
      return sum / seen;
    });
  }

  function positions(curve, x) {
    if (x !== "minutes") return curve[x];
    let total = 0;
    return curve.seconds.map((seconds) => (total += seconds) / 60);
  }

  // Values of each run of a group at all positions of a panel; null where a run has none.
  function aligned(group, key, x, all) {
    return group.curves.filter((curve) => curve.metrics[key]).map((curve) => {
      const at = new Map(positions(curve, x).map((place, i) => [place, curve.metrics[key][i]]));
      return all.map((place) => at.get(place) ?? null);
    });
  }

  // Mean and sample standard deviation at each position, over the runs that have a value there.
  function spread(rows) {
    const mean = [], low = [], high = [];
    for (let i = 0; i < (rows[0] || []).length; i++) {
      const values = rows.map((row) => row[i]).filter((value) => value != null);
      const n = values.length, m = n ? values.reduce((a, b) => a + b, 0) / n : null;
      const deviation = n > 1 ? Math.sqrt(values.reduce((a, b) => a + (b - m) ** 2, 0) / (n - 1)) : 0;
      mean.push(m); low.push(n ? m - deviation : null); high.push(n ? m + deviation : null);
    }
    return { mean, low, high };
  }

  // Series of one group: faint raw values and a strong line, or a band around a mean.
  function seriesOf(group, rows, weight) {
    const points = { show: rows.length && rows[0].filter((v) => v != null).length < 2 };
    const line = { stroke: group.colour, width: 2, points };
    if (rows.length > 1) {
      const { mean, low, high } = spread(rows);
      const edge = { stroke: "transparent", points: { show: false } };
      return [[{ ...line }, smooth(mean, weight)], [edge, smooth(high, weight)], [edge, smooth(low, weight)]];
    }
    const raw = rows[0] || [];
    if (!weight) return [[line, raw]];
    return [[line, smooth(raw, weight)], [{ stroke: group.colour + "55", width: 1, points: { show: false } }, raw]];
  }

  function panel(key, groups, options) {
    const all = [...new Set(groups.flatMap((g) => g.curves.flatMap((c) => positions(c, options.x))))].sort((a, b) => a - b);
    const data = [all], series = [{ label: options.x }], bands = [], main = [];
    for (const group of groups) {
      const rows = aligned(group, key, options.x, all);
      if (!rows.length) continue;
      const parts = seriesOf(group, rows, options.smooth);
      main.push({ group, index: data.length });
      if (parts.length === 3) bands.push({ series: [data.length + 1, data.length + 2], fill: group.colour + "30" });
      for (const [look, values] of parts) { series.push({ label: group.label, spanGaps: true, ...look }); data.push(values); }
    }
    return { data, series, bands, main };
  }

  function element(tag, parent, text = "", name = "") {
    const node = document.createElement(tag);
    if (name) node.className = name;
    node.textContent = text;
    parent.append(node);
    return node;
  }

  function draw(parent, groups, keys, options) {
    plots.forEach((plot) => plot.destroy());
    plots = [];
    parent.replaceChildren();
    const style = getComputedStyle(document.documentElement);
    const axis = { stroke: style.getPropertyValue("--soft"), grid: { stroke: style.getPropertyValue("--line"), width: 1 }, ticks: { stroke: style.getPropertyValue("--line"), width: 1 } };
    for (const key of keys) {
      const { data, series, bands, main } = panel(key, groups, options);
      if (!main.length) continue;
      const box = element("div", parent, "", "plot");
      element("h2", box, key);
      const holder = element("div", box), legend = element("div", box, "", "legend");
      const write = (at) => {
        legend.replaceChildren();
        for (const { group, index } of main) {
          const values = data[index];
          const value = at == null ? values.findLast((v) => v != null) : values[at];
          const entry = element("span", legend);
          element("span", entry, "", "swatch").style.background = group.colour;
          entry.append(` ${group.label} ${value == null ? "-" : value.toPrecision(4)}`);
        }
      };
      plots.push(new uPlot({
        width: Math.max(box.clientWidth, 200), height: 220, series, bands,
        scales: { x: { time: false }, y: { distr: options.log ? 3 : 1 } },
        axes: [{ ...axis, label: options.x, labelSize: 18, size: 34 }, { ...axis, size: 58 }],
        cursor: { sync: { key: "board" } }, legend: { show: false },
        hooks: { setCursor: [(plot) => write(plot.cursor.idx)] },
      }, data, holder));
      write(null);
    }
  }

  return { colour, draw, smooth, spread, element };
})();
