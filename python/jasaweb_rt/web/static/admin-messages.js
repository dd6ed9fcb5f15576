/** What people write to this administrator, each message with a form to answer it. */

import { send } from "./admin-compose.js";
import { byId, element, icon, reconcile, setText, setTime } from "./dom.js";
import { onSubmit } from "./forms.js";
import { loadInbox, showOlder } from "./inbox.js";
import { loadingNotice } from "./loading.js";
import { onState } from "./store.js";
import { text } from "./text.js";

/** @typedef {import("./store.js").Notification} Notification */
/** @typedef {(what: {ids: string[]}) => unknown} MarkRead */

/** What an answer's subject begins with, in either language. */
const ANSWER = /^(Re|Bls): /i;

const words = text.admin;

/** @param {Notification} item */
const isMessage = ({ type }) => type === "user_message";

/** A message of a foreign program's may lack what ours have. @param {Notification} item */
function content({ title, message, data }) {
  return {
    fromId: data?.fromUserId,
    from: String(data?.fromUserName ?? ""),
    subject: String(data?.subject ?? data?.title ?? title) || text.untitled,
    body: String(data?.content ?? data?.message ?? message),
  };
}

/** @param {MarkRead} markRead */
function createItem(markRead) {
  return (/** @type {Notification} */ item) => {
    const { fromId, from, subject } = content(item);
    const reply = element(
      "button",
      { type: "button", class: "button small reply", "aria-expanded": "false", click: () => toggleForm(node, item, markRead) },
      words.reply,
    );
    if (from) reply.setAttribute("aria-label", words.replyTo(from, subject));
    const mark = element(
      "button",
      { type: "button", class: "mark", title: text.markRead, click: () => markRead({ ids: [item.id] }) },
      icon("check"),
    );
    const node = element(
      "li",
      { class: "card message" },
      element(
        "div",
        { class: "message-head" },
        element(
          "div",
          {},
          element("h3"),
          element("p", { class: "message-meta muted" }, from ? `${words.from(from)} · ` : "", element("time")),
        ),
        mark,
      ),
      element("p", { class: "message-content" }),
      fromId ? reply : "",
    );
    return node;
  };
}

/** @param {Element} node @param {Notification} item */
function updateItem(node, item) {
  const find = (/** @type {string} */ selector) => /** @type {HTMLElement} */ (node.querySelector(selector));
  const { subject, body } = content(item);
  setText(find("h3"), subject);
  setText(find(".message-content"), body);
  setTime(/** @type {HTMLTimeElement} */ (find("time")), item.createdAt);
  node.classList.toggle("unread", !item.readAt);
  const mark = find(".mark");
  mark.setAttribute("aria-label", text.markReadOf(subject));
  if (item.readAt && mark === document.activeElement) byId("messages-title").focus();
  mark.hidden = Boolean(item.readAt);
}

/** @param {Element} node @param {Notification} item @param {MarkRead} markRead */
function toggleForm(node, item, markRead) {
  const button = /** @type {HTMLElement} */ (node.querySelector(".reply"));
  const form = node.querySelector("form") ?? createForm(node, item, markRead);
  form.hidden = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!form.hidden));
  if (!form.hidden) form.querySelector("textarea")?.focus();
}

/** @param {Element} node @param {Notification} item @param {MarkRead} markRead */
function createForm(node, item, markRead) {
  const { fromId, from, subject } = content(item);
  const field = (/** @type {string} */ label, /** @type {HTMLInputElement | HTMLTextAreaElement} */ control) =>
    element("div", { class: "field" }, element("label", { for: control.id }, label), control);
  const id = `reply-${item.id}`;
  const form = element(
    "form",
    { class: "form reply-form", novalidate: true },
    field(
      words.subject,
      element("input", {
        id: `${id}-subject`,
        name: "subject",
        maxlength: "200",
        autocomplete: "off",
        required: true,
        value: words.re(subject.replace(ANSWER, "")).slice(0, 200),
      }),
    ),
    field(
      words.message,
      element("textarea", { id: `${id}-content`, name: "content", rows: "3", maxlength: "10000", required: true }),
    ),
    element(
      "div",
      { class: "form-foot" },
      element("button", { class: "button primary" }, words.send),
      element("p", { class: "form-done", role: "status" }),
    ),
    element("p", { class: "form-error", role: "alert" }),
  );
  node.append(form);
  onSubmit(form, async (values) => {
    await send(fromId, values.subject, values.content);
    if (!item.readAt) markRead({ ids: [item.id] });
    return words.sent(from);
  });
  return form;
}

/** @param {MarkRead} markRead */
export function showMessages(markRead) {
  const create = createItem(markRead);
  const notice = loadingNotice(byId("messages-status"), words.messagesFailed, words.noMessages, loadInbox);
  byId("older").addEventListener("click", () => void showOlder(isMessage));
  /** @type {Notification[] | null} */
  let shown = null;
  let lookedBack = false;
  onState(({ inbox, inboxLoading, inboxFrom }) => {
    const messages = inbox.filter(isMessage);
    notice(inboxLoading, messages.length === 0 && inboxFrom === 0);
    byId("older").hidden = inboxLoading !== "ready" || inboxFrom === 0;
    // What is newest may be alerts alone.
    if (inboxLoading === "ready" && !lookedBack) {
      lookedBack = true;
      if (messages.length === 0 && inboxFrom > 0) void showOlder(isMessage);
    }
    const unread = messages.filter(({ readAt }) => !readAt).length;
    byId("unread").hidden = unread === 0;
    setText(byId("unread"), text.unread(unread));
    document.title = unread ? `(${unread}) ${words.page}` : words.page;
    if (inbox !== shown) reconcile(byId("messages"), messages, ({ id }) => id, create, updateItem);
    shown = inbox;
  });
}
