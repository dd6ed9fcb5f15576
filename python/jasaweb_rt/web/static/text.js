/**
 * Every word that the pages show, and how times, money and problems are said, in the language of the page. The one
 * door to language; the words themselves are in `text-en.js` and `text-id.js`.
 */

import { words as english } from "./text-en.js";
import { words as indonesian } from "./text-id.js";

const STORED_AS = "jasaweb_rt.language";
/** The language that the server writes its own sentences in. */
const SERVER_LANGUAGE = "en";
/**
 * Seconds of a unit, and how many of it are said before the next one is.
 * @type {[Intl.RelativeTimeFormatUnit, number, number][]}
 */
const UNITS = [
  ["minute", 60, 60],
  ["hour", 3600, 24],
  ["day", 86_400, 7],
];

/** @typedef {"en" | "id"} Language a primary language subtag, as `<html lang>` has it */

/** @type {Record<Language, typeof english>} */
const WORDS = { en: english, id: indonesian };

/** What the languages call themselves. @type {Record<Language, string>} */
export const LANGUAGES = { en: "English", id: "Bahasa Indonesia" };

const preferred = navigator.languages.flatMap(toLocale);

/** The language of the page: the one that was chosen, else the first of the browser's that there is. */
export const language = chosen() ?? preferred.map((locale) => locale.language).find(isLanguage) ?? "en";

/** With the region that the browser asks for, which decides how dates are written. */
const locale = preferred.find((wanted) => wanted.language === language)?.toString() ?? language;
const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
const day = new Intl.DateTimeFormat(locale, { dateStyle: "medium" });
const dayAndTime = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });

export const text = WORDS[language];

/** @param {string} tag @returns {Intl.Locale[]} none for what is no language tag: some systems have such */
function toLocale(tag) {
  try {
    return [new Intl.Locale(tag)];
  } catch {
    return [];
  }
}

/** @param {string | null} tag @returns {tag is Language} */
function isLanguage(tag) {
  return tag !== null && Object.hasOwn(WORDS, tag);
}

function chosen() {
  try {
    const stored = localStorage.getItem(STORED_AS);
    return isLanguage(stored) ? stored : undefined;
  } catch {
    return undefined; // the browser bars storage
  }
}

/** Keeps the choice for all pages of this browser, and shows this one anew. @param {Language} wanted */
export function chooseLanguage(wanted) {
  try {
    localStorage.setItem(STORED_AS, wanted);
  } catch {
    return; // barred: the page would come back as it is
  }
  location.reload();
}

/**
 * A word of a table, or the key itself made readable: a foreign program may use values of its own.
 * @param {Record<string, string>} table
 * @param {string} key
 */
export function word(table, key) {
  return Object.hasOwn(table, key) ? table[key] : key.replaceAll("_", " ");
}

/** How long ago, or the date where that is clearer. @param {string} timestamp RFC 3339 */
export function ago(timestamp) {
  const seconds = (Date.now() - Date.parse(timestamp)) / 1000;
  if (seconds < 60) return text.justNow;
  const unit = UNITS.find(([, size, count]) => seconds < size * count);
  return unit ? relative.format(-Math.floor(seconds / unit[1]), unit[0]) : date(timestamp);
}

/** @param {string} timestamp RFC 3339 */
export function moment(timestamp) {
  return dayAndTime.format(new Date(timestamp));
}

/** @param {string} timestamp RFC 3339 */
export function date(timestamp) {
  return day.format(new Date(timestamp));
}

/** @param {number} amount rupiah */
export function money(amount) {
  const digits = Number.isInteger(amount) ? 0 : 2;
  return new Intl.NumberFormat(locale, {
    style: "currency",
    currency: "IDR",
    currencyDisplay: "narrowSymbol",
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(amount);
}

/** @param {number} value one decimal is said at most */
export function number(value) {
  return new Intl.NumberFormat(locale, { maximumFractionDigits: 1 }).format(value);
}

/** @param {number} bytes a second */
export function transferRate(bytes) {
  const style = { style: /** @type {const} */ ("unit"), unit: "kilobyte-per-second", maximumFractionDigits: 1 };
  return new Intl.NumberFormat(locale, style).format(bytes / 1000);
}

/**
 * Why a request failed: in the server's own sentence where that is in the page's language.
 * @param {{status: number, message: string}} error an `ApiError`
 */
export function problem({ status, message }) {
  if (status === 0) return text.unreachable;
  if (message && language === SERVER_LANGUAGE) return message;
  const known = /** @type {Record<number, string>} */ (text.problems);
  return known[status] ?? text.failed;
}

/**
 * Fills the elements that name their words (`data-text` for content, `data-label` for what only a screen reader says;
 * `admin.title` is a word of the table `admin`), and says which language the page is in.
 */
export function fillText() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-text]"))
    node.textContent = named(node.getAttribute("data-text") ?? "");
  for (const node of document.querySelectorAll("[data-label]"))
    node.setAttribute("aria-label", named(node.getAttribute("data-label") ?? ""));
}

/** @param {string} path @returns {string} */
function named(path) {
  return path.split(".").reduce((table, key) => table[key], /** @type {any} */ (text));
}
