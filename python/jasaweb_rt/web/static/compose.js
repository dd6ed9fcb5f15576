/** The dialog to write a message in: a new one, or a reply. What was typed stays until it is sent. */

import { get, post } from "./api.js";
import { byId, element, setText } from "./dom.js";
import { onSubmit } from "./forms.js";
import { loadingNotice } from "./loading.js";
import { problem, text } from "./text.js";
import { toast } from "./toasts.js";

/** @typedef {{id: string, name: string, email?: string}} Contact */
/** @typedef {{to: Contact, subject: string, messageId: string}} Reply `to` wrote the message, and reads the answer */

const MAX_CONTACTS = 500;
const MAX_SUBJECT = 200; // characters, as the field has it

/** What the answer to a message is about. @param {string} subject */
export const answerSubject = (subject) => `Re: ${subject.replace(/^(re: *)+/i, "")}`.slice(0, MAX_SUBJECT);

/**
 * @param {import("./store.js").User} user
 * @param {(what: {ids: string[]}) => unknown} markRead for a message that was answered
 * @returns {(reply?: Reply) => void} opens the dialog; what was typed before is still there
 */
export function showCompose(user, markRead) {
  const dialog = /** @type {HTMLDialogElement} */ (byId("compose"));
  const form = /** @type {HTMLFormElement} */ (byId("compose-form"));
  const to = /** @type {HTMLSelectElement} */ (byId("compose-to"));
  const subject = /** @type {HTMLInputElement} */ (byId("compose-subject"));
  const content = /** @type {HTMLTextAreaElement} */ (byId("compose-content"));
  const notice = loadingNotice(byId("compose-status"), text.contactsFailed, text.noContacts, loadContacts);
  const draft = keptDraft(form, `jasaweb_rt.draft:${user.id}`);
  /** Whom the reply is to, or was when the page was left: they need not be among those who are listed. */
  let wanted = /** @type {Contact | null} */ (null);
  let answered = "";
  let contacts = /** @type {Contact[] | null} */ (null);

  function offer() {
    const listed = [...(contacts ?? [])];
    if (wanted && !listed.some(({ id }) => id === wanted?.id)) listed.unshift(wanted);
    const options = listed.map(({ id, name, email }) =>
      element("option", { value: id }, email ? `${name} · ${email}` : name),
    );
    if (listed.length !== 1) options.unshift(element("option", { value: "" }, text.chooseRecipient));
    to.replaceChildren(...options);
    if (wanted) to.value = wanted.id;
    // A client of an agency with one administrator has no choice to make.
    const isChoice = user.role === "admin" || listed.length > 1;
    byId("compose-to-field").hidden = !isChoice;
    setText(byId("compose-title"), isChoice || !listed[0] ? text.composeTitle : text.composeTo(listed[0].name));
  }

  async function loadContacts() {
    notice("loading", false);
    try {
      const { items, total } = await get(`/api/users?limit=${MAX_CONTACTS}`);
      contacts = items;
      byId("compose-more").hidden = total <= items.length;
      offer();
      notice("ready", items.length === 0);
    } catch {
      notice("failed", false);
    }
  }

  /** @param {Reply} [reply] */
  function open(reply) {
    if (reply) {
      wanted = reply.to;
      answered = reply.messageId;
      subject.value = answerSubject(reply.subject);
      draft.keep();
    }
    offer();
    if (!contacts) void loadContacts();
    dialog.showModal();
    if (reply) content.focus();
  }

  byId("write").addEventListener("click", () => open());
  byId("compose-close").addEventListener("click", () => dialog.close());
  to.addEventListener("change", () => {
    wanted = contacts?.find(({ id }) => id === to.value) ?? wanted;
  });
  form.addEventListener("reset", () => {
    dialog.close();
    wanted = null;
    answered = "";
    draft.forget();
  });
  onSubmit(form, async (values) => {
    const name = wanted?.name ?? contacts?.find(({ id }) => id === values.toUserId)?.name ?? "";
    const id = answered;
    try {
      await post("/api/messages", values);
    } catch (error) {
      const reason = problem(/** @type {import("./api.js").ApiError} */ (error));
      if (!dialog.open) toast(text.notSent(name), reason, "high");
      throw error;
    }
    toast(text.sent(name), "");
    if (id) markRead({ ids: [id] });
    return "";
  });
  return open;
}

/**
 * Keeps what is typed into a form over a reload and a log-in, for as long as the tab lives.
 * @param {HTMLFormElement} form
 * @param {string} key
 */
function keptDraft(form, key) {
  const fields = /** @type {(HTMLInputElement | HTMLTextAreaElement)[]} */ ([
    ...form.querySelectorAll("input, textarea"),
  ]);
  const storage = session();
  const keep = () => storage?.setItem(key, JSON.stringify(fields.map(({ value }) => value)));
  const kept = JSON.parse(storage?.getItem(key) ?? "[]");
  fields.forEach((field, place) => (field.value = kept[place] ?? ""));
  form.addEventListener("input", keep);
  return { keep, forget: () => storage?.removeItem(key) };
}

function session() {
  try {
    return sessionStorage;
  } catch {
    return null; // the browser bars storage
  }
}
