// All rollouts: one row for each, the most urgent first.

import { h } from "./dom.js";
import { badge, bar, nameOf, sentence, since, todo } from "./pieces.js";
import { joined, number, t } from "./words.js";

// A row with this need, or a smaller one, waits for somebody.
const URGENT = 3;
const NEEDS = ["need_none", "need_one"];

export function hashOf({ dag_id: dag, run_id: run }) {
  return `#/run/${encodeURIComponent(dag)}/${encodeURIComponent(run)}`;
}

export function listView({ now, rollouts, is_cut_off: isCutOff }, state) {
  const rows = rollouts.map((row) => ({ ...row, now }));
  const urgent = rows.filter((row) => row.need <= URGENT).length;
  const filter = (name) =>
    h(
      "a",
      {
        class: "tab",
        href: name === "active" ? "#/" : "#/all",
        "aria-current": name === state ? "page" : null,
        "data-key": `tab-${name}`,
      },
      t(`filter.${name}`),
    );
  return [
    h(
      "header",
      { class: "head" },
      h("h1", {}, t("title")),
      h("p", { class: urgent ? "need urgent" : "need" }, t(NEEDS[urgent] ?? "need", { n: number(urgent) })),
      h("nav", { class: "tabs", "aria-label": t("filter") }, filter("active"), filter("all")),
    ),
    rows.length ? table(rows) : h("p", { class: "card empty" }, t(`empty.${state}`)),
    isCutOff ? h("p", { class: "note" }, t("cut_off")) : null,
  ];
}

function table(rows) {
  const heads = ["state", "rollout", "fleet", "says", "as_of"];
  const shown = new Set(rows.flatMap((row) => row.batch_task_ids));
  return h(
    "table",
    { class: "card rollouts" },
    h("thead", {}, h("tr", {}, heads.map((name) => h("th", { scope: "col" }, t(`column.${name}`))))),
    h("tbody", {}, rows.map((row) => line(row, shown.has(row.again_of)))),
  );
}

function line(row, isSecond) {
  const href = hashOf(row);
  const watching = row.guards.filter((guard) => guard.kind !== "stop");
  const small = [row.batch_task_ids.length > 1 ? t("batch_tasks", { n: number(row.batch_task_ids.length) }) : row.batch_task_ids[0]];
  return h(
    "tr",
    {
      class: isSecond ? "second" : null,
      onclick: (event) => {
        if (!event.target.closest("a") && !String(window.getSelection())) location.hash = href;
      },
    },
    h("td", { class: "state" }, badge(row.state, row.shadow)),
    h(
      "th",
      { scope: "row", class: "name" },
      isSecond ? h("span", { class: "again" }, `↳ ${t("second_try")} `) : null,
      h("a", { href, "data-key": href }, nameOf(row)),
      h("span", { class: "mono" }, small),
      watching.length > 1 ? h("span", { class: "small" }, t("guards", { n: number(watching.length) })) : null,
    ),
    h(
      "td",
      { class: "fleet" },
      bar(row.progress, { thin: true }),
      h(
        "span",
        { class: "small" },
        t("short_counts", {
          success: number(row.progress?.success ?? 0),
          fail: number(row.progress?.fail ?? 0),
          total: number(row.progress?.total ?? 0),
        }),
      ),
    ),
    h("td", { class: "says" }, row.need <= URGENT ? h("strong", {}, t(`says.${row.state}`)) : null, sentence(row), row.need <= URGENT ? h("span", { class: "todo" }, joined([t("todo"), todo(row)])) : null),
    h("td", { class: "as-of" }, row.looked_at ? since(row.looked_at, "ago") : "–"),
  );
}
