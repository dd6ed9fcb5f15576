/** The inbox: newest first, kept current by what arrives. */

import { get } from "./api.js";
import { byId, element, icon, reconcile, setText, setTime } from "./dom.js";
import { loadingNotice } from "./loading.js";
import { inOwnWords } from "./server-text.js";
import { getState, onState, setState } from "./store.js";
import { text, word } from "./text.js";
import { toast } from "./toasts.js";

/** @typedef {import("./store.js").Notification} Notification */
/** @typedef {{ids: string[]} | {upTo: number}} ReadRange */
/** @typedef {import("./compose.js").Reply} Reply */

const PAGE = 50;
/** The page keeps so many at most; what is older can be shown again. */
const MAX_KEPT = 500;
/** How many pages without anything that is wanted `showOlder` looks through at once. */
const MAX_EMPTY_PAGES = 10;

let turn = 0;
/** What was marked while a list was under way: its answer may be older. @type {ReadRange[] | null} */
let marked = null;

/**
 * Reads anew what is shown, at least the newest page.
 * @returns {Promise<number | undefined>} the `seq` up to which the inbox is known; undefined: it could not be read
 */
export async function loadInbox() {
  const own = ++turn;
  marked = [];
  if (getState().inboxLoading === "failed") setState({ inboxLoading: "loading" });
  try {
    const { headSeq } = await get(`/api/notifications?after=${Number.MAX_SAFE_INTEGER}&limit=1`);
    const { inbox, inboxFrom } = getState();
    const from = Math.max(0, headSeq - MAX_KEPT, Math.min(headSeq - PAGE, inbox.length > 0 ? inboxFrom : headSeq));
    const { items, unread } = await get(`/api/notifications?after=${from}&limit=${MAX_KEPT}`);
    if (own !== turn) return headSeq;
    // What arrived by the socket meanwhile lies above.
    const newer = getState().inbox.filter(({ seq }) => seq > headSeq);
    const known = items.filter((/** @type {Notification} */ { seq }) => seq <= headSeq);
    setState({
      inbox: sorted([...newer, ...known]),
      inboxFrom: from,
      inboxLoading: "ready",
      // Once the socket has told a count, that one is newer than any answer.
      unread: getState().unread ?? unread,
    });
    const meanwhile = marked ?? [];
    marked = null;
    meanwhile.forEach(showRead);
    return headSeq;
  } catch {
    if (own === turn) {
      marked = null;
      setState({ inboxLoading: "failed" });
    }
    return undefined;
  }
}

/** A durable message of the socket. @param {import("./realtime.js").Message & {seq: number}} message */
export function receive({ id, seq, type, data, timestamp }) {
  const { title = "", message = "" } = data;
  // After a break the list may be here before what is replayed, which does not tell what was read meanwhile.
  const readAt = getState().inbox.find((known) => known.id === id)?.readAt ?? null;
  add([{ id, seq, type, title, message, data, readAt, createdAt: timestamp }]);
  if (data.truncated) void loadWhole(seq);
}

/** @param {ReadRange} what as told by the server */
export function showRead(what) {
  marked?.push(what);
  const isRead = "ids" in what ? ({ id }) => what.ids.includes(id) : ({ seq }) => seq <= what.upTo;
  const readAt = new Date().toISOString();
  setState({ inbox: getState().inbox.map((item) => (!item.readAt && isRead(item) ? { ...item, readAt } : item)) });
}

/** A message too large for the socket comes without its content. @param {number} seq */
async function loadWhole(seq) {
  try {
    const { items } = await get(`/api/notifications?after=${seq - 1}&limit=1`);
    add(items.filter((/** @type {Notification} */ item) => item.seq === seq));
  } catch {
    // The next load of the inbox brings it.
  }
}

/** @param {Notification[]} items */
function add(items) {
  const ids = new Set(items.map(({ id }) => id));
  const inbox = sorted([...getState().inbox.filter(({ id }) => !ids.has(id)), ...items]);
  const inboxFrom = inbox.length > MAX_KEPT ? inbox[MAX_KEPT].seq : getState().inboxFrom;
  setState({ inbox: inbox.slice(0, MAX_KEPT), inboxFrom });
}

/** @param {Notification[]} items */
const sorted = (items) => items.sort((a, b) => b.seq - a.seq);

/** Reads on until one is found that is wanted. @param {(item: Notification) => boolean} [isWanted] */
export async function showOlder(isWanted = () => true) {
  const button = /** @type {HTMLButtonElement} */ (byId("older"));
  button.disabled = true;
  try {
    for (let pages = 0, found = 0; pages < MAX_EMPTY_PAGES && found === 0 && getState().inboxFrom > 0; pages++) {
      const until = getState().inboxFrom;
      const from = Math.max(0, until - PAGE);
      const { items } = await get(`/api/notifications?after=${from}&limit=${PAGE}`);
      const older = items.filter((/** @type {Notification} */ { seq }) => seq <= until);
      found = older.filter(isWanted).length;
      setState({ inbox: sorted([...getState().inbox, ...older]), inboxFrom: from });
    }
  } catch {
    toast(text.inboxFailed, "", "high");
  }
  button.disabled = false;
}

/**
 * How a message is answered; null: it does not tell by whom it is.
 * @param {Notification} item
 * @returns {Reply | null}
 */
export function replyTo({ id, type, title, data }) {
  const { fromUserId, fromUserName, subject = title } = data ?? {};
  if (type !== "user_message" || !fromUserId || !fromUserName) return null;
  return { to: { id: String(fromUserId), name: String(fromUserName) }, subject: String(subject), messageId: id };
}

/** @param {(what: ReadRange) => unknown} markRead @param {(reply: Reply) => void} reply */
function createItem(markRead, reply) {
  return (/** @type {Notification} */ item) => {
    const answer = () => {
      // What was too large for the socket has its sender only now.
      const known = replyTo(getState().inbox.find(({ id }) => id === item.id) ?? item);
      if (known) reply(known);
    };
    return element(
      "li",
      { class: "notification", "data-type": item.type },
      element("span", { class: "notification-icon" }, icon(item.type)),
      element(
        "div",
        { class: "notification-body" },
        element("p", { class: "notification-meta muted" }, element("span"), " · ", element("time")),
        element("h3"),
        element("p", { class: "notification-message" }),
        element("button", { type: "button", class: "button reply", hidden: true, click: answer }, text.reply),
      ),
      element(
        "button",
        { type: "button", class: "mark", title: text.markRead, click: () => markRead({ ids: [item.id] }) },
        icon("check"),
      ),
    );
  };
}

/** @param {Element} node @param {Notification} item */
function updateItem(node, item) {
  const find = (/** @type {string} */ selector) => /** @type {HTMLElement} */ (node.querySelector(selector));
  const { title, message } = inOwnWords(item);
  setText(find("h3"), title);
  setText(find(".notification-message"), message);
  const answer = replyTo(item);
  setText(
    find(".notification-meta span"),
    answer ? text.messageFrom(answer.to.name) : word(text.notificationTypes, item.type),
  );
  find(".reply").hidden = !answer;
  if (answer) find(".reply").setAttribute("aria-label", text.replyTo(answer.to.name, title));
  setTime(/** @type {HTMLTimeElement} */ (find("time")), item.createdAt);
  node.classList.toggle("unread", !item.readAt);
  const button = find(".mark");
  button.setAttribute("aria-label", text.markReadOf(title));
  if (item.readAt && button === document.activeElement) byId("inbox-title").focus();
  button.hidden = Boolean(item.readAt);
}

/** @param {(what: ReadRange) => unknown} markRead @param {(reply: Reply) => void} reply */
export function showInbox(markRead, reply) {
  const create = createItem(markRead, reply);
  const notice = loadingNotice(byId("inbox-status"), text.inboxFailed, text.noNotifications, loadInbox);
  const all = /** @type {HTMLButtonElement} */ (byId("read-all"));
  byId("older").addEventListener("click", () => void showOlder());
  all.addEventListener("click", () => {
    const newest = getState().inbox[0];
    if (newest) markRead({ upTo: newest.seq });
  });
  /** @type {Notification[] | null} */
  let shown = null;
  onState(({ inbox, inboxLoading, inboxFrom, unread }) => {
    notice(inboxLoading, inbox.length === 0 && inboxFrom === 0);
    byId("older").hidden = inboxLoading !== "ready" || inboxFrom === 0;
    const isAllRead = !unread || inbox.length === 0;
    if (isAllRead && all === document.activeElement) byId("inbox-title").focus();
    all.disabled = isAllRead;
    const badge = byId("unread");
    badge.hidden = !unread;
    setText(badge, text.unread(unread ?? 0));
    byId("inbox-link").setAttribute("aria-label", text.goToInbox(unread ?? 0));
    byId("inbox-link-count").hidden = !unread;
    setText(byId("inbox-link-count"), String(unread ?? 0));
    document.title = unread ? `(${unread}) ${text.title}` : text.title;
    if (inbox !== shown) reconcile(byId("inbox"), inbox, ({ id }) => id, create, updateItem);
    shown = inbox;
  });
}

/** Says to a screen reader what has arrived. @param {string} title */
export function announce(title) {
  byId("announcer").textContent = text.arrived(title);
}
