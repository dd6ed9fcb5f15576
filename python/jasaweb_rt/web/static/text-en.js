/** The words in English. `text-id.js` has the same keys, with values of the same kinds. */

import { admin } from "./admin-text-en.js";

export const words = {
  loginPage: "Log in · JasaWeb",
  loginTitle: "Log in",
  loginLead: "See how your projects are coming along.",
  email: "E-mail",
  password: "Password",
  logIn: "Log in",
  loggingIn: "Logging in…",
  logOut: "Log out",
  missingEmail: "Enter your e-mail address.",
  missingPassword: "Enter your password.",
  wrongPassword: "E-mail or password is wrong.",
  demoTitle: "Demo accounts",
  demoLead: "Pick one to fill in the form. For a second one at the same time, use a private window.",
  demoRoles: { admin: "Agency", client: "Client", other: "Another client" },

  unreachable: "The server cannot be reached. Try again in a moment.",
  failed: "That did not work. Try again in a moment.",
  /** What went wrong, by HTTP status. */
  problems: {
    401: "Your session has ended. Log in again.",
    403: "You are not allowed to do this.",
    404: "This is no longer there.",
    409: "This does not fit what is stored by now. Load the page again.",
    429: "Too many tries. Wait a little and try again.",
    503: "The server is busy. Try again in a moment.",
  },

  title: "Dashboard · JasaWeb",
  skip: "Skip to content",
  greeting: (/** @type {string} */ name) => `Hello, ${name}`,
  announcements: "Announcements",
  dismiss: "Dismiss",
  justNow: "just now",
  connection: { idle: "Connecting…", connecting: "Connecting…", open: "Live", waiting: "Offline", closed: "Offline" },
  connectAgain: "Connect again",
  closed: {
    1008: "The server did not accept this session.",
    4004: "This page was disconnected because you opened too many others.",
    4500: "An administrator disconnected this page.",
  },
  closedOther: "The connection was closed.",
  tryAgain: "Try again",
  loading: "Loading…",

  projects: "Projects",
  allProjects: "All projects",
  noProjects: "No projects yet. They appear here as soon as there is one.",
  projectsFailed: "Your projects could not be loaded.",
  statusOf: (/** @type {string} */ name) => `Status of ${name}`,
  ownedBy: (/** @type {string} */ name) => `for ${name}`,
  stage: (/** @type {number} */ number, /** @type {number} */ count) => `Stage ${number} of ${count}`,
  openSite: "Open site",
  updated: "Updated",
  projectTypes: { sekolah: "School website", berita: "News website", company: "Company website" },
  statuses: {
    pending_payment: "Awaiting payment",
    in_progress: "In progress",
    review: "In review",
    completed: "Completed",
  },

  invoices: "Invoices",
  allInvoices: "All invoices",
  noInvoices: "No invoices yet.",
  invoicesFailed: "Your invoices could not be loaded.",
  invoiceMeta: (/** @type {string} */ number, /** @type {string} */ date, /** @type {boolean} */ paid) =>
    `No. ${number} · ${paid ? "Paid" : "Issued"} ${date}`,
  invoiceStatuses: {
    unpaid: "Unpaid",
    pending: "Pending",
    paid: "Paid",
    failed: "Failed",
    expired: "Expired",
    cancelled: "Cancelled",
    partial_refunded: "Partly refunded",
    refunded: "Refunded",
  },

  inbox: "Inbox",
  goToInbox: (/** @type {number} */ count) => (count ? `Inbox, ${count} unread` : "Inbox"),
  noNotifications: "Nothing here yet. News about your projects arrives by itself.",
  inboxFailed: "Your inbox could not be loaded.",
  unread: (/** @type {number} */ count) => `${count} unread`,
  markRead: "Mark as read",
  markReadOf: (/** @type {string} */ title) => `Mark “${title}” as read`,
  markAllRead: "Mark all as read",
  showOlder: "Show older",
  untitled: "Notification",
  arrived: (/** @type {string} */ title) => `New: ${title}`,
  notificationTypes: {
    project_update: "Project",
    payment_update: "Payment",
    system_announcement: "Announcement",
    admin_alert: "Alert",
    user_message: "Message",
  },

  /** What the server itself says in a notification; `payments` by the status of the invoice. */
  notices: {
    projectUpdated: "Project updated",
    projectIsNow: (/** @type {string} */ project, /** @type {string} */ status) =>
      `“${project}” is now “${status}”`,
    projectChanged: "Project status changed",
    projectChangedBy: (
      /** @type {string} */ project,
      /** @type {string} */ status,
      /** @type {string} */ by,
    ) => `${by} set “${project}” to “${status}”`,
    paymentChanged: "Payment status changed",
    paymentChangedBy: (/** @type {string} */ project, /** @type {string} */ status, /** @type {string} */ by) =>
      `Invoice for “${project}”: “${status}”, by ${by}`,
    payments: {
      unpaid: "Payment due",
      pending: "Payment pending",
      failed: "Payment failed",
      expired: "Payment expired",
      paid: "Payment received",
      cancelled: "Payment cancelled",
      partial_refunded: "Payment partly refunded",
      refunded: "Payment refunded",
    },
    paymentFor: (/** @type {string} */ project, /** @type {string} */ amount) =>
      `${amount} for “${project}”`,
  },

  /** The page for administrators. */
  admin,
};
