// The dialog that stops a rollout: it starts Airflow's DAG for that, and follows it to the end.

import { NoAnswer, rollout, runOf, startRun } from "./data.js";
import { h, show } from "./dom.js";
import { airflowPage, toAirflow } from "./host.js";
import { partsOf } from "./pieces.js";
import { number, t } from "./words.js";

const dialog = document.getElementById("dialog");
const EVERY = 2000;
let opened = 0;

export function closeDialog() {
  opened += 1;
  if (dialog.open) dialog.close();
}

dialog.addEventListener("close", () => {
  opened += 1;
});

/** Asks for the last four characters of the id, then stops all batch tasks that have not ended. */
export function openStop(row) {
  const turn = ++opened;
  const ids = row.unfinished_ids;
  const parts = partsOf(row.progress);
  const end = ids.at(-1).slice(-4);
  const go = h("button", { class: "danger-button", type: "submit", disabled: true }, t("stop.go"));
  const typed = h("input", {
    id: "typed",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    maxlength: 4,
    oninput: () => {
      go.disabled = typed.value.trim().toLowerCase() !== end;
    },
  });
  const form = h(
    "form",
    {
      method: "dialog",
      onsubmit: (event) => {
        event.preventDefault();
        if (!go.disabled) stop(row, ids, turn);
      },
    },
    h("h2", { id: "dialog-title" }, t("stop.title")),
    h("p", {}, t("stop.loses", { n: number(parts.waiting + parts.running), running: number(parts.running) })),
    h("p", {}, t("stop.final")),
    h("p", { class: "mono" }, ids.join(", ")),
    h("label", { for: "typed" }, t("stop.type", { end })),
    typed,
    h("div", { class: "buttons" }, go, h("button", { type: "button", onclick: closeDialog }, t("stop.cancel"))),
  );
  show(dialog, form);
  dialog.showModal();
  typed.focus();
}

async function stop(row, ids, turn) {
  const lines = ids.map((id) => h("li", {}, `${id}: ${t("stop.starting")}`));
  const close = h("button", { type: "button", onclick: closeDialog }, t("stop.close"));
  const links = h("p", {});
  show(
    dialog,
    h("h2", { id: "dialog-title" }, t("stop.title")),
    h("ul", { class: "plain", role: "status", "aria-live": "polite" }, lines),
    links,
    h("p", { class: "small" }, t("stop.may_close")),
    h("div", { class: "buttons" }, close),
  );
  close.focus();
  await Promise.all(ids.map((id, place) => stopOne(row, id, lines[place], links, turn)));
}

async function stopOne(row, id, line, links, turn) {
  const tell = (key, values = {}) => {
    line.textContent = `${id}: ${t(key, values)}`;
  };
  let run;
  try {
    run = await startRun(
      row.stopping.dag_id,
      {
        batch_task_id: id,
        scope: "the whole task",
        iotda_conn_id: row.iotda_conn_id,
        project_id: row.project_id,
        instance_id: row.instance_id,
      },
      t("stop.note"),
    );
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error;
    const known = { 401: "trouble.login", 403: "stop.forbidden", 404: "stop.missing", 0: "stop.unknown" };
    return tell(known[error.status] ?? "stop.refused", { dag: row.stopping.dag_id, error: error.message });
  }
  links.append(h("a", toAirflow(airflowPage("dags", run.dag_id, "runs", run.dag_run_id)), t("stop.see_run")), " ");
  tell("stop.sent");
  while (turn === opened) {
    await new Promise((resolve) => setTimeout(resolve, EVERY));
    const [came, how] = await Promise.all([
      rollout(run.dag_id, run.dag_run_id).catch(() => null),
      runOf(run.dag_id, run.dag_run_id).catch(() => null),
    ]);
    const status = came?.status.join(", ");
    if (came?.status.length && came.status.every((word) => word === "Stopped")) return tell("stop.done");
    if (how?.state === "failed") return tell("stop.failed");
    if (how?.state === "success") return tell("stop.over", { status: status || "?" });
    if (how?.state === "queued") tell("stop.queued");
    else if (status) tell("stop.under_way", { status });
  }
}
