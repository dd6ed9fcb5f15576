/**
 * React hooks on top of `RealtimeClient`: all components of a page share one socket. React, 18 or newer, is the
 * caller's own; nothing here is touched before the first render. docs/browser.md explains the use.
 *
 * @typedef {import("./realtime.js").Message} Message
 * @typedef {import("./realtime.js").Snapshot} Snapshot
 * @typedef {object} HookOptions
 * @property {number} [limit] how many of the newest messages are kept, 100 if not given
 * @property {RealtimeClient} [client] one that the caller connects and closes; the options of a client then mean nothing
 * @property {ReactHooks} [React] for the exported hooks, where `globalThis.React` is not it
 * @typedef {HookOptions & import("./realtime.js").Options} Options
 * @typedef {Pick<typeof import("react"),
 *   "useEffect" | "useInsertionEffect" | "useMemo" | "useRef" | "useSyncExternalStore">} ReactHooks
 * @typedef {object} Connection what is not of the snapshot keeps its identity
 * @property {boolean} isConnected
 * @property {Message[]} messages the newest last; replaced, never changed; control messages are not among them
 * @property {(message: {type: string, data: object}) => string | null} sendMessage the id; null where it was not sent
 * @property {(what: {ids: string[]} | {upTo: number}) => Promise<void>} markRead
 * @property {(type: string, callback: (value: any) => void) => () => void} on as `RealtimeClient.on`
 * @property {() => void} connect after a close that was final
 * @typedef {Readonly<Connection & Snapshot>} WebSocketState
 */

import { RealtimeClient } from "./realtime.js";

const LIMIT = 100;
const LINGER = 1_000; // ms: a change of views, or of StrictMode's mind, keeps the socket
const CONTROL = ["sync", "read", "resync", "error"];

/** What the components that share a client see of it. */
class Store {
  /** @type {import("./realtime.js").Options["getToken"]} of the newest render */
  getToken;
  #client;
  #owned;
  #components = 0;
  #closing;
  #limit = LIMIT;
  #user;
  #messages = [];
  #snapshot;
  #listeners = new Set();

  /** @param {RealtimeClient} client @param {boolean} owned whether it is ours to connect and to close */
  constructor(client, owned) {
    this.#client = client;
    this.#owned = owned;
    this.#snapshot = this.#build(client.getSnapshot());
    /** What a server renders, and a page before it has hydrated. */
    this.serverSnapshot = this.#build({ state: "idle", unread: null, code: 0, reason: "" });
    client.subscribe(() => this.#onChange());
    client.on("*", (message) => this.#onMessage(message));
  }

  subscribe = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  getSnapshot = () => this.#snapshot;

  getServerSnapshot = () => this.serverSnapshot;

  on = (type, callback) => this.#client.on(type, callback);

  /** Counts a component in; what it returns counts it out. The first connects, the last closes. */
  retain = () => {
    clearTimeout(this.#closing);
    if (this.#components++ === 0 && this.#owned) this.#client.connect();
    return () => {
      if (--this.#components === 0 && this.#owned) this.#closing = setTimeout(() => this.#client.close(), LINGER);
    };
  };

  /** As many messages as the component with the greatest wish has. */
  keep(limit) {
    this.#limit = Math.max(this.#limit, limit);
  }

  #sendMessage = ({ type, data }) => this.#client.send(type, data);

  #markRead = (what) => this.#client.markRead(what);

  #connect = () => {
    if (this.#components) this.#client.connect(); // else nobody would close it
  };

  #onChange() {
    const { user } = this.#client.position;
    if (user !== this.#user && this.#user !== undefined) this.#messages = []; // they are somebody else's
    this.#user = user;
    this.#publish();
  }

  #onMessage(message) {
    // From the very beginning: another database, or an older state of it. What is in it comes anew.
    if (message.type === "resync" && message.data.fromSeq === 0) this.#messages = [];
    else if (CONTROL.includes(message.type)) return;
    else this.#messages = newest([...this.#messages, message], this.#limit);
    this.#publish();
  }

  #publish() {
    this.#snapshot = this.#build(this.#client.getSnapshot(), this.#messages);
    for (const listener of this.#listeners) listener();
  }

  #build(snapshot, messages = []) {
    return Object.freeze({
      ...snapshot,
      isConnected: snapshot.state === "open",
      messages: Object.freeze(messages),
      sendMessage: this.#sendMessage,
      markRead: this.#markRead,
      on: this.on,
      connect: this.#connect,
    });
  }
}

/** @type {Map<string, Store>} by `baseUrl`; kept, so that a view that comes back resumes where it left */
const stores = new Map();
/** @type {WeakMap<RealtimeClient, Store>} */
const storesOfClients = new WeakMap();

/** @param {Options} options those of the first component make the client */
function storeFor({ client, ...options }) {
  const key = options.baseUrl ?? "";
  const known = client ? storesOfClients.get(client) : stores.get(key);
  if (known) return known;
  if (client) {
    const store = new Store(client, false);
    storesOfClients.set(client, store);
    return store;
  }
  // A closure over the props and state of an old render would fetch an old token.
  const getToken = options.getToken && (() => store.getToken());
  const store = new Store(new RealtimeClient({ ...options, getToken }), true);
  store.getToken = options.getToken;
  stores.set(key, store);
  return store;
}

function newest(messages, limit) {
  return messages.slice(Math.max(0, messages.length - limit));
}

/** @param {ReactHooks} React @param {Options} options @returns {WebSocketState} */
function useConnection(React, options) {
  const { limit = LIMIT, getToken } = options;
  const store = storeFor(options);
  const snapshot = React.useSyncExternalStore(store.subscribe, store.getSnapshot, store.getServerSnapshot);
  React.useEffect(() => {
    if (getToken) store.getToken = getToken;
  });
  React.useEffect(() => store.keep(limit), [store, limit]);
  React.useEffect(store.retain, [store]);
  return React.useMemo(() => {
    if (snapshot.messages.length <= limit) return snapshot;
    return Object.freeze({ ...snapshot, messages: Object.freeze(newest(snapshot.messages, limit)) });
  }, [snapshot, limit]);
}

/** @param {ReactHooks} React @param {string} type @param {(value: any) => void} handler @param {Options} options */
function useMessage(React, type, handler, options) {
  const store = storeFor(options);
  const latest = React.useRef(handler);
  React.useInsertionEffect(() => {
    latest.current = handler;
  });
  React.useEffect(store.retain, [store]);
  React.useEffect(() => store.on(type, (value) => latest.current(value)), [store, type]);
}

/**
 * The hooks for a React of the caller's.
 *
 * @param {ReactHooks} React
 * @param {Options} [defaults] for calls that do not say otherwise
 */
export function createUseWebSocket(React, defaults) {
  return {
    /** The connection as it is; renders anew when it changes. @param {Options} [options] @returns {WebSocketState} */
    useWebSocket: (options) => useConnection(React, { ...defaults, ...options }),
    /**
     * Calls back with each message of a type, without rendering anew.
     * @param {string} type as of `RealtimeClient.on`
     * @param {(value: any) => void} handler may be a new function at each render
     * @param {Options} [options]
     */
    useWebSocketMessage: (type, handler, options) => useMessage(React, type, handler, { ...defaults, ...options }),
  };
}

/** As that of `createUseWebSocket`, with `options.React` or `globalThis.React`. @param {Options} [options] */
export function useWebSocket(options = {}) {
  return useConnection(reactOf(options), options);
}

/**
 * As that of `createUseWebSocket`, with `options.React` or `globalThis.React`.
 * @param {string} type
 * @param {(value: any) => void} handler
 * @param {Options} [options]
 */
export function useWebSocketMessage(type, handler, options = {}) {
  useMessage(reactOf(options), type, handler, options);
}

/** @param {Options} options @returns {ReactHooks} */
function reactOf(options) {
  const React = options.React ?? globalThis.React;
  if (!React?.useSyncExternalStore)
    throw new Error("useWebSocket needs React 18 or newer: createUseWebSocket(React), or globalThis.React = React");
  return React;
}
