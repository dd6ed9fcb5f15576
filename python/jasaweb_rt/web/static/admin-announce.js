/** A word to everyone, to the clients or to the administrators. */

import { post } from "./api.js";
import { byId, element } from "./dom.js";
import { onSubmit } from "./forms.js";
import { text } from "./text.js";

const words = text.admin;

/** @param {string} id @param {Record<string, string>} table @param {string} chosen */
function fillSelect(id, table, chosen) {
  for (const [value, label] of Object.entries(table))
    byId(id).append(element("option", { value, selected: value === chosen }, label));
}

export function showAnnounceForm() {
  fillSelect("announce-audience", words.audiences, "all");
  fillSelect("announce-priority", words.priorities, "medium");
  onSubmit(/** @type {HTMLFormElement} */ (byId("announce")), async ({ title, message, audience, priority, durable }) => {
    const { count, durable: isStored } = await post("/api/admin/websocket/broadcast", {
      audience,
      type: "system_announcement",
      title,
      message,
      data: { priority },
      durable: durable === "yes",
    });
    return isStored ? words.stored(count) : words.broadcast(count);
  });
}
