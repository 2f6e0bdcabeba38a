// Answers of a page without a server: the filter language, sorting and folding, over data.js.
"use strict";

const Offline = (() => {
  const { listing, curves, descriptions } = window.BOARD;
  const keys = Object.keys(listing.keys);
  const FINISHED = ["finished", "stopped", "imported"], MEAN_OF = ["seconds", "epoch"];
  const FACTS = new Set(("commit data device directory epoch epochs error experiment host id name note parents platform " +
    "processes python samples seconds started status tags test-scorings user execution numerics package").split(" "));
  const TOKEN = /\s*(?:('(?:[^']|'')*'|"(?:[^"]|"")*")|(<=|>=|!=|==|[=<>~(),])|([^\s()<>=!~,'"]+)|(\S))/y;
  const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
  const STATUSES = ["finished", "stopped", "imported", "running", "interrupted", "failed", "killed", "unknown"];
  const FORMS = { started: "a date such as 2026-01-31, today, or -7d", seconds: "a number, or a duration such as 90s, 2h" };
  const SECONDS = { s: 1, m: 60, h: 3600, d: 86400 };

  class Wrong extends Error {
    constructor(message, column, hint = "") { super(message); this.column = column; this.hint = hint; }
  }

  // Return a function from values to true, false or null (a key is missing), as SQL's WHERE has them.
  function parse(text) {
    const tokens = [];
    TOKEN.lastIndex = 0;
    for (let match; TOKEN.lastIndex < text.length && (match = TOKEN.exec(text)); ) {
      const kind = ["", "quoted", "operator", "word", "other"].find((_, i) => i && match[i] !== undefined);
      tokens.push({ kind, text: match[1] ?? match[2] ?? match[3] ?? match[4], column: TOKEN.lastIndex - match[0].trimStart().length + 1 });
    }
    const end = { kind: "end", text: "", column: text.length + 1 };
    let at = 0;
    const next = () => tokens[at] || end, take = () => { const token = next(); at++; return token; };
    const is = (word) => next().kind === "word" && next().text.toLowerCase() === word;
    const skip = (word) => is(word) && (at++, true);
    const shown = (token) => (token.text ? `'${token.text}'` : "the end");
    const not = (a) => (v) => { const x = a(v); return x === null ? null : !x; };

    function any() {
      let left = all();
      while (skip("or")) { const [a, b] = [left, all()]; left = (v) => { const x = a(v), y = b(v); return x || y ? true : x === null || y === null ? null : false; }; }
      return left;
    }
    function all() {
      let left = factor();
      while (skip("and")) { const [a, b] = [left, factor()]; left = (v) => { const x = a(v), y = b(v); return x === false || y === false ? false : x === null || y === null ? null : true; }; }
      return left;
    }
    function factor() {
      if (skip("not")) return not(factor());
      if (next().text !== "(" || next().kind !== "operator") return condition();
      take(); const inner = any(); expect(")"); return inner;
    }
    function expect(sign) { const token = take(); if (token.text !== sign) throw new Wrong(`expected '${sign}', not ${shown(token)}`, token.column); }
    function condition() {
      const token = take();
      if (!["word", "quoted"].includes(token.kind) || ["and", "or", "not", "in", "is", "missing"].includes(token.text.toLowerCase())) throw new Wrong(`${shown(token)} is not a key`, token.column);
      if (token.text[0] === "@") return (v) => ` ${v.tags || ""} `.includes(` ${token.text.slice(1)} `);
      const key = find(unquote(token), token.column), read = (v) => (v[key] === undefined ? null : v[key]);
      if (skip("is")) {
        const opposite = skip("not");
        if (!skip("missing")) throw new Wrong(`expected missing, not ${shown(next())}`, next().column);
        return (v) => (read(v) === null) !== opposite;
      }
      const opposite = skip("not");
      if (opposite || is("in")) {
        if (!skip("in")) throw new Wrong(`expected in, not ${shown(next())}`, next().column);
        expect("(");
        const values = [value(operand(), key)];
        while (next().text === ",") { take(); values.push(value(operand(), key)); }
        expect(")");
        const inside = (v) => (read(v) === null ? null : values.some((one) => equal(read(v), one)));
        return opposite ? not(inside) : inside;
      }
      return comparison(read, key);
    }
    function comparison(read, key) {
      const operator = take();
      if (operator.text === "~") {
        const parts = unquote(operand()).replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\*/g, "[^]*").replace(/\?/g, "[^]");
        const pattern = new RegExp(`^${parts}$`);
        return (v) => (typeof read(v) === "string" ? pattern.test(read(v)) : null);
      }
      if (operator.kind !== "operator" || !["=", "==", "!=", "<", "<=", ">", ">="].includes(operator.text)) throw new Wrong(`${shown(operator)} is not an operator`, operator.column, "one of = != < <= > >= ~, in (...), is missing");
      const wanted = value(operand(), key), sign = operator.text;
      if (sign[0] === "=" || sign === "!=") return (v) => (read(v) === null ? null : equal(read(v), wanted) === (sign !== "!="));
      return (v) => {
        const one = read(v);
        if (one === null || (typeof one === "string") !== (typeof wanted === "string")) return null;
        return { "<": one < wanted, "<=": one <= wanted, ">": one > wanted, ">=": one >= wanted }[sign];
      };
    }
    function operand() {
      const token = take();
      if (!["word", "quoted"].includes(token.kind)) throw new Wrong(`a value is missing before ${shown(token)}`, token.column, "text with spaces needs quotes");
      return token;
    }
    const result = any();
    if (next() !== end) throw new Wrong(`${shown(next())} follows a complete condition`, next().column, "join them with and");
    return result;
  }

  const plain = (x) => (typeof x === "boolean" ? Number(x) : x); // as SQLite compares true
  const equal = (a, b) => plain(a) === plain(b);
  const unquote = ({ kind, text }) => (kind === "quoted" ? text.slice(1, -1).replaceAll(text[0] + text[0], text[0]) : text);

  function find(text, column) {
    if (keys.includes(text)) return text;
    const ends = keys.filter((key) => key.endsWith(`.${text}`) || key.endsWith(`/${text}`));
    if (ends.includes(`validation/${text}`)) return `validation/${text}`;
    if (ends.length === 1) return ends[0];
    throw ends.length ? new Wrong(`'${text}' is the end of several keys`, column, `one of ${ends.slice(0, 5).join(", ")}`) : new Wrong(`no run has '${text}'`, column);
  }

  // A value that its key cannot have is an error, as in sightx list-runs.
  function value(token, key) {
    const wanted = read(token, key), wrong = (hint) => { throw new Wrong(`'${token.text}' cannot be compared with ${key}`, token.column, hint); };
    if (wanted === null) wrong(`${key} takes ${FORMS[key]}`);
    if (key === "status" && !STATUSES.includes(wanted)) throw new Wrong(`'${token.text}' is not a status`, token.column, `one of ${STATUSES.join(", ")}`);
    const texts = [true, false].filter((isText) => listing.rows.some(({ values: v }) => v[key] !== undefined && (typeof v[key] === "string") === isText));
    if (!texts.length || texts.includes(typeof wanted === "string")) return wanted;
    return texts[0] ? unquote(token) : wrong("its values are not text");
  }

  function read(token, key) {
    const text = unquote(token), span = /^(-?)(\d+(?:\.\d+)?)([smhd])$/.exec(text);
    if (key === "started") return moment(text, span);
    if (key === "seconds" && span) return Number(span[2]) * SECONDS[span[3]];
    if (key === "seconds") return NUMBER.test(text) ? Number(text) : null;
    if (token.kind === "quoted") return text;
    if (/^(true|false)$/i.test(text)) return text.toLowerCase() === "true";
    return NUMBER.test(text) ? Number(text) : text;
  }

  function moment(text, span) {
    let time = new Date();
    if (span) time = new Date(time - 1000 * Number(span[2]) * SECONDS[span[3]]);
    else if (text.toLowerCase() === "today") time.setHours(0, 0, 0, 0);
    else time = new Date(/^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00:00` : text);
    return isNaN(time) ? null : `${time.toISOString().slice(0, 19)}Z`;
  }

  // --- folding and sorting, as sightx list-runs does

  const CONTENT = /-sha256$/; // the hash of a file that a setting names

  const isSetting = (key) => !key.includes("/") && !FACTS.has(key.split(".")[0]);

  function fold(rows, folded) {
    const groups = new Map();
    for (const { values } of rows) {
      if (!FINISHED.includes(values.status)) continue;
      const settings = Object.keys(values).filter((key) => isSetting(key) && !folded.includes(key.replace(CONTENT, ""))).sort();
      const name = JSON.stringify([settings.map((key) => [key, values[key]]), values.data]);
      if (!groups.has(name)) groups.set(name, new Map());
      const group = groups.get(name), contents = Object.entries(values).filter(([key]) => CONTENT.test(key)), once = JSON.stringify([values.experiment, values.data, contents]);
      if (!group.has(once)) group.set(once, values);
    }
    return [...groups.values()].map((group) => foldOne([...group.values()]));
  }

  function foldOne(group) {
    const same = {}, spreads = {}, tests = new Set(group.map((v) => v["data.test"]).filter((x) => x !== undefined));
    for (const key of new Set(group.flatMap(Object.keys))) {
      const values = group.map((v) => v[key]);
      if (!key.includes("/") && !MEAN_OF.includes(key)) {
        if (values.every((x) => x === values[0])) same[key] = values[0];
        continue;
      }
      const numbers = values.filter((x) => x !== undefined), n = numbers.length;
      if (key.startsWith("test/") && tests.size > 1) continue;
      const mean = numbers.reduce((a, b) => a + b, 0) / n;
      spreads[key] = [mean, n > 1 ? Math.sqrt(numbers.reduce((a, b) => a + (b - mean) ** 2, 0) / (n - 1)) : null, n];
    }
    return { ids: group.map((v) => v.id), values: same, spreads };
  }

  const numberOf = (row, key) => (row.spreads && row.spreads[key] ? row.spreads[key][0] : row.values[key]);

  function sort(rows, text) {
    if (!text) return rows;
    const key = find(text.replace(/^-/, "")), down = (listing.keys[key] === "max") !== (text[0] === "-");
    return [...rows].sort((a, b) => {
      const [x, y] = [numberOf(a, key), numberOf(b, key)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return ((x > y) - (x < y)) * (down ? -1 : 1);
    });
  }

  function columnsOf(rows) {
    const monitors = new Set(rows.map((row) => row.values["training.monitor"]).filter(Boolean));
    const metrics = [...monitors].flatMap((monitor) => [monitor, monitor.replace("validation/", "test/")]);
    const differs = (key) => new Set(rows.map((row) => JSON.stringify(row.values[key]))).size > 1;
    const settings = [...new Set(rows.flatMap((row) => Object.keys(row.values).filter(isSetting)))].filter(differs);
    const has = (key) => rows.some((row) => ![undefined, ""].includes(numberOf(row, key)));
    const part = (key) => { const use = `${key.split(".")[0]}.use`; return (key !== use && settings.includes(use)) || (CONTENT.test(key) && settings.includes(key.replace(CONTENT, ""))); };
    const [first, ...others] = metrics.filter(has);
    const facts = (...keys) => keys.filter((key) => key && has(key));
    return [...(differs("name") ? ["name"] : []), ...facts("status", "epoch", first), ...settings.filter((key) => !part(key)), ...facts(...others, "seconds", "tags")];
  }

  function answer(path, parameters) {
    const given = new URLSearchParams(parameters);
    if (path === "curves") return Object.fromEntries(given.getAll("run").filter((id) => curves[id]).map((id) => [id, curves[id]]));
    if (path === "run") return { values: listing.rows.find((row) => row.ids[0] === given.get("id")).values, ...descriptions[given.get("id")] };
    const matches = given.get("where") ? parse(given.get("where")) : () => true;
    let rows = listing.rows.filter((row) => matches(row.values) === true);
    if (given.get("fold")) rows = fold(rows, given.get("fold").split(","));
    rows = sort(rows, given.get("sort"));
    return { ...listing, matching: rows.length, rows, columns: columnsOf(rows), running: 0 };
  }

  return { answer };
})();
