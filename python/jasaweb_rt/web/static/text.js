/** Every word that the pages show, and how times and statuses are said. The only module with language in it. */

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const DAY = new Intl.DateTimeFormat("en", { dateStyle: "medium" });
const MOMENT = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });
/**
 * Seconds of a unit, and how many of it are said before the next one is.
 * @type {[Intl.RelativeTimeFormatUnit, number, number][]}
 */
const UNITS = [
  ["minute", 60, 60],
  ["hour", 3600, 24],
  ["day", 86_400, 7],
];

export const text = {
  loginTitle: "Log in",
  loginLead: "See how your projects are coming along.",
  email: "E-mail",
  password: "Password",
  logIn: "Log in",
  loggingIn: "Logging in…",
  logOut: "Log out",
  missingEmail: "Enter your e-mail address.",
  missingPassword: "Enter your password.",
  unreachable: "The server cannot be reached. Try again in a moment.",
  failed: "That did not work. Try again in a moment.",
  demoTitle: "Demo accounts",
  demoLead: "Pick one to fill in the form. For a second one at the same time, use a private window.",
  demoRoles: { admin: "Agency", client: "Client", other: "Another client" },

  title: "Dashboard · JasaWeb",
  skip: "Skip to content",
  greeting: (/** @type {string} */ name) => `Hello, ${name}`,
  announcements: "Announcements",
  dismiss: "Dismiss",
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
};

/**
 * A word of a table, or the key itself made readable: a foreign program may use values of its own.
 * @param {Record<string, string>} table
 * @param {string} key
 */
export function word(table, key) {
  return Object.hasOwn(table, key) ? table[key] : key.replaceAll("_", " ");
}

/** How long ago, or the date where that is clearer. @param {string} timestamp RFC 3339 */
export function ago(timestamp) {
  const seconds = (Date.now() - Date.parse(timestamp)) / 1000;
  if (seconds < 60) return "just now";
  const unit = UNITS.find(([, size, count]) => seconds < size * count);
  return unit ? RELATIVE.format(-Math.floor(seconds / unit[1]), unit[0]) : DAY.format(new Date(timestamp));
}

/** @param {string} timestamp RFC 3339 */
export function moment(timestamp) {
  return MOMENT.format(new Date(timestamp));
}

/** Fills the elements that name their words: `data-text` for content, `data-label` for what only a screen reader says. */
export function fillText() {
  const words = /** @type {Record<string, any>} */ (text);
  for (const node of document.querySelectorAll("[data-text]"))
    node.textContent = words[node.getAttribute("data-text") ?? ""];
  for (const node of document.querySelectorAll("[data-label]"))
    node.setAttribute("aria-label", words[node.getAttribute("data-label") ?? ""]);
}
