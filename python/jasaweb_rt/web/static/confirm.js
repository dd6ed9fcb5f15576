/** A question before what cannot be undone. */

import { element } from "./dom.js";
import { text } from "./text.js";

/**
 * Asks in a dialog; Escape is a no. The focus returns to where it was.
 * @param {string} title
 * @param {string} message
 * @param {string} action what the button that says yes is called
 * @returns {Promise<boolean>}
 */
export function confirmed(title, message, action) {
  const answer = (/** @type {string} */ value) => () => dialog.close(value);
  const dialog = element(
    "dialog",
    { class: "dialog", "aria-labelledby": "dialog-title", "aria-describedby": "dialog-message" },
    element("h2", { id: "dialog-title" }, title),
    element("p", { id: "dialog-message" }, message),
    element(
      "div",
      { class: "dialog-foot" },
      element("button", { type: "button", class: "button", autofocus: true, click: answer("") }, text.admin.cancel),
      element("button", { type: "button", class: "button primary", click: answer("yes") }, action),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}
