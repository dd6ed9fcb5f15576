/** What the pages of a signed-in user share: the session, and the socket tied to the page's state. */

import { get, post } from "./api.js";
import { byId, element, refreshTimes, setText } from "./dom.js";
import { announce, loadInbox, receive, showRead } from "./inbox.js";
import { changeInvoice, loadInvoices } from "./invoices.js";
import { showLanguageSwitch } from "./language-switch.js";
import { loadProjects, moveProject } from "./projects.js";
import { RealtimeClient } from "./realtime.js";
import { inOwnWords } from "./server-text.js";
import { getState, onState, setState } from "./store.js";
import { fillText, problem, text } from "./text.js";
import { toast } from "./toasts.js";

/** @typedef {import("./realtime.js").Message} Message */
/** @typedef {import("./inbox.js").ReadRange} ReadRange */

const REFRESH_TIMES = 30_000; // ms

/** Who is signed in, by id; null: nobody any more. The pages of a browser share its session. */
const tabs = new BroadcastChannel("jasaweb_rt.user");

let leaving = false;

/** Both the server and the tab that logged out may say so; the page leaves once. */
function goToLogin() {
  if (leaving) return;
  leaving = true;
  location.replace(`/login?next=${encodeURIComponent(location.pathname)}`);
}

/** @param {RealtimeClient | undefined} client none, while the page is still being loaded */
function logOut(client) {
  client?.close();
  post("/api/auth/logout").then(
    () => {
      tabs.postMessage(null);
      goToLogin();
    },
    (error) => {
      toast(problem(error), "", "high");
      client?.connect();
    },
  );
}

/**
 * Whether a payment tells all that a row shows: what a foreign program wrote may not, and then the list does.
 * @param {any} data
 */
function isPayment({ status, paidAt = null }) {
  return typeof status === "string" && (paidAt === null || !Number.isNaN(Date.parse(paidAt)));
}

/** @param {number | undefined} lastSeq what the inbox already shows */
function createClient(lastSeq) {
  const client = new RealtimeClient({ lastSeq });
  let first = false; // the next message is the welcome
  let unreadBefore = getState().unread;
  let awayUntil = 0; // what lies up to this `seq` happened while the page was away
  let listedUntil = 0; // what lies up to this `seq` comes by the lists themselves

  client.on("state", (connection) => {
    setState({ connection });
    if (connection.state === "closed" && connection.code === 401) goToLogin();
    if (connection.state !== "open") return;
    // Another user logged in in another tab: nothing on this page is theirs.
    if (client.position.user !== getState().user?.id) return location.reload();
    first = true;
    unreadBefore = connection.unread ?? getState().unread;
    if (getState().inboxLoading === "failed") void loadInbox();
    if (getState().projectsLoading === "failed") void loadProjects();
    if (getState().invoicesLoading === "failed") void loadInvoices();
  });
  client.on("unread", (unread) => setState({ unread }));
  client.on("*", (/** @type {Message} */ message) => {
    const { type, data, seq = Infinity, timestamp } = message;
    const welcome = first;
    first = false;
    if (welcome || seq <= listedUntil) return;
    if (message.seq !== undefined) receive(/** @type {Message & {seq: number}} */ (message));
    if (type === "project_update") {
      if (typeof data.newStatus === "string") moveProject(String(data.projectId), data.newStatus, timestamp);
      else void loadProjects();
    }
    if (type === "payment_update") {
      if (isPayment(data)) changeInvoice(String(data.invoiceId), data.status, data.paidAt ?? null);
      else void loadInvoices();
    }
    if (type === "admin_alert" && data.projectId) void loadProjects();
    if (type === "admin_alert" && data.event === "payment_status_change") void loadInvoices();
    if (seq <= awayUntil) return;
    const { title, message: words } = inOwnWords({ type, title: "", message: "", data });
    if (type === "system_announcement" || type === "payment_update") toast(title, words, data.priority);
    else if (message.seq !== undefined) announce(title);
  });
  client.on("read", ({ data }) => {
    showRead(data);
    // Without ids: some were deleted, or are unread again; which ones is told by nothing but the inbox itself.
    if (data.ids?.length === 0) void loadInbox();
  });
  // The page sends nothing but read marks, and never a wrong one: the server could not do it now.
  client.on("error", () => toast(text.failed, "", "high"));
  client.on("sync", ({ data }) => {
    awayUntil = data.headSeq;
    // Which ones were read elsewhere meanwhile is told by nothing but the inbox itself.
    const missed = data.headSeq - (data.resumedFrom ?? data.headSeq);
    if (unreadBefore !== null && data.unread !== unreadBefore + missed) void loadInbox();
  });
  client.on("resync", ({ data }) => {
    awayUntil = listedUntil = data.headSeq;
    // From the very beginning: the numbers that are shown may be another database's.
    if (data.fromSeq === 0) setState({ inbox: [], inboxLoading: "loading" });
    void loadInbox();
    void loadProjects();
    void loadInvoices();
  });
  return client;
}

/** @param {RealtimeClient} client @param {ReadRange} what */
async function markRead(client, what) {
  const live = client.getSnapshot().state === "open";
  try {
    await client.markRead(what);
    // A socket that is open tells every page which ones are read, this one too.
    if (!live) showRead(what);
  } catch {
    toast(text.unreachable, "", "high");
  }
}

/** @param {RealtimeClient} client */
function showConnection(client) {
  const notice = byId("notice");
  let lost = false;
  onState(({ connection: { state, code } }) => {
    const status = byId("connection");
    status.dataset.state = state;
    status.classList.toggle("connected", state === "open");
    // One attempt after the other would be said by a screen reader for as long as the server is away.
    if (state !== "connecting") lost = state === "waiting";
    setText(status, text.connection[lost ? "waiting" : state]);
    const ended = state === "closed" && code !== 1000 && code !== 401;
    if (ended === !notice.hidden) return;
    const sentence = text.closed[/** @type {keyof typeof text.closed} */ (code)] ?? text.closedOther;
    const again = element(
      "button",
      { type: "button", class: "button", click: () => client.connect() },
      text.connectAgain,
    );
    if (notice.contains(document.activeElement)) byId("main").focus();
    notice.hidden = !ended;
    notice.replaceChildren(...(ended ? [element("p", {}, sentence), again] : []));
  });
}

/**
 * What another tab does to the session is done to this page too: after a log-in as somebody else its requests would go
 * under the new name, and its socket under the old one.
 * @param {string} userId
 */
function followTabs(userId) {
  tabs.addEventListener("message", ({ data }) => data !== userId && location.reload());
  tabs.postMessage(userId);
}

/** Who is signed in; nobody: the page goes to the log-in, or says that the server cannot be reached. */
async function signedIn() {
  try {
    return await get("/api/auth/me");
  } catch (error) {
    if (/** @type {import("./api.js").ApiError} */ (error).status === 401) return goToLogin();
    const again = element("button", { type: "button", class: "button", click: () => location.reload() }, text.tryAgain);
    byId("notice").replaceChildren(element("p", {}, text.unreachable), again);
    byId("notice").hidden = false;
  }
}

/**
 * Starts the page, and keeps it live.
 * @param {string} title
 * @param {(user: import("./store.js").User, markRead: (what: ReadRange) => Promise<void>) => void} show shows the
 *   page's own parts
 */
export async function startPage(title, show) {
  fillText();
  document.title = title;
  showLanguageSwitch();
  /** @type {RealtimeClient | undefined} */
  let client;
  byId("log-out").addEventListener("click", () => logOut(client));
  const user = await signedIn();
  if (!user) return;
  setState({ user });
  followTabs(user.id);
  setText(byId("user"), user.name);
  // The socket goes on from where the inbox ends, so that nothing between the two is lost.
  const opening = loadInbox().then(createClient);
  show(user, async (what) => markRead(await opening, what));
  client = await opening;
  showConnection(client);
  client.connect();
  void loadProjects();
  void loadInvoices();
  setInterval(refreshTimes, REFRESH_TIMES);
}
