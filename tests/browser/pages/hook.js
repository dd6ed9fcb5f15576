// Components that use the hooks in all the ways of the tests; `show` says which of them are mounted.
import { React, createRoot, hydrateRoot, renderToString } from "/react.js";
import { RealtimeClient } from "/static/realtime.js";
import { createUseWebSocket, useWebSocket as useWebSocketOfPage } from "/static/use-websocket.js";

const { useWebSocket, useWebSocketMessage } = createUseWebSocket(React);
const h = React.createElement;

window.heard = [];
window.functions = new Set();
window.sockets = {};
window.ownClient = new RealtimeClient();
window.tokens = [];

function Panel({ name, use = useWebSocket, ...options }) {
  const socket = use(options);
  React.useEffect(() => {
    window.sockets[name] = socket;
    for (const key of ["sendMessage", "markRead", "on", "connect"]) window.functions.add(socket[key]);
  });
  return h(
    "section",
    { id: name },
    h("output", null, `${socket.state} ${socket.isConnected} ${socket.unread} ${socket.code}`),
    h("ol", null, socket.messages.map((message, index) => h("li", { key: index }, message.data.title))),
  );
}

const OwnClient = (props) => h(Panel, { ...props, client: window.ownClient });
const PageReact = (props) => h(Panel, { ...props, use: useWebSocketOfPage });

// A new function at each render, as it is usual.
const Tokens = ({ label, ...props }) =>
  h(Panel, {
    ...props,
    getToken: async () => {
      window.tokens.push(label);
      return (await fetch("/api/websocket/token", { method: "POST" })).json();
    },
  });

function Listener({ type = "project_update", label }) {
  useWebSocketMessage(type, (value) => window.heard.push(`${label} ${value.seq ?? value.type ?? value}`));
  return null;
}

function EffectListener() {
  const { on } = useWebSocket();
  React.useEffect(() => on("project_update", ({ seq }) => window.heard.push(`effect ${seq}`)), [on]);
  return null;
}

function FaultyListener() {
  useWebSocketMessage("project_update", () => {
    throw new Error("the handler's own");
  });
  return null;
}

function FaultyPanel() {
  const { messages } = useWebSocket();
  if (messages.some(({ seq }) => seq === 2)) throw new Error("the component's own");
  return null;
}

class Boundary extends React.Component {
  state = { failed: false };
  static getDerivedStateFromError = () => ({ failed: true });
  render = () => (this.state.failed ? h("p", { id: "failed" }, "failed") : this.props.children);
}

const Bounded = () => h(Boundary, null, h(FaultyPanel));

const kinds = { Panel, OwnClient, PageReact, Tokens, Listener, EffectListener, FaultyListener, Bounded };
const Wrapper = new URLSearchParams(location.search).has("strict") ? React.StrictMode : React.Fragment;
const tree = (components) =>
  h(Wrapper, null, components.map(({ kind = "Panel", ...props }, index) => h(kinds[kind], { key: index, ...props })));

const container = document.getElementById("root");
let root;

/** Mounts these components, and unmounts the others: `[{kind, …props}]`. */
window.show = (components) => {
  root ??= createRoot(container);
  root.render(tree(components));
};

/** As a page does it whose markup came from a server; gives that markup. */
window.hydrate = (components) => {
  const markup = renderToString(tree(components));
  container.innerHTML = markup;
  root = hydrateRoot(container, tree(components));
  return markup;
};

window.React = React;
window.ready = true;
