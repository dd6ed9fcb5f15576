/** Short messages over the page: announcements as they arrive, and what went wrong with a click. */

import { byId, element } from "./dom.js";
import { text } from "./text.js";

const SHOWN_FOR = 8_000; // ms
const MAX_SHOWN = 3;

/**
 * @param {string} title
 * @param {string} message
 * @param {"low" | "medium" | "high" | "critical" | string} [priority] critical ones stay until they are dismissed
 */
export function toast(title, message, priority = "medium") {
  const list = byId("toasts");
  const dismiss = element(
    "button",
    { type: "button", class: "dismiss", "aria-label": text.dismiss, click: () => node.remove() },
    "×",
  );
  const node = element(
    "div",
    { class: "toast", "data-priority": priority },
    element("div", {}, element("strong", {}, title), message === "" ? "" : element("p", {}, message)),
    dismiss,
  );
  list.append(node);
  list.scrollTop = list.scrollHeight;
  while (list.childElementCount > MAX_SHOWN) list.firstElementChild?.remove();
  if (priority !== "critical") dismissLater(node);
}

/** Goes away by itself, but not under a pointer or a focus. @param {HTMLElement} node */
function dismissLater(node) {
  const start = () => setTimeout(() => node.remove(), SHOWN_FOR);
  let timer = start();
  for (const name of ["pointerenter", "focusin"]) node.addEventListener(name, () => clearTimeout(timer));
  for (const name of ["pointerleave", "focusout"]) {
    node.addEventListener(name, () => {
      clearTimeout(timer);
      timer = start();
    });
  }
}
