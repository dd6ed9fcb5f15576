/** How the server does, in a few figures. */

import { get } from "./api.js";
import { byId, element, setText } from "./dom.js";
import { loadingNotice } from "./loading.js";
import { whileVisible } from "./polling.js";
import { number, text, transferRate } from "./text.js";

const REFRESH = 3_000; // ms

const words = text.admin;

/** @typedef {Record<string, any>} Status as `/api/admin/websocket/status` has it */

/** An application apart from its gateways knows little of them. @param {number | null | undefined} value */
const known = (value, say = number) => (value == null ? "–" : say(value));

/** @type {[keyof typeof words.figure, (status: Status) => string][]} */
const FIGURES = [
  ["connections", (status) => known(status.connections)],
  ["users", (status) => known(status.users)],
  ["deliveries", ({ rates }) => known(rates?.deliveries)],
  ["framesReceived", ({ rates }) => known(rates?.framesReceived)],
  ["bytesWritten", ({ rates }) => known(rates?.bytesWritten, transferRate)],
  ["slowConsumers", (status) => known(status.slowConsumers)],
];

/** @param {Status} status @returns {keyof typeof words.health} */
const health = ({ draining, relayReady }) => (draining ? "draining" : relayReady === false ? "waiting" : "ready");

export function showFigures() {
  const list = byId("figures");
  const values = FIGURES.map(([name]) => {
    const value = element("dd");
    list.append(element("div", { class: "figure" }, element("dt", {}, words.figure[name]), value));
    return value;
  });
  const load = async () => {
    try {
      const status = await get("/api/admin/websocket/status");
      FIGURES.forEach(([, say], index) => setText(values[index], say(status)));
      byId("health").dataset.state = health(status);
      setText(byId("health"), words.health[health(status)]);
      notice("ready", false);
    } catch {
      notice("failed", false);
    }
  };
  const notice = loadingNotice(byId("figures-status"), words.figuresFailed, "", load);
  whileVisible(load, REFRESH);
}
