/**
 * One socket that stays up, resumes where it broke off, and gives each durable message once, in order.
 * docs/browser.md says what is public.
 *
 * @typedef {{type: string, data: any, timestamp: string, id: string, seq?: number}} Message
 * @typedef {"idle" | "connecting" | "open" | "waiting" | "closed"} State
 * @typedef {{state: State, unread: number | null, code: number, reason: string}} Snapshot
 * @typedef {{token: string, connectionUrl: string}} Token
 * @typedef {{baseUrl?: string, getToken?: () => Promise<Token>, lastSeq?: number, epoch?: string,
 *   storage?: Storage, batch?: boolean}} Options
 */

const FINAL = [401, 403, 1000, 1003, 1007, 1009, 4004, 4500];
const EVENTS = ["online", "offline", "pagehide", "pageshow", "visibilitychange"];
// Times in ms.
const [MIN_DELAY, MAX_DELAY, TICK] = [500, 30_000, 10_000];
const TIMEOUT = 15_000; // until the first message
const STABLE = 10_000; // open so long, backoff starts anew
const ASLEEP = 90_000; // no tick so long; a hidden page has one a minute
const [QUIET, GRACE] = [60_000, 5_000]; // silence; what may be under way
const REFRESH = 120_000; // two ticks of a hidden page
const MAX_HELD = 256; // during a resync; more are read by HTTP
const MAX_UNSENT = 65_536; // bytes

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
  #notBefore = 0;
  #seenAt;
  #heardAt;
  #endsAt;
  #margin;
  #listeners = new Map();
  /** @type {Readonly<Snapshot>} */
  #snapshot = { state: "idle", unread: null, code: 0, reason: "" };

  /** @param {Options} [options] */
  constructor(options = {}) {
    this.#options = { ...options };
    this.#options.getToken ??= () => this.#http("POST", "/api/websocket/token");
    const { epoch, lastSeq } = options;
    this.#position = { epoch, lastSeq };
  }

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
   * @param {string} type a message's, `"*"`, `"state"` or `"unread"`
   * @param {(value: any) => void} callback
   * @returns {() => void} ends it
   */
  on(type, callback) {
    const callbacks = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, callbacks.add(callback));
    return () => callbacks.delete(callback);
  }

  subscribe = (callback) => this.on("change", callback);

  getSnapshot = () => this.#snapshot;

  get position() {
    return { user: this.#user, ...this.#position };
  }

  /**
   * @param {string} type
   * @param {object} data
   * @returns {string | null} its id; null: it is not sent
   */
  send(type, data) {
    const socket = this.#socket;
    if (this.#snapshot.state !== "open" || socket.readyState > 1 || socket.bufferedAmount > MAX_UNSENT) return null;
    const id = crypto.randomUUID?.() ?? `${Math.random()}`; // none in plain HTTP
    socket.send(JSON.stringify({ type, data, timestamp: new Date().toISOString(), id }));
    return id;
  }

  /** @param {{ids: string[]} | {upTo: number}} what */
  async markRead(what) {
    if (!this.send("read", what)) this.#count(await this.#http("POST", "/api/notifications/read", what));
  }

  async #open() {
    this.#drop();
    // Also marks this turn.
    const timer = (this.#timer = setTimeout(() => this.#lost(1006, "No answer"), TIMEOUT));
    this.#set({ state: "connecting" });
    try {
      const { token, connectionUrl } = await this.#options.getToken();
      if (timer !== this.#timer) return;
      this.#adopt(this.#read(token));
      const url = new URL(connectionUrl, location.href);
      const { lastSeq, epoch } = this.#position;
      if (lastSeq != null) url.searchParams.set("last_seq", lastSeq);
      if (epoch) url.searchParams.set("epoch", epoch);
      if (this.#options.batch) url.searchParams.set("batch", "1");
      const socket = (this.#socket = new WebSocket(url, ["jasaweb.v1", "bearer." + token]));
      socket.onmessage = ({ data }) => {
        for (const message of [JSON.parse(data)].flat()) if (socket === this.#socket) this.#receive(message);
      };
      socket.onclose = ({ code, reason }) => socket === this.#socket && this.#lost(code, reason);
    } catch (error) {
      if (timer === this.#timer) this.#lost(error.status ?? 1006, error.message);
    }
  }

  /** Returns whose it is; the clock is the server's. */
  #read(token) {
    let claims = {};
    try {
      claims = JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
    } catch {} // not a JWT
    const life = (claims.session_exp - claims.iat) * 1000;
    this.#endsAt = Date.now() + life;
    this.#margin = Math.min(REFRESH, life / 2);
    return claims.sub ?? "";
  }

  /** What fails is tried again at half of the time left, until 4001. */
  async #refresh(left) {
    const socket = this.#socket;
    this.#margin = left / 2;
    try {
      const { token } = await this.#options.getToken();
      if (socket !== this.#socket) return;
      if (this.#read(token) !== this.#user) this.#lost(4001, "Another user");
      else this.send("refresh", { token });
    } catch {}
  }

  /** A position is one user's: another has their own, or starts at the head. */
  #adopt(user) {
    const before = this.#user ?? user;
    this.#user = user;
    if (before !== user) {
      this.#position = {};
      this.#rev = -1;
      this.#set({ unread: null });
    }
    if (this.#position.lastSeq != null) return;
    try {
      const { epoch, lastSeq } = JSON.parse(this.#options.storage.getItem("jasaweb_rt:" + user));
      if (lastSeq >= 0) this.#position = { epoch, lastSeq };
    } catch {} // none, or barred
  }

  #receive(message) {
    this.#heardAt = Date.now();
    if (this.#snapshot.state !== "open") {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => (this.#attempt = 0), STABLE);
      this.#refused = false;
      this.#set({ state: "open", code: 0, reason: "" });
    }
    const { type, data, seq } = message;
    if (seq != null) {
      this.#count(message);
      const resync = this.#resync;
      if (!resync) this.#deliver(message);
      else if (resync.held.push(message) > MAX_HELD) Object.assign(resync, { goal: seq, held: [] });
    } else {
      if (type === "resync") this.#catchUp(data);
      if (type === "sync") this.#moveTo(data.resumedFrom ?? data.headSeq, data.epoch);
      if (type === "sync" || type === "read") this.#count(data);
      this.#emit(message);
    }
  }

  #deliver(message) {
    if (!this.#socket || message.seq <= this.#position.lastSeq) return;
    this.#moveTo(message.seq);
    this.#emit(message);
  }

  /** Reads by HTTP, then goes on with what came meanwhile. */
  async #catchUp({ epoch, fromSeq, headSeq }) {
    const resync = (this.#resync = { goal: headSeq, held: [] });
    // Else on from the position.
    if (epoch !== this.#position.epoch || !fromSeq) {
      this.#moveTo(fromSeq, epoch);
      this.#rev = -1;
    }
    try {
      let seq = this.#position.lastSeq;
      do {
        const page = await this.#http("GET", `/api/notifications?after=${seq}&limit=200`);
        if (resync !== this.#resync) return;
        this.#count(page);
        for (const { title, message, data, createdAt: timestamp, ...rest } of page.items)
          this.#deliver({ ...rest, data: { title, message, ...data }, timestamp });
        const before = seq;
        seq = page.items.at(-1)?.seq ?? page.headSeq; // the rest was deleted
        if (before < resync.goal && !(seq > before)) throw Error("No progress");
        if (!page.items.length) this.#moveTo(seq);
      } while (seq < resync.goal);
      this.#resync = null;
      for (const message of resync.held) this.#deliver(message);
    } catch (error) {
      if (resync === this.#resync) this.#lost(1006, error.message);
    }
  }

  #moveTo(lastSeq, epoch = this.#position.epoch) {
    this.#position = { epoch, lastSeq };
  }

  /** An older count never replaces a newer one. */
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
    this.#refused ||= invalid;
    const told = /retry after (\d{1,8}) ms/.exec(reason)?.[1];
    if (told) this.#notBefore = Date.now() + +told;
    const jitter = told || invalid ? 0 : Math.random() * Math.min(MAX_DELAY, MIN_DELAY * 2 ** this.#attempt++);
    this.#drop();
    this.#timer = setTimeout(() => this.#open(), Math.max(jitter, this.#notBefore - Date.now()));
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
    const now = Date.now();
    const slept = now - this.#seenAt;
    const left = this.#endsAt - now;
    this.#seenAt = now;
    if (this.#snapshot.state !== "open") return;
    if (slept > ASLEEP) this.#lost(1006, "Asleep");
    else if (left > 0 && left < this.#margin) this.#refresh(left);
  };

  #onPageEvent = ({ type }) => {
    this.#onTick();
    const { state } = this.#snapshot;
    const away = ["offline", "pagehide"].includes(type);
    if (away ? state === "waiting" : document.hidden || state === "connecting") return;
    if (!away && state === "open") return this.#probe();
    this.#attempt = 0;
    this.#lost(1006, type);
  };

  /** Pings are hidden from a page: is there, by HTTP, what should have come? */
  async #probe() {
    const socket = this.#socket;
    const { lastSeq } = this.#position;
    if (lastSeq == null || this.#resync || Date.now() - this.#heardAt < QUIET) return;
    this.#heardAt = Date.now();
    const answer = await this.#http("GET", `/api/notifications?after=${lastSeq}&limit=1`).catch((error) => error);
    setTimeout(() => {
      const lost = answer.items ? answer.items[0]?.seq > this.#position.lastSeq : !answer.status;
      if (lost && socket === this.#socket) this.#lost(1006, "Silent");
    }, GRACE);
  }

  async #http(method, path, body) {
    const csrf = /\bcsrftoken=([^;]*)/.exec(document.cookie)?.[1] ?? "";
    const response = await fetch((this.#options.baseUrl ?? "") + path, {
      method,
      headers: { "content-type": "application/json", "x-csrftoken": csrf },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT),
    });
    if (!response.ok) throw Object.assign(Error(path), { status: response.status });
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
    // Not before: it may come again.
    try {
      this.#options.storage.setItem("jasaweb_rt:" + this.#user, JSON.stringify(this.#position));
    } catch {} // none, or barred
  }

  #call(name, value) {
    for (const callback of this.#listeners.get(name) ?? [])
      try {
        callback(value);
      } catch (error) {
        reportError(error);
      }
  }
}
