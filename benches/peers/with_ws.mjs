// `ws`: one `send` to each of the server's clients, of a message that is encoded once.

import { WebSocket, WebSocketServer } from "ws";

import { BACKLOG, HOST, obey, padding } from "./orders.mjs";

// It compresses nothing by itself, nor do the other programs.
const server = new WebSocketServer({ host: HOST, port: 0, backlog: BACKLOG });
await new Promise((resolve) => server.once("listening", resolve));

await obey(
  server.address().port,
  () => server.clients.size,
  (stamp, size) => {
    const head = `{"type":"bench","data":{"stamp":${stamp},"pad":"`;
    const message = Buffer.from(`${head}${padding(`${head}"}}`, size)}"}}`);
    for (const client of server.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(message, { binary: false });
    }
  },
);
process.exit();
