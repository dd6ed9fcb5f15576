// What a site in TypeScript sees of both modules, by their JSDoc: compiled, never run.
import * as React from "react";
import { RealtimeClient, type Message } from "@/static/realtime.js";
import { createUseWebSocket, useWebSocket as useWebSocketOfPage, type WebSocketState } from "@/static/use-websocket.js";

const { useWebSocket, useWebSocketMessage } = createUseWebSocket(React, { limit: 20, batch: true });

export function useEverything(): WebSocketState {
  const socket = useWebSocket({ storage: sessionStorage });
  const { isConnected, state, unread, code, reason, messages, sendMessage, markRead, on, connect } = socket;
  const open: boolean = isConnected && state === "open";
  const count: number | null = unread;
  const why: [number, string] = [code, reason];
  const newest: Message | undefined = messages.at(-1);
  const seq: number | undefined = newest?.seq;
  const id: string | null = sendMessage({ type: "user_message", data: { open, count, why, seq } });
  const read: Promise<void> = markRead(id === null ? { upTo: 1 } : { ids: [id] });
  const end: () => void = on("unread", (unread) => void unread);
  useWebSocketMessage("payment_update", ({ data }) => (data.invoiceId, read, end, connect));
  // @ts-expect-error a type is needed
  sendMessage({ data: {} });
  // @ts-expect-error not a state
  if (state === "online") return socket;
  // @ts-expect-error replaced, never changed
  socket.messages = [];
  return useWebSocketOfPage({ React });
}

export function useClient(client: RealtimeClient): string {
  // @ts-expect-error no such option
  new RealtimeClient({ last_seq: 3 });
  const { state } = React.useSyncExternalStore(client.subscribe, client.getSnapshot);
  const id: string | null = client.send("user_message", {});
  return state + id + client.position.lastSeq;
}
