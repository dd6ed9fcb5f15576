// Renders a component with the hooks where there is no browser: node render.mjs FILE-OF-THE-HOOKS
import { createElement } from "react";
import * as React from "react";
import { renderToString } from "react-dom/server";
import { pathToFileURL } from "node:url";

const { createUseWebSocket } = await import(pathToFileURL(process.argv[2]));
const { useWebSocket, useWebSocketMessage } = createUseWebSocket(React);

function Panel() {
  const { state, isConnected, unread, messages } = useWebSocket();
  useWebSocketMessage("project_update", () => {});
  return createElement("p", null, `${state} ${isConnected} ${unread} ${messages.length}`);
}

console.log(renderToString(createElement(Panel)));
