/**
 * The sentences that this server itself writes into notifications, said in the language of the page. What anybody else
 * wrote is shown as it is.
 */

import { money, text, word } from "./text.js";

/** @typedef {{type: string, title: string, message: string, data: any}} Notice */
/** @typedef {keyof typeof text.notices.payments} InvoiceStatus */

const PROJECT_UPDATED = "Project updated";
const PROJECT_CHANGED = "Project status changed";
const PAYMENT_CHANGED = "Payment status changed";
const PROJECT_IS_NOW = /^Project "(.*)" status updated to (\w+)$/s;
const PROJECT_CHANGED_BY = /^Project "(.*)" status changed to (\w+) by (.*)$/s;
const PAYMENT_CHANGED_BY = /^Invoice for "(.*)" changed to (\w+) by (.*)$/s;
/** Title and message by the status of the invoice. @type {Record<InvoiceStatus, [string, string]>} */
const PAYMENTS = {
  unpaid: ["Payment due", 'The payment for "{}" is due'],
  pending: ["Payment pending", 'The payment for "{}" is under way'],
  failed: ["Payment failed", 'The payment for "{}" has failed'],
  expired: ["Payment expired", 'The time to pay for "{}" is over'],
  paid: ["Payment received", 'The payment for "{}" was received'],
  cancelled: ["Payment cancelled", 'The payment for "{}" was cancelled'],
  partial_refunded: ["Payment partly refunded", 'A part of the payment for "{}" was refunded'],
  refunded: ["Payment refunded", 'The payment for "{}" was refunded'],
};

/**
 * Where the data has a title or a message, a live frame carries that; so does the list, whichever way it came.
 * @param {Notice} notice
 * @returns {{title: string, message: string}}
 */
export function inOwnWords({ type, title: rowTitle, message: rowMessage, data }) {
  const title = String(data?.title ?? rowTitle);
  const message = String(data?.message ?? rowMessage);
  const said = SAID[type]?.(title, message, data ?? {}) ?? {};
  return { title: (said.title ?? title) || text.untitled, message: said.message ?? message };
}

/** @type {Record<string, (title: string, message: string, data: any) => {title?: string, message?: string}>} */
const SAID = {
  project_update(title, message) {
    const [, project, status] = PROJECT_IS_NOW.exec(message) ?? [];
    return {
      title: title === PROJECT_UPDATED ? text.notices.projectUpdated : undefined,
      message: status && text.notices.projectIsNow(project, word(text.statuses, status)),
    };
  },
  admin_alert(title, message, { event }) {
    const { notices } = text;
    if (event === "project_status_change") {
      const [, project, status, by] = PROJECT_CHANGED_BY.exec(message) ?? [];
      return {
        title: title === PROJECT_CHANGED ? notices.projectChanged : undefined,
        message: status && notices.projectChangedBy(project, word(text.statuses, status), by),
      };
    }
    if (event === "payment_status_change") {
      const [, project, status, by] = PAYMENT_CHANGED_BY.exec(message) ?? [];
      return {
        title: title === PAYMENT_CHANGED ? notices.paymentChanged : undefined,
        message: status && notices.paymentChangedBy(project, word(text.invoiceStatuses, status), by),
      };
    }
    return {};
  },
  payment_update(title, message, { status, projectName, amount }) {
    if (!Object.hasOwn(PAYMENTS, status)) return {};
    const [ownTitle, ownMessage] = PAYMENTS[/** @type {InvoiceStatus} */ (status)];
    const isOwn = message === ownMessage.replace("{}", () => projectName) && typeof amount === "number";
    return {
      title: title === ownTitle ? text.notices.payments[/** @type {InvoiceStatus} */ (status)] : undefined,
      message: isOwn ? text.notices.paymentFor(projectName, money(amount)) : undefined,
    };
  },
};
