/** What a list says while it has nothing to show. */

import { element, setText } from "./dom.js";
import { text } from "./text.js";

/**
 * @param {Element} node
 * @param {string} failed
 * @param {string} empty
 * @param {() => unknown} retry
 * @returns {(loading: import("./store.js").Loading, isEmpty: boolean) => void} shows how it stands
 */
export function loadingNotice(node, failed, empty, retry) {
  let shown = "";
  return (loading, isEmpty) => {
    const now = loading === "ready" && isEmpty ? "empty" : loading;
    if (now === shown) return;
    shown = now;
    keepPlace(node);
    node.className = now === "ready" ? "" : `list-note ${now}`;
    setText(node, { ready: "", empty, failed, loading: text.loading }[now]);
    if (now === "failed")
      node.append(element("button", { type: "button", class: "button", click: retry }, text.tryAgain));
  };
}

/** A keyboard's place is not lost with the button that it was on. @param {Element} node */
function keepPlace(node) {
  if (!node.contains(document.activeElement)) return;
  const heading = node.closest("section, dialog")?.querySelector("h2");
  heading?.setAttribute("tabindex", "-1");
  heading?.focus();
}
