/**
 * The page's one state: replaced, never changed in place, and told to whoever listens.
 *
 * @typedef {{id: string, email: string, name: string, role: "admin" | "client"}} User
 * @typedef {object} Project
 * @property {string} id
 * @property {string} name
 * @property {string} type
 * @property {string} status
 * @property {string | null} url
 * @property {string} updatedAt
 * @property {string} [ownerName]
 *
 * @typedef {object} Invoice
 * @property {string} id
 * @property {string} projectId
 * @property {string} projectName
 * @property {number} amount rupiah
 * @property {string} status
 * @property {string | null} paidAt
 * @property {string} createdAt
 *
 * @typedef {object} Notification
 * @property {string} id
 * @property {number} seq
 * @property {string} type
 * @property {string} title
 * @property {string} message
 * @property {any} data
 * @property {string | null} readAt
 * @property {string} createdAt
 *
 * @typedef {"loading" | "ready" | "failed"} Loading
 *
 * @typedef {object} State
 * @property {User | null} user
 * @property {import("./realtime.js").Snapshot} connection
 * @property {Project[]} projects
 * @property {Loading} projectsLoading
 * @property {Invoice[]} invoices
 * @property {Loading} invoicesLoading
 * @property {Notification[]} inbox newest first
 * @property {Loading} inboxLoading
 * @property {number} inboxFrom the inbox holds what there is above this `seq`
 * @property {number | null} unread
 */

/** @type {Readonly<State>} */
let state = {
  user: null,
  connection: { state: "idle", unread: null, code: 0, reason: "" },
  projects: [],
  projectsLoading: "loading",
  invoices: [],
  invoicesLoading: "loading",
  inbox: [],
  inboxLoading: "loading",
  inboxFrom: 0,
  unread: null,
};

/** @type {Set<(state: Readonly<State>) => void>} */
const listeners = new Set();
let scheduled = false;

export const getState = () => state;

/** Listeners hear of it before the next paint, once for however many changes. @param {Partial<State>} change */
export function setState(change) {
  state = { ...state, ...change };
  if (scheduled) return;
  scheduled = true;
  queueMicrotask(() => {
    scheduled = false;
    for (const listener of listeners) listener(state);
  });
}

/** @param {(state: Readonly<State>) => void} listener */
export function onState(listener) {
  listeners.add(listener);
  listener(state);
}
