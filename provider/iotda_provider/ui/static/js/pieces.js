// The pieces that both views show: the state, the fleet's bar, the sentence.

import { h } from "./dom.js";
import { duration, has, joined, number, odds, percent, t, when } from "./words.js";

export function badge(state, shadow = false) {
  return [
    h("span", { class: `badge ${state}` }, t(`state.${state}`)),
    shadow ? h("span", { class: "badge shadow", title: t("shadow.long") }, t("shadow")) : null,
  ];
}

// What the provider puts behind the names of batch tasks that it creates.
const STAMP = /_afr?[A-Z2-7]{26}$/;
// What a release puts behind its own name for the batch tasks of its waves.
const WAVE = /_wave_\d+_of_\d+_part_\d+$/;

/** What people call a rollout: its name and version, else its batch task. */
export function nameOf(row) {
  const own = (row.names[0] ?? "").replace(STAMP, "");
  const name = row.kind === "release" ? own.replace(WAVE, "") : own;
  if (row.version && name) return `${name} · ${row.version}`;
  return row.version ? t("firmware", { version: row.version }) : name || t("batch_task", { id: row.batch_task_ids[0] ?? "?" });
}

const PARTS = ["success", "fail", "running", "stopped", "waiting"];

/** The devices of each kind; all of them together are the whole fleet. */
export function partsOf(progress) {
  const p = progress ?? {};
  const parts = {
    success: p.success ?? 0,
    fail: p.fail ?? 0,
    running: (p.processing ?? 0) + (p.fail_wait_retry ?? 0),
    stopped: (p.stopped ?? 0) + (p.removed ?? 0),
  };
  const known = parts.success + parts.fail + parts.running + parts.stopped;
  return { ...parts, waiting: Math.max(0, (p.total ?? 0) - known) };
}

/** The fleet as a bar; its label says the same in words. */
export function bar(progress, { thin = false } = {}) {
  const parts = partsOf(progress);
  const label = PARTS.map((part) => t(`part.${part}`, { n: number(parts[part]) })).join(", ");
  const pieces = PARTS.filter((part) => parts[part] > 0).map((part) => {
    const piece = h("span", { class: `piece ${part}` });
    piece.style.flexGrow = parts[part];
    return piece;
  });
  return h("div", { class: thin ? "bar thin" : "bar", role: "img", "aria-label": label }, pieces);
}

export function legend(progress) {
  const parts = partsOf(progress);
  const started = t("started_of", {
    started: number(progress?.started ?? 0),
    total: number(progress?.total ?? 0),
  });
  return h(
    "ul",
    { class: "legend" },
    h("li", { class: "strong" }, started),
    PARTS.map((part) =>
      h("li", {}, h("span", { class: `dot ${part}`, "aria-hidden": "true" }), t(`part.${part}`, { n: number(parts[part]) })),
    ),
  );
}

/** The rule that decides, as it was judged last: the one nearest to its bound. */
export function nearest(row) {
  const share = (rule) => (rule.value === null || !rule.bound ? -Infinity : rule.value / rule.bound);
  return [...row.judged].sort((a, b) => share(b) - share(a))[0] ?? null;
}

function flat(rules) {
  return rules.flatMap((rule) => (Array.isArray(rule.rules) ? flat(rule.rules) : [rule]));
}

/** How many have failed, of how many, and how many may. */
export function failures(row) {
  if (!row.progress) return t("not_looked");
  const isOver = row.state === "stopped" && row.decided;
  const started = isOver ? row.decided[0] : (row.progress?.started ?? 0);
  const failed = isOver ? row.decided[1] : (row.progress?.fail ?? 0);
  if (!started) return t("none_started", { total: number(row.progress?.total ?? 0) });
  const tolerated = flat(row.rules).find((rule) => rule.tolerated_rate && rule.counts !== "attempts")?.tolerated_rate;
  return t(tolerated ? "failed_of_tolerated" : "failed_of", {
    failed: number(failed),
    started: number(started),
    rate: percent(failed / started),
    tolerated: tolerated ? percent(tolerated) : "",
  });
}

// In these a rule's bound says nothing: the rollout is over, or nobody watches.
const WITHOUT_RULE = ["completed", "ended", "lost", "stopped_elsewhere", "guard_failed", "stop_failed", "stale"];
const STOPS_NOTHING = ["breached", "shadow_breached"];

const FORMS = { log_evidence: odds, failure_rate: percent, seconds_still: duration };

/** A rule's value against its bound, in words. */
export function ruleWords(rule, state) {
  if (rule.value === null || rule.bound === null) return t("rule.unknown", { rule: rule.rule });
  const form = FORMS[rule.measure] ?? number;
  const [value, bound] = [form(rule.value), form(rule.bound)];
  const key = rule.measure === "log_evidence" && rule.value <= 0 ? "rule.no_evidence" : `rule.${rule.measure}`;
  return t(has(key) && !STOPS_NOTHING.includes(state) ? key : "rule.other", { rule: rule.rule, value, bound });
}

/** The whole sentence: the outcome first, then the numbers, then what follows. */
export function sentence(row) {
  const parts = [failures(row)];
  if (row.attempted > (row.progress?.fail ?? 0)) {
    parts.push(t("attempted", { n: number(row.attempted) }));
  }
  const rule = nearest(row);
  if (rule && rule.value !== null && !WITHOUT_RULE.includes(row.state)) {
    parts.push(ruleWords(rule, row.state));
  }
  if (row.state === "stopped") {
    const { total = 0, started = 0 } = row.progress ?? {};
    parts.push(t("spared", { n: number(Math.max(0, total - started)) }));
  }
  return joined(parts);
}

// Milliseconds after its time at which the next record is missing.
const LATE = 60000;

/** What a person must do, or that there is nothing to do. */
export function todo(row) {
  const values = {
    since: when(row.blind_since ?? row.looked_at ?? row.changed_at),
    error: row.stop?.error ?? "",
    connection: row.iotda_conn_id,
    ids: row.unfinished_ids.join(", ") || row.batch_task_ids.join(", "),
    by: row.guards.find((guard) => guard.kind === "stop")?.by ?? "",
  };
  if (row.state === "asks") {
    const isWatched =
      row.guards.some((guard) => guard.kind === "guard" && ["watched", "hold"].includes(guard.state)) ||
      (row.verdict === null && row.due !== null && Date.parse(row.due) + LATE > Date.parse(row.now));
    return t(isWatched ? "todo.asks_watched" : "todo.asks", values);
  }
  if (row.state === "stopped_elsewhere" && values.by) return t("todo.stopped_by", values);
  if (row.state === "guard_failed" && !values.ids) return t("todo.guard_failed_unknown", values);
  if (row.state === "watched" && row.shadow) return t("todo.watched_shadow", values);
  return t(`todo.${row.state}`, values);
}

export function since(iso, word) {
  return h("span", { "data-since": iso, "data-word": word, title: when(iso) });
}
