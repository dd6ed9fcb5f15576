/**
 * One socket that stays up, resumes where it broke off, and gives each durable message once, in order.
 * A page cannot see pings: a path that died in silence shows when the network is reported lost, when the page was
 * asleep, or when the system gives the socket up.
 *
 * @typedef {{type: string, data: any, timestamp: string, id: string, seq?: number}} Message
 * @typedef {object} Snapshot
 * @property {"idle" | "connecting" | "open" | "waiting" | "closed"} state `waiting` ends by itself
 * @property {number | null} unread null until the server has told it
 * @property {number} code why it is not open: close code, or HTTP status of a refused token
 * @property {string} reason
 * @typedef {object} Options
 * @property {string} [baseUrl] put before `/api/…`
 * @property {() => Promise<{token: string, connectionUrl: string}>} [getToken] an error's `status` 401 or 403 is final
 * @property {number} [lastSeq] resume after it, for instance the `headSeq` of an inbox
 * @property {string} [epoch] that of `lastSeq`
 * @property {Pick<Storage, "getItem" | "setItem">} [storage] keeps the position by user: `sessionStorage`
 * @property {boolean} [batch] several messages may come in one frame
 */

const FINAL = [401, 403, 1000, 1003, 1007, 1009, 4004, 4500];
const EVENTS = ["online", "offline", "pagehide", "pageshow", "visibilitychange"];
// Times in ms.
const [MIN_DELAY, MAX_DELAY, TICK] = [500, 30_000, 10_000];
const CONNECT_TIMEOUT = 15_000; // token, handshake and first message together
const STABLE = 10_000; // open so long, backoff starts anew
const ASLEEP = 90_000; // no tick so long; a hidden page has one a minute
const MAX_HELD = 256; // live messages during a resync; more are read by HTTP

export class RealtimeClient {
  #options;
  #position;
  #user;
  #socket;
  #timer;
  #ticker;
  #resync;
  #refused;
  #rev = -1;
  #attempt = 0;
  #openedAt;
  #seenAt;
  #listeners = new Map();
  /** @type {Readonly<Snapshot>} */
  #snapshot = { state: "idle", unread: null, code: 0, reason: "" };

  /** @param {Options} [options] */
  constructor(options = {}) {
    this.#options = options;
    this.#position = { epoch: options.epoch, lastSeq: options.lastSeq };
  }

  /** Connects, and comes back until `close` or a final close code. */
  connect() {
    if (this.#ticker) return;
    for (const name of EVENTS) addEventListener(name, this.#onPageEvent);
    this.#seenAt = Date.now();
    this.#ticker = setInterval(this.#onTick, TICK);
    this.#attempt = 0;
    this.#refused = false;
    this.#open();
  }

  close() {
    this.#finish(1000, "");
  }

  /**
   * Calls back with each message of a type, or any: `"*"`; with the snapshot: `"state"`; with the count: `"unread"`.
   * @param {string} type
   * @param {(value: any) => void} callback
   * @returns {() => void} the way to end it
   */
  on(type, callback) {
    const callbacks = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, callbacks.add(callback));
    return () => callbacks.delete(callback);
  }

  /** For `useSyncExternalStore`. @param {() => void} callback */
  subscribe = (callback) => this.on("change", callback);

  getSnapshot = () => this.#snapshot;

  /** Where another client could resume. */
  get position() {
    return { user: this.#user, ...this.#position };
  }

  /**
   * Sends now or not at all.
   * @param {string} type
   * @param {object} data
   * @returns {string | null} its id, the `ref` of an `error`; null: not open
   */
  send(type, data) {
    if (this.#snapshot.state !== "open" || this.#socket.readyState > 1) return null;
    const id = crypto.randomUUID?.() ?? `${Math.random()}`; // plain HTTP has no randomUUID
    this.#socket.send(JSON.stringify({ type, data, timestamp: new Date().toISOString(), id }));
    return id;
  }

  /**
   * By the socket where it is open, else by HTTP; the new count comes as `unread`.
   * @param {{ids: string[]} | {upTo: number}} what
   */
  async markRead(what) {
    if (!this.send("read", what)) this.#count(await this.#http("POST", "/api/notifications/read", what));
  }

  async #open() {
    this.#drop();
    // Also tells this turn from a later one.
    const timer = (this.#timer = setTimeout(() => this.#lost(1006, "No answer"), CONNECT_TIMEOUT));
    this.#set({ state: "connecting" });
    try {
      const { getToken = () => this.#http("POST", "/api/websocket/token"), batch } = this.#options;
      const { token, connectionUrl } = await getToken();
      if (timer !== this.#timer) return;
      this.#adopt(token);
      const url = new URL(connectionUrl, location.href);
      const { lastSeq, epoch } = this.#position;
      if (lastSeq != null) url.searchParams.set("last_seq", lastSeq);
      if (epoch) url.searchParams.set("epoch", epoch);
      if (batch) url.searchParams.set("batch", "1");
      const socket = (this.#socket = new WebSocket(url, ["jasaweb.v1", "bearer." + token]));
      socket.onmessage = ({ data }) => {
        for (const message of [JSON.parse(data)].flat()) if (socket === this.#socket) this.#receive(message);
      };
      socket.onclose = ({ code, reason }) => socket === this.#socket && this.#lost(code, reason);
    } catch (error) {
      if (timer === this.#timer) this.#lost(error.status ?? 1006, error.message);
    }
  }

  /** A position is one user's: another one starts from what is stored for them, or at the head. */
  #adopt(token) {
    let user = "";
    try {
      user = JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))).sub;
    } catch {} // not a JWT: it names nobody
    if (user === this.#user) return;
    if (this.#user !== undefined) {
      this.#position = {};
      this.#rev = -1;
      this.#set({ unread: null });
    }
    this.#user = user;
    try {
      const stored = JSON.parse(this.#options.storage.getItem("jasaweb_rt:" + user));
      if (this.#position.lastSeq == null) this.#position = { ...stored };
    } catch {} // none, or barred
  }

  #receive(message) {
    if (this.#snapshot.state !== "open") {
      clearTimeout(this.#timer);
      this.#openedAt = Date.now();
      this.#refused = false;
      this.#set({ state: "open", code: 0, reason: "" });
    }
    const { type, data, seq } = message;
    const { epoch } = this.#position;
    if (seq != null) {
      this.#count(message);
      const resync = this.#resync;
      if (!resync) this.#deliver(message);
      else if (resync.held.push(message) > MAX_HELD) Object.assign(resync, { goal: seq, held: [] });
    } else if (type === "resync" || (type === "sync" && epoch && data.epoch !== epoch)) {
      this.#emit({ ...message, type: "resync" });
      this.#catchUp(data);
    } else {
      if (type === "sync") this.#moveTo(data.resumedFrom ?? data.headSeq, data.epoch);
      if (type === "sync" || type === "read") this.#count(data);
      this.#emit(message);
    }
  }

  #deliver(message) {
    if (message.seq <= this.#position.lastSeq) return;
    this.#moveTo(message.seq);
    this.#emit(message);
  }

  /** Reads by HTTP what is too much for a socket, then goes on with what came meanwhile. */
  async #catchUp({ epoch, fromSeq = 0, headSeq }) {
    const resync = (this.#resync = { goal: headSeq, held: [] });
    this.#moveTo(fromSeq, epoch);
    this.#rev = -1;
    try {
      let seq = fromSeq;
      do {
        const page = await this.#http("GET", `/api/notifications?after=${seq}&limit=200`);
        if (resync === this.#resync) this.#count(page);
        for (const { title, message, data, createdAt: timestamp, ...rest } of page.items)
          if (resync === this.#resync) this.#deliver({ ...rest, data: { title, message, ...data }, timestamp });
        if (resync !== this.#resync) return;
        const reached = page.items.at(-1)?.seq ?? page.headSeq; // what an empty page lacks was deleted
        if (seq < resync.goal && !(reached > seq)) throw Error("No progress");
        this.#moveTo((seq = reached));
      } while (seq < resync.goal);
      this.#resync = null;
      for (const message of resync.held) this.#deliver(message);
    } catch (error) {
      if (resync === this.#resync) this.#lost(1006, error.message);
    }
  }

  #moveTo(lastSeq, epoch = this.#position.epoch) {
    this.#position = { epoch, lastSeq };
    try {
      this.#options.storage.setItem("jasaweb_rt:" + this.#user, JSON.stringify(this.#position));
    } catch {} // none, full, or barred
  }

  /** The badge is replaced, never added to, and never by an older one. */
  #count({ unread, rev = this.#rev }) {
    if (unread == null || rev < this.#rev) return;
    this.#rev = rev;
    if (unread === this.#snapshot.unread) return;
    this.#set({ unread });
    this.#call("unread", unread);
  }

  #lost(code, reason) {
    const invalid = code === 1008 && reason === "Invalid authentication";
    if (FINAL.includes(code) || (invalid && this.#refused)) return this.#finish(code, reason);
    if (this.#snapshot.state === "open" && Date.now() - this.#openedAt > STABLE) this.#attempt = 0;
    this.#refused ||= invalid;
    const told = code === 1001 && /retry after (\d{1,8}) ms/.exec(reason)?.[1];
    const jitter = Math.random() * Math.min(MAX_DELAY, MIN_DELAY * 2 ** this.#attempt++);
    this.#drop();
    this.#timer = setTimeout(() => this.#open(), invalid ? 0 : +(told || jitter));
    this.#set({ state: "waiting", code, reason });
  }

  #finish(code, reason) {
    this.#drop();
    for (const name of EVENTS) removeEventListener(name, this.#onPageEvent);
    clearInterval(this.#ticker);
    this.#ticker = null;
    this.#set({ state: "closed", code, reason });
  }

  #drop() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = this.#resync = this.#timer = null;
    socket?.close(1000);
  }

  #onTick = () => {
    const slept = Date.now() - this.#seenAt;
    this.#seenAt += slept;
    if (slept > ASLEEP && this.#snapshot.state === "open") this.#lost(1006, "Asleep");
  };

  #onPageEvent = ({ type }) => {
    this.#onTick();
    const waiting = this.#snapshot.state === "waiting";
    if (type === "offline" || type === "pagehide" ? waiting : !waiting || document.hidden) return;
    this.#attempt = 0;
    this.#lost(1006, type);
  };

  async #http(method, path, body) {
    const csrf = /\bcsrftoken=([^;]*)/.exec(document.cookie)?.[1] ?? "";
    const response = await fetch((this.#options.baseUrl ?? "") + path, {
      method,
      headers: { "content-type": "application/json", "x-csrftoken": csrf },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(CONNECT_TIMEOUT),
    });
    const { ok, status } = response;
    if (!ok) throw Object.assign(Error(path), { status });
    return response.json();
  }

  #set(change) {
    const { state } = this.#snapshot;
    this.#snapshot = Object.freeze({ ...this.#snapshot, ...change });
    this.#call("change");
    if (this.#snapshot.state !== state) this.#call("state", this.#snapshot);
  }

  #emit(message) {
    this.#call(message.type, message);
    this.#call("*", message);
  }

  #call(name, value) {
    for (const callback of this.#listeners.get(name) ?? [])
      try {
        callback(value);
      } catch (error) {
        reportError(error); // a listener's fault stops nobody else
      }
  }
}
