// The words of the page, and how numbers and times are written, in the language of Airflow's user.

import { language, timeZone } from "./host.js";

let words = {};
let current = "";

/** Reads the words of the present language; false: they are the same as before. */
export async function loadWords() {
  const wanted = language();
  if (wanted === current) return false;
  const answer = await fetch(new URL(`../words/${wanted}.json`, import.meta.url));
  if (!answer.ok) throw new Error(`words: HTTP ${answer.status}`);
  const read = await answer.json();
  if (wanted !== language()) return loadWords(); // it has changed meanwhile
  words = read;
  current = wanted;
  document.documentElement.lang = wanted;
  document.title = t("title");
  return true;
}

/** The text of a key; `{name}` in it is replaced by the value of that name. */
export function t(key, values = {}) {
  const text = words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

export function has(key) {
  return key in words;
}

/** Sentences one after the other: Chinese has no space between them. */
export function joined(sentences) {
  return sentences.join(current === "zh-CN" ? "" : " ");
}

export function number(value) {
  return new Intl.NumberFormat(current).format(value);
}

/** A share such as 0.0615 as `6.15%`. */
export function percent(share) {
  const digits = share < 0.1 ? 2 : 1;
  return new Intl.NumberFormat(current, { style: "percent", maximumFractionDigits: digits }).format(share);
}

/** Log evidence as odds: `195 to 1`. */
export function odds(log) {
  if (log === null || log === undefined) return "?";
  if (log > Math.log(1e6)) return t("odds", { n: `10^${Math.round(log / Math.LN10)}` });
  const n = Math.exp(log);
  return t("odds", { n: n >= 10 ? number(Math.round(n)) : n.toPrecision(2) });
}

/** A time in ISO 8601 as a date and a time of day. */
export function when(iso) {
  if (!iso) return "";
  const style = { dateStyle: "short", timeStyle: "medium", timeZone: timeZone() };
  return new Intl.DateTimeFormat(current, style).format(new Date(iso));
}

/** Seconds as words: `12 s`, `3 min`, `5 h`, `2 d`. */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return t("seconds", { n: number(s) });
  if (s < 7200) return t("minutes", { n: number(Math.round(s / 60)) });
  if (s < 172800) return t("hours", { n: number(Math.round(s / 3600)) });
  return t("days", { n: number(Math.round(s / 86400)) });
}
