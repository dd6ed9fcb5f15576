/** Forms that send by a request: what is missing is asked for, one request at a time, the outcome is said beside it. */

import { problem, text } from "./text.js";

/** @typedef {HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement} Control */

/**
 * @param {HTMLFormElement} form holds `.form-error` (an alert) and `.form-done` (a status)
 * @param {(values: Record<string, string>) => Promise<string>} send returns what is to be said of the success
 */
export function onSubmit(form, send) {
  const error = /** @type {HTMLElement} */ (form.querySelector(".form-error"));
  const done = /** @type {HTMLElement} */ (form.querySelector(".form-done"));
  const button = /** @type {HTMLButtonElement} */ (form.querySelector("button:not([type])"));
  const required = /** @type {Control[]} */ ([...form.querySelectorAll("[required]")]);
  const read = () => /** @type {Record<string, string>} */ (Object.fromEntries(new FormData(form)));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.hasAttribute("aria-disabled")) return;
    const missing = required.find(({ value }) => !value.trim());
    for (const control of required) control.setAttribute("aria-invalid", String(control === missing));
    done.textContent = "";
    error.textContent = missing ? text.missing(missing.labels?.[0]?.textContent ?? "") : "";
    if (missing) return missing.focus();
    // Not `disabled`, by which a keyboard would lose its place.
    button.setAttribute("aria-disabled", "true");
    try {
      const values = read();
      const outcome = await send(values);
      // What was typed meanwhile is the next one.
      if (JSON.stringify(read()) === JSON.stringify(values)) form.reset();
      done.textContent = outcome;
    } catch (failure) {
      error.textContent = problem(/** @type {import("./api.js").ApiError} */ (failure));
    }
    button.removeAttribute("aria-disabled");
  });
}
