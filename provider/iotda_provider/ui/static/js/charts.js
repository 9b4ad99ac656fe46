// Two curves: failures against the line at which the guard stops, and evidence against its bound.

import { h, svg } from "./dom.js";
import { number, odds, t } from "./words.js";

const W = 480;
const H = 240;
const LEFT = 56;
const RIGHT = 24;
const TOP = 14;
const BOTTOM = 40;

/** A scale from numbers to pixels. */
function scale(low, high, from, to) {
  return (value) => from + ((value - low) / (high - low || 1)) * (to - from);
}

function steps(high) {
  const rough = Math.max(1, high) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough));
  return Array.from({ length: Math.floor(high / step) + 1 }, (_, index) => index * step);
}

function frame(x, xs, y, ys, label, caption) {
  return [
    ys.map(({ at, text }) => [
      svg("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y(at), y2: y(at) }),
      svg("text", { class: "axis", x: LEFT - 6, y: y(at) + 4, "text-anchor": "end" }, text),
    ]),
    xs.map((at) =>
      svg("text", { class: "axis", x: x(at), y: H - BOTTOM + 16, "text-anchor": "middle" }, number(at)),
    ),
    svg("text", { class: "axis", x: (LEFT + W - RIGHT) / 2, y: H - 6, "text-anchor": "middle" }, label),
    svg("title", {}, caption),
  ];
}

function path(points) {
  return points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

function figure(title, caption, ...content) {
  return h(
    "figure",
    { class: "card chart" },
    h("h2", {}, title),
    svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": caption }, content),
    h("figcaption", {}, caption),
  );
}

/** Failures over started devices, and the line at which the guard stops; null: no line is known. */
export function failuresChart(row) {
  if (!row.stop_line.length && row.curve.length < 2) return null;
  const total = row.drawn_to;
  const curve = row.curve.length ? row.curve : [[row.progress?.started ?? 0, row.progress?.fail ?? 0, null]];
  const [started, failed] = curve.at(-1);
  const highest = Math.max(4, ...row.stop_line.map(([, s]) => s), ...curve.map(([, s]) => s));
  const x = scale(0, total, LEFT, W - RIGHT);
  const y = scale(0, highest * 1.1, H - BOTTOM, TOP);
  const limit = row.stop_line.findLast(([n]) => n <= started)?.[1];
  const caption = t(limit === undefined ? "chart.failures.no_line" : "chart.failures.says", {
    failed: number(failed),
    started: number(started),
    limit: number(limit ?? 0),
  });
  const line = row.stop_line.map(([n, s]) => [x(n), y(s)]);
  const area = line.length ? [...line, [line.at(-1)[0], TOP], [line[0][0], TOP]] : [];
  const isBad = limit !== undefined && failed >= limit;
  return figure(
    t("chart.failures"),
    caption,
    frame(x, steps(total), y, steps(highest).map((at) => ({ at, text: number(at) })), t("chart.started"), caption),
    area.length ? svg("path", { class: "danger", d: `${path(area)}Z` }) : null,
    line.length ? svg("path", { class: "bound", d: path(line) }) : null,
    line.length ? svg("text", { class: "bound-name", x: W - RIGHT - 4, y: TOP + 12, "text-anchor": "end" }, t("chart.stop")) : null,
    svg("path", { class: isBad ? "curve bad" : "curve", d: path(curve.map(([n, s]) => [x(n), y(s)])) }),
    svg("circle", { class: isBad ? "last bad" : "last", cx: x(started), cy: y(failed), r: 4 }),
  );
}

/** The evidence of the first rule over started devices, against its bound. */
export function evidenceChart(row) {
  const rule = row.judged[0];
  const curve = row.curve.filter(([, , value]) => value !== null);
  if (rule?.measure !== "log_evidence" || rule.bound === null || !curve.length) return null;
  const values = curve.map(([, , value]) => value);
  const low = Math.max(-12, Math.min(-1, ...values)) - 0.5;
  const high = Math.min(40, Math.max(rule.bound, ...values)) + 1;
  const total = row.drawn_to;
  const x = scale(0, total, LEFT, W - RIGHT);
  const y = scale(low, high, H - BOTTOM, TOP);
  const inside = (value) => y(Math.min(high, Math.max(low, value)));
  const every = Math.max(1, Math.ceil((high - low) / Math.LN10 / 5));
  const tens = [];
  for (let power = Math.ceil(low / Math.LN10); power * Math.LN10 <= high; power += 1) {
    if (power % every === 0) tens.push({ at: power * Math.LN10, text: power < 0 ? `1:${10 ** -power}` : power > 6 ? `10^${power}` : `${number(10 ** power)}:1` });
  }
  const [started, , last] = curve.at(-1);
  // The curve is rounded.
  const caption = t("chart.evidence.says", { value: odds(rule.value ?? last), bound: odds(rule.bound) });
  const isBad = last >= rule.bound;
  return figure(
    t("chart.evidence"),
    caption,
    frame(x, steps(total), y, tens, t("chart.started"), caption),
    svg("line", { class: "bound", x1: LEFT, x2: W - RIGHT, y1: y(rule.bound), y2: y(rule.bound) }),
    svg("text", { class: "bound-name", x: W - RIGHT - 4, y: y(rule.bound) - 5, "text-anchor": "end" }, t("chart.stop_at", { bound: odds(rule.bound) })),
    svg("path", { class: isBad ? "curve bad" : "curve", d: path(curve.map(([n, , v]) => [x(n), inside(v)])) }),
    svg("circle", { class: isBad ? "last bad" : "last", cx: x(started), cy: inside(last), r: 4 }),
  );
}
