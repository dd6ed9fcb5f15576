/** Invoices: loaded once, then kept current by what arrives. */

import { patch } from "./api.js";
import { confirmed } from "./confirm.js";
import { byId, element, flash, reconcile, setText } from "./dom.js";
import { liveList } from "./live-list.js";
import { loadingNotice } from "./loading.js";
import { getState, onState } from "./store.js";
import { date, money, moment, problem, text, word } from "./text.js";
import { toast } from "./toasts.js";

/** @typedef {import("./store.js").Invoice} Invoice */

const UUID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i;

/** What an administrator may mark as paid; the server refuses the others. */
const PAYABLE = ["unpaid", "pending", "failed", "expired"];

const invoices = liveList("/api/invoices", "invoices", "invoicesLoading");

export const loadInvoices = invoices.load;

/** An invoice has changed. @param {string} id @param {string} status @param {string | null} paidAt RFC 3339 */
export function changeInvoice(id, status, paidAt) {
  invoices.change(id, { status, paidAt });
}

/** An id as people quote it. @param {string} id */
const short = (id) => (UUID.test(id) ? id.slice(0, 8).toUpperCase() : id);

/** @param {Invoice} invoice */
async function markPaid({ id, projectName, amount }) {
  const { markPaidTitle, markPaidMessage, markPaid: action } = text.admin;
  if (!(await confirmed(markPaidTitle, markPaidMessage(projectName, money(amount)), action))) return;
  try {
    const { status, paidAt } = await patch(`/api/invoices/${encodeURIComponent(id)}`, { status: "paid" });
    changeInvoice(id, status, paidAt);
  } catch (error) {
    toast(problem(/** @type {import("./api.js").ApiError} */ (error)), "", "high");
    void loadInvoices();
  }
}

/** @param {Invoice} invoice */
function createRow(invoice) {
  const { id, projectName, amount } = invoice;
  const figures = element("div", {}, element("p", { class: "invoice-amount" }, money(amount)), element("span"));
  if (getState().user?.role === "admin") {
    const label = text.admin.markPaidOf(projectName, money(amount));
    const click = () => void markPaid(invoice);
    figures.append(
      element("button", { type: "button", class: "button small", "aria-label": label, click }, text.admin.markPaid),
    );
  }
  return element(
    "li",
    { class: "invoice", "data-invoice-id": id },
    element("div", {}, element("h3", {}, projectName), element("p", { class: "muted invoice-meta" })),
    figures,
  );
}

/** @param {Element} row @param {Invoice} invoice */
function updateRow(row, { id, status, paidAt, createdAt }) {
  const find = (/** @type {string} */ selector) => /** @type {HTMLElement} */ (row.querySelector(selector));
  const badge = find("span");
  const before = badge.dataset.status;
  // These classes are also what scripts of the site find an invoice's badge by.
  badge.className = `status-badge status-${status}`;
  badge.dataset.status = status;
  setText(badge, word(text.invoiceStatuses, status));
  const meta = find(".invoice-meta");
  const since = status === "paid" && paidAt ? paidAt : createdAt;
  setText(meta, text.invoiceMeta(short(id), date(since), since === paidAt));
  meta.title = moment(since);
  const button = row.querySelector("button");
  if (button) {
    const isPayable = PAYABLE.includes(status);
    if (!isPayable && button === document.activeElement) byId("invoices-title").focus();
    button.hidden = !isPayable;
  }
  if (before !== undefined && before !== status) flash(row);
}

export function showInvoices() {
  const notice = loadingNotice(byId("invoices-status"), text.invoicesFailed, text.noInvoices, loadInvoices);
  /** @type {Invoice[] | null} */
  let shown = null;
  onState(({ invoices, invoicesLoading, user }) => {
    notice(invoicesLoading, invoices.length === 0);
    setText(byId("invoices-title"), user?.role === "admin" ? text.allInvoices : text.invoices);
    if (invoices !== shown) reconcile(byId("invoices"), invoices, ({ id }) => id, createRow, updateRow);
    shown = invoices;
  });
}
