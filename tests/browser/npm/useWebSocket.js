// The whole of a site's src/hooks/useWebSocket.js.
import * as React from "react";
import { createUseWebSocket } from "@/static/use-websocket.js";

export const { useWebSocket, useWebSocketMessage } = createUseWebSocket(React);
