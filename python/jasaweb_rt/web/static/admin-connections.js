/** Who is connected: read anew every few seconds, filtered, paged; each can be closed. */

import { get, remove } from "./api.js";
import { deviceName } from "./admin-device.js";
import { confirmed } from "./confirm.js";
import { byId, element, reconcile, setText, setTime } from "./dom.js";
import { loadingNotice } from "./loading.js";
import { whileVisible } from "./polling.js";
import { problem, text, word } from "./text.js";
import { toast } from "./toasts.js";

/**
 * @typedef {object} Connection
 * @property {string} connectionId
 * @property {string} userId
 * @property {string} role
 * @property {string} name
 * @property {string} clientAddress
 * @property {string | null} userAgent
 * @property {string} connectedAt
 * @property {string} lastActivity
 */

const PATH = "/api/admin/websocket/connections";
const REFRESH = 5_000; // ms
const PAGE = 20;

const words = text.admin;
let offset = 0;
/** Tells the newest request from those that it replaces. */
let turn = 0;
/** @type {ReturnType<typeof loadingNotice>} */
let notice;

async function load() {
  const own = ++turn;
  const query = new URLSearchParams({ limit: String(PAGE), offset: String(offset) });
  const search = /** @type {HTMLInputElement} */ (byId("connections-search")).value.trim();
  const role = /** @type {HTMLSelectElement} */ (byId("connections-role")).value;
  if (search) query.set("search", search);
  if (role) query.set("role", role);
  try {
    const { items, total } = await get(`${PATH}?${query}`);
    if (own !== turn) return;
    if (items.length > 0 || total === 0) return show(items, total);
    // They have left, all that were on this page.
    offset = Math.floor((total - 1) / PAGE) * PAGE;
    await load();
  } catch {
    if (own === turn) notice("failed", false);
  }
}

/** @param {number} to */
function turnTo(to) {
  offset = to;
  void load();
}

/** @param {Connection[]} items @param {number} total */
function show(items, total) {
  notice("ready", total === 0);
  byId("connections-table").hidden = total === 0;
  byId("pages").hidden = total <= PAGE;
  setText(byId("range"), words.range(offset + 1, offset + items.length, total));
  const [previous, next] = /** @type {HTMLButtonElement[]} */ ([byId("previous"), byId("next")]);
  keepFocus(() => {
    previous.disabled = offset === 0;
    next.disabled = offset + PAGE >= total;
  });
  keepFocus(() => reconcile(byId("connections"), items, ({ connectionId }) => connectionId, createRow, updateRow));
}

/** A keyboard's place is not lost with the control that it was on. @param {() => void} change */
function keepFocus(change) {
  const focused = /** @type {HTMLButtonElement | null} */ (document.activeElement);
  change();
  if (focused?.isConnected === false || focused?.disabled) byId("connections-title").focus();
}

/** @param {Connection} connection */
function createRow(connection) {
  const { name, clientAddress, userAgent } = connection;
  const cell = (/** @type {keyof typeof words.columns} */ column, /** @type {(Node | string)[]} */ ...children) =>
    element("td", { role: "cell", class: column, "data-label": words.columns[column] }, ...children);
  return element(
    "tr",
    { role: "row" },
    element("th", { role: "rowheader", scope: "row" }, name),
    cell("role", word(words.roles, connection.role)),
    cell("address", clientAddress),
    cell("device", element("span", { title: userAgent ?? "" }, deviceName(userAgent))),
    cell("since", element("time")),
    cell("activity", element("time")),
    cell(
      "action",
      element(
        "button",
        {
          type: "button",
          class: "button small",
          "aria-label": words.disconnectOf(name, clientAddress),
          click: () => void close(connection),
        },
        words.disconnect,
      ),
    ),
  );
}

/** @param {Element} row @param {Connection} connection */
function updateRow(row, { connectedAt, lastActivity }) {
  setTime(/** @type {HTMLTimeElement} */ (row.querySelector(".since time")), connectedAt);
  setTime(/** @type {HTMLTimeElement} */ (row.querySelector(".activity time")), lastActivity);
}

/** @param {Connection} connection */
async function close({ connectionId, name, clientAddress }) {
  const message = words.disconnectMessage(name, clientAddress);
  if (!(await confirmed(words.disconnectTitle, message, words.disconnect))) return;
  try {
    await remove(`${PATH}/${encodeURIComponent(connectionId)}`);
    byId("announcer").textContent = words.disconnected(name);
  } catch (error) {
    const failure = /** @type {import("./api.js").ApiError} */ (error);
    // It has left by itself meanwhile.
    if (failure.status !== 404) toast(problem(failure), "", "high");
  }
  await load();
}

export function showConnections() {
  const { name, ...others } = words.columns;
  byId("connections-head").replaceChildren(
    ...[name, ...Object.values(others)].map((column) =>
      element("th", { role: "columnheader", scope: "col" }, column),
    ),
  );
  const role = byId("connections-role");
  for (const [value, label] of Object.entries(words.roles)) role.append(element("option", { value }, label));
  notice = loadingNotice(byId("connections-status"), words.connectionsFailed, words.noConnections, load);
  byId("connections-search").addEventListener("input", () => turnTo(0));
  role.addEventListener("change", () => turnTo(0));
  byId("previous").addEventListener("click", () => turnTo(Math.max(0, offset - PAGE)));
  byId("next").addEventListener("click", () => turnTo(offset + PAGE));
  whileVisible(load, REFRESH);
}
