/** The button that shows the page in the other language. */

import { byId, element, icon } from "./dom.js";
import { chooseLanguage, language, LANGUAGES } from "./text.js";

/** Fills `#language`; a narrow page shows the language's code alone. */
export function showLanguageSwitch() {
  const button = byId("language");
  const other = language === "en" ? "id" : "en";
  button.lang = other;
  button.replaceChildren(
    icon("language"),
    element("span", { class: "short" }, other.toUpperCase()),
    element("span", { class: "long" }, LANGUAGES[other]),
  );
  button.addEventListener("click", () => chooseLanguage(other));
}
