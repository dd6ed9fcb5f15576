/** Small tools for building and updating elements. Text goes in as text only, never as markup. */

import { ago, moment } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, string | boolean | EventListener>} [attributes] a function listens to the event of that name;
 *   true and false set and leave out
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`The page has no element #${id}`);
  return node;
}

/** A picture of the sprite, said by the words beside it. @param {string} name */
export function icon(name) {
  const node = document.createElementNS(SVG, "svg");
  node.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/static/icons.svg#${encodeURIComponent(name)}`);
  node.append(use);
  return node;
}

/**
 * Sets the text only where it differs, so that a screen reader does not say it again.
 * @param {Element} node
 * @param {string} value
 */
export function setText(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

/** @param {HTMLTimeElement} node @param {string} timestamp RFC 3339 */
export function setTime(node, timestamp) {
  node.dateTime = timestamp;
  node.title = moment(timestamp);
  setText(node, ago(timestamp));
}

/** Says all times on the page anew. */
export function refreshTimes() {
  for (const node of document.querySelectorAll("time")) setText(node, ago(node.dateTime));
}

/** Draws the eye to what has changed. @param {Element} node */
export function flash(node) {
  node.classList.remove("flash");
  // Reading the width makes the browser take note of the removal, so that the animation starts anew.
  void (/** @type {HTMLElement} */ (node).offsetWidth);
  node.classList.add("flash");
}

/**
 * Makes a list's children those of the items, in their order; an element that stays keeps its focus.
 * @template T
 * @param {Element} list
 * @param {T[]} items
 * @param {(item: T) => string} key
 * @param {(item: T) => Element} create
 * @param {(node: Element, item: T) => void} update
 */
export function reconcile(list, items, key, create, update) {
  const wanted = new Set(items.map(key));
  // Those that go, first: else the ones after them would be moved up, and lose their focus by that.
  for (const node of [...list.children]) if (!wanted.has(node.getAttribute("data-key") ?? "")) node.remove();
  const existing = new Map([...list.children].map((node) => [node.getAttribute("data-key"), node]));
  /** @type {Element | null} */
  let next = list.firstElementChild;
  for (const item of items) {
    let node = existing.get(key(item));
    if (!node) {
      node = create(item);
      node.setAttribute("data-key", key(item));
    }
    update(node, item);
    if (node === next) next = node.nextElementSibling;
    else list.insertBefore(node, next);
  }
}
