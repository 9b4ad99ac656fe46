// Airflow's UI around the frame: its theme, its language, its address bar and its pages.

const inFrame = window.parent !== window;
const host = inFrame ? window.parent : window;

/** Where Airflow is served, with a slash at the end. */
export const root = new URL("../../", document.baseURI);
/** Where this page's app answers. */
export const api = new URL("../api/", document.baseURI);

/** `en` or `zh-CN`, whichever is closer to Airflow's own language. */
export function language() {
  // What Airflow has stored comes first: after a reload its `lang` may stay `en`.
  const chosen = stored("i18nextLng") || host.document.documentElement.lang || navigator.language;
  return /^zh(?!-(TW|HK|MO|Hant))/i.test(chosen) ? "zh-CN" : "en";
}

export function isDark() {
  if (!inFrame) return stored("theme") === "dark";
  return host.document.documentElement.classList.contains("dark");
}

/** The time zone that Airflow's user has chosen; undefined: the browser's. */
export function timeZone() {
  const zone = stored("timezone");
  try {
    new Intl.DateTimeFormat("en", { timeZone: zone });
    return zone || undefined;
  } catch {
    return undefined;
  }
}

/** Airflow 3.1.0 keeps its token here; later versions send a cookie that no script can read. */
export function token() {
  return stored("token");
}

function stored(name) {
  const text = window.localStorage.getItem(name);
  return text?.startsWith('"') ? JSON.parse(text) : text || undefined;
}

/** Calls `changed` when Airflow's theme or language changes. */
export function whenHostChanges(changed) {
  new MutationObserver(changed).observe(host.document.documentElement, {
    attributes: true,
    attributeFilter: ["class", "lang"],
  });
  window.addEventListener("storage", changed);
}

/** The address of one of Airflow's own pages. */
export function airflowPage(...parts) {
  return new URL(parts.map(encodeURIComponent).join("/"), root).href;
}

export function taskPage({ dag_id: dag, run_id: run, task_id: task, map_index: index = -1 }, ...more) {
  const mapped = index >= 0 ? ["mapped", index] : [];
  return airflowPage("dags", dag, "runs", run, "tasks", task, ...mapped, ...more);
}

/** Attributes of a link to one of Airflow's pages: it opens in Airflow, not in the frame. */
export function toAirflow(href) {
  return {
    href,
    onclick: (event) => {
      if (!inFrame || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      host.history.pushState({}, "", href);
      host.dispatchEvent(new PopStateEvent("popstate", { state: {} }));
    },
  };
}

/** The view that the address names; a link into Airflow's page has it in Airflow's own address. */
export function firstHash() {
  if (!location.hash && inFrame && host.location.hash.startsWith("#/")) {
    history.replaceState(null, "", host.location.hash);
  }
  return location.hash;
}

/** Airflow's address follows the view, so that a reload and a copied address show the same. */
export function mirrorHash() {
  if (!inFrame) return;
  const { pathname, search } = host.location;
  host.history.replaceState(host.history.state, "", pathname + search + location.hash);
}
