// Asks the page's app and Airflow's API, with the login that Airflow's UI has.

import { api, root, token } from "./host.js";

/** An answer that is no success; `status` 0: nobody has answered. */
export class NoAnswer extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function rollouts(state) {
  return ask(new URL(`rollouts?state=${state}`, api));
}

export function rollout(dagId, runId) {
  return ask(new URL(`rollouts/${encodeURIComponent(dagId)}/${encodeURIComponent(runId)}`, api));
}

/** Starts a run of a DAG through Airflow's own API, which asks whether the user may. */
export function startRun(dagId, conf, note) {
  return ask(new URL(`api/v2/dags/${encodeURIComponent(dagId)}/dagRuns`, root), {
    method: "POST",
    body: JSON.stringify({ logical_date: null, conf, note }),
  });
}

export function runOf(dagId, runId) {
  const path = `api/v2/dags/${encodeURIComponent(dagId)}/dagRuns/${encodeURIComponent(runId)}`;
  return ask(new URL(path, root));
}

async function ask(url, options = {}) {
  const headers = { Accept: "application/json" };
  if (options.body) headers["Content-Type"] = "application/json";
  const bearer = token();
  if (bearer) headers.Authorization = `Bearer ${bearer}`;
  let answer;
  try {
    const signal = AbortSignal.timeout(20000);
    answer = await fetch(url, { ...options, headers, signal, credentials: "same-origin" });
  } catch (error) {
    throw new NoAnswer(0, String(error));
  }
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new NoAnswer(answer.status, said(body) ?? `HTTP ${answer.status}`);
  if (body === null) throw new NoAnswer(0, "no JSON");
  return body;
}

function said(body) {
  const detail = body?.detail;
  if (typeof detail === "string") return detail;
  return detail ? JSON.stringify(detail).slice(0, 500) : null;
}
