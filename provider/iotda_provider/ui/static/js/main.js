// Shows the view that the address names, and reads its data again and again.

import { NoAnswer, rollout, rollouts } from "./data.js";
import { h, show } from "./dom.js";
import { firstHash, isDark, mirrorHash, whenHostChanges } from "./host.js";
import { listView } from "./list.js";
import { detailView } from "./rollout.js";
import { closeDialog } from "./stop.js";
import { duration, loadWords, t } from "./words.js";

const EVERY = 4000;
const EVERY_WHEN_OVER = 30000;

const view = document.getElementById("view");
const trouble = document.getElementById("trouble");
const said = document.getElementById("said");

let shown = { key: "", data: null, at: 0, text: "", state: "" };
let timer = 0;
let asked = 0;

/** What the address names: all rollouts (`#/` or `#/all`), or one (`#/run/<dag>/<run>`). */
function wanted() {
  const [, kind, dag, run] = location.hash.split("/");
  if (kind === "run" && dag && run) {
    const ids = [decodeURIComponent(dag), decodeURIComponent(run)];
    return { key: ids.join("\n"), read: () => rollout(...ids), draw: (data) => detailView(data) };
  }
  const state = kind === "all" ? "all" : "active";
  return { key: state, read: () => rollouts(state), draw: (data) => listView(data, state) };
}

async function look() {
  clearTimeout(timer);
  const turn = ++asked;
  const { key, read, draw } = wanted();
  let pause = EVERY;
  try {
    const data = await read();
    if (turn !== asked) return;
    shown = { ...shown, key, data, at: Date.now(), draw };
    if (data.need >= 6) pause = EVERY_WHEN_OVER;
    tellTrouble(null);
    paint();
  } catch (error) {
    if (turn !== asked) return;
    if (!(error instanceof NoAnswer)) throw error;
    tellTrouble(error, key);
  } finally {
    if (turn === asked) timer = setTimeout(look, document.hidden ? 10 * pause : pause);
  }
}

/** Draws the data if it says something new. */
function paint(always = false) {
  if (!shown.data) return;
  const { now, ...rest } = shown.data;
  const text = shown.key + JSON.stringify(rest);
  if (text === shown.text && !always) return tick();
  shown.text = text;
  show(view, shown.draw(shown.data));
  if (shown.data.state && shown.data.state !== shown.state) {
    said.textContent = t(`state.${shown.data.state}`);
  }
  shown.state = shown.data.state ?? "";
  tick();
}

/** Old data stays, with its age; without a login or a permission nothing is shown. */
function tellTrouble(error, key) {
  trouble.hidden = error === null;
  if (error === null) return;
  const known = { 401: "trouble.login", 403: "trouble.permission", 404: "trouble.nothing" };
  const word = known[error.status] ?? "trouble.unreachable";
  if (known[error.status] || shown.key !== key) {
    shown = { key: "", data: null, at: 0, text: "", state: "" };
    show(view, h("p", {}, h("a", { href: "#/" }, t("all_rollouts"))));
  }
  const age = shown.at ? ` ${t("trouble.age", { age: duration((Date.now() - shown.at) / 1000) })}` : "";
  trouble.textContent = t(word) + age;
}

/** The ages on the page grow while nothing else changes. */
function tick() {
  if (!shown.data) return;
  const now = Date.parse(shown.data.now) + Date.now() - shown.at;
  for (const place of document.querySelectorAll("[data-since]")) {
    const age = duration((now - Date.parse(place.dataset.since)) / 1000);
    place.textContent = t(place.dataset.word ?? "ago", { age });
  }
}

async function dressUp() {
  document.documentElement.classList.toggle("dark", isDark());
  if (await loadWords()) paint(true);
}

function go() {
  mirrorHash();
  closeDialog();
  view.focus({ preventScroll: true });
  window.scrollTo(0, 0);
  look();
}

firstHash();
// Before the first words are there: Airflow may choose its language meanwhile.
whenHostChanges(dressUp);
await dressUp();
window.addEventListener("hashchange", go);
document.addEventListener("visibilitychange", () => document.hidden || look());
setInterval(tick, 1000);
look();
