// One rollout: the verdict and what to do, the fleet, the waves, the evidence, the reasons, what happened.

import { evidenceChart, failuresChart } from "./charts.js";
import { h } from "./dom.js";
import { airflowPage, taskPage, toAirflow } from "./host.js";
import { badge, bar, legend, nameOf, ruleWords, sentence, since, todo } from "./pieces.js";
import { openStop } from "./stop.js";
import { joined, number, t, when } from "./words.js";

// In these somebody has to look at the guard's task itself.
const AT_THE_TASK = ["guard_failed", "stop_failed", "stale", "blind"];
const OVER = ["stopped", "stopped_elsewhere", "completed", "ended", "lost"];

export function detailView(row) {
  return [
    h("nav", { class: "up" }, h("a", { href: "#/", "data-key": "up" }, `‹ ${t("all_rollouts")}`)),
    h(
      "header",
      { class: "head" },
      h("h1", {}, nameOf(row), " ", badge(row.state, row.shadow)),
      row.looked_at ? h("p", { class: "small" }, since(row.looked_at, "looked_ago")) : null,
      stopButton(row),
    ),
    facts(row),
    verdict(row),
    h("section", { class: "card", "aria-label": t("fleet") }, h("h2", {}, t("fleet")), bar(row.progress), legend(row.progress)),
    row.waves.length ? waves(row) : null,
    h("div", { class: "charts" }, failuresChart(row), evidenceChart(row)),
    row.judged.length > 1 ? rules(row) : null,
    reasons(row),
    watchers(row),
    timeline(row),
  ];
}

function facts(row) {
  const ids = row.batch_task_ids;
  const shown = ids.length > 3 ? [...ids.slice(0, 3), t("and_more", { n: number(ids.length - 3) })] : ids;
  const items = [
    [t("fact.batch_tasks"), shown.join(", ")],
    [t("fact.name"), row.names.slice(0, 3).join(", ")],
    [t("fact.package"), row.package_ids.join(", ")],
    [t("fact.groups"), row.group_ids.join(", ")],
    [t("fact.connection"), row.iotda_conn_id],
    [t("fact.status"), [...new Set(row.status)].join(", ")],
  ].filter(([, value]) => value);
  return h("dl", { class: "facts" }, items.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "mono" }, value))));
}

function verdict(row) {
  const answer = row.question ? toAirflow(taskPage({ ...row, ...row.question, map_index: -1 }, "required_actions")) : null;
  return h(
    "section",
    { class: `card verdict ${row.state}`, "aria-label": t("verdict") },
    h("h2", {}, t(`says.${row.state}`)),
    h("p", {}, sentence(row)),
    h("p", { class: "todo" }, h("strong", {}, joined([t("todo"), ""])), todo(row)),
    answer ? h("p", {}, h("a", { class: "button", "data-key": "answer", ...answer }, t("answer"))) : null,
    AT_THE_TASK.includes(row.state) ? h("p", {}, h("a", { "data-key": "task", ...toAirflow(taskPage(row)) }, t("to_the_task"))) : null,
  );
}

function waves(row) {
  return h(
    "section",
    { class: "card", "aria-label": t("waves") },
    h("h2", {}, t("waves")),
    h(
      "ol",
      { class: "waves" },
      row.waves.map((wave) =>
        h(
          "li",
          { class: `wave ${wave.status}`, "aria-current": ["running", "asks"].includes(wave.status) ? "step" : null },
          h("strong", {}, t("wave", { n: number(wave.place) })),
          " ",
          h("span", { class: `badge wave-${wave.status}` }, t(`wave.${wave.status}`)),
          h("p", {}, t("wave.size", { label: wave.label, devices: number(wave.devices), cumulative: number(wave.cumulative) })),
          h("p", { class: "small" }, wave.to_pass === null ? t("wave.too_small") : t("wave.to_pass", { n: number(wave.to_pass) })),
        ),
      ),
    ),
  );
}

function rules(row) {
  return h(
    "section",
    { class: "card", "aria-label": t("rules") },
    h("h2", {}, t("rules")),
    h("ul", { class: "plain" }, row.judged.map((rule) => h("li", {}, `${rule.rule}: ${ruleWords(rule, row.state)}`))),
  );
}

function reasons(row) {
  const { by_class: classes, reasons: found, task, report_path: path } = row.reasons;
  const failed = row.progress?.fail ?? 0;
  if (!failed && !found.length) return null;
  return h(
    "section",
    { class: "card", "aria-label": t("reasons") },
    h("h2", {}, t("reasons")),
    classes
      ? h(
          "ul",
          { class: "legend" },
          Object.entries(classes)
            .filter(([, n]) => n)
            .map(([name, n]) => h("li", {}, h("span", { class: `dot class-${name}`, "aria-hidden": "true" }), t(`class.${name}`, { n: number(n) }))),
        )
      : null,
    found.length
      ? h(
          "table",
          { class: "reasons" },
          h("thead", {}, h("tr", {}, ["count", "class", "reason", "devices"].map((name) => h("th", { scope: "col" }, t(`reason.${name}`))))),
          h(
            "tbody",
            {},
            found.map((reason) =>
              h(
                "tr",
                {},
                h("td", { class: "number" }, reason.count === null ? "–" : number(reason.count)),
                h("td", {}, t(`class_name.${reason.failure_class}`)),
                h("td", {}, `${reason.error_code} ${reason.error_msg}`),
                h("td", { class: "mono" }, reason.targets.join(", ") || "–"),
              ),
            ),
          ),
        )
      : h("p", {}, t(OVER.includes(row.state) ? "reasons.not_collected" : "reasons.not_read")),
    path ? h("p", {}, t("reasons.path"), " ", h("span", { class: "mono" }, path)) : null,
    task ? h("p", {}, h("a", { "data-key": "all-reasons", ...toAirflow(taskPage(task, "xcom")) }, t("reasons.all"))) : null,
  );
}

function watchers(row) {
  return h(
    "section",
    { class: "card", "aria-label": t("watchers") },
    h("h2", {}, t("watchers")),
    h(
      "ul",
      { class: "plain" },
      row.guards.map((guard) =>
        h(
          "li",
          {},
          badge(guard.state, guard.shadow),
          " ",
          h("a", { "data-key": `${guard.dag_id}/${guard.run_id}/${guard.task_id}`, ...toAirflow(taskPage(guard)) }, t(`kind.${guard.kind}`)),
          h("span", { class: "small" }, ` ${guard.dag_id} · ${when(guard.began_at)}${guard.by ? ` · ${guard.by}` : ""}`),
        ),
      ),
    ),
    h("p", { class: "small" }, h("a", { "data-key": "run", ...toAirflow(airflowPage("dags", row.dag_id, "runs", row.run_id)) }, t("to_the_run"))),
  );
}

function timeline(row) {
  return h(
    "section",
    { class: "card", "aria-label": t("timeline") },
    h("h2", {}, t("timeline")),
    h(
      "ol",
      { class: "timeline" },
      row.events.map((event) =>
        h(
          "li",
          {},
          h("time", { datetime: event.at }, when(event.at)),
          h(
            "span",
            {},
            t(`event.${event.what}`, { option: event.option ?? "", state: event.state ? t(`state.${event.state}`) : "" }),
            event.sentence ? ` ${event.sentence}` : "",
            event.by ? h("span", { class: "small" }, ` · ${event.by}`) : null,
          ),
        ),
      ),
    ),
  );
}

function stopButton(row) {
  if (OVER.includes(row.state) || row.state === "stopping" || !row.unfinished_ids.length) return null;
  const { may_start: may, exists, is_paused: paused } = row.stopping;
  const why = !exists ? "stop.missing" : !may ? "stop.forbidden" : paused ? "stop.paused" : null;
  return h(
    "div",
    { class: "stop" },
    h(
      "button",
      { class: "danger-button", "data-key": "stop", disabled: why !== null, "aria-describedby": why ? "why-not" : null, onclick: () => openStop(row) },
      t("stop.open"),
    ),
    why ? h("p", { id: "why-not", class: "small" }, t(why, { dag: row.stopping.dag_id })) : null,
  );
}
