// Socket.IO: one `emit` to everybody, over WebSocket alone.

import { createServer } from "node:http";

import { Server } from "socket.io";

import { BACKLOG, HOST, obey, padding } from "./orders.mjs";

const TEN_MINUTES_MS = 600_000;

const http = createServer();
// The clients speak WebSocket and no more. What a client of Socket.IO says besides, by the address that it asks for and
// by its first message, is put in here; and it is never asked for a heartbeat while it is measured.
http.on("upgrade", (request) => {
  request.url = "/socket.io/?EIO=4&transport=websocket";
});
const server = new Server(http, { transports: ["websocket"], serveClient: false, pingInterval: TEN_MINUTES_MS });
server.engine.on("connection", (connection) => connection.emit("data", "0"));
http.listen({ host: HOST, port: 0, backlog: BACKLOG });
await new Promise((resolve) => http.once("listening", resolve));

await obey(
  http.address().port,
  () => server.of("/").sockets.size,
  (stamp, size) => {
    const data = { stamp: Number(stamp), pad: "" };
    // "42": a message of Engine.IO that is an event of Socket.IO.
    data.pad = padding(`42${JSON.stringify(["bench", data])}`, size);
    server.emit("bench", data);
  },
);
process.exit();
