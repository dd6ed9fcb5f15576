/** The log-in page. */

import { post } from "./api.js";
import { byId, element } from "./dom.js";
import { showLanguageSwitch } from "./language-switch.js";
import { fillText, problem, text } from "./text.js";

const HOME = "/client/dashboard";
const DEMO_PASSWORD = "demo-password";

const form = /** @type {HTMLFormElement} */ (byId("login-form"));
const email = /** @type {HTMLInputElement} */ (byId("email"));
const password = /** @type {HTMLInputElement} */ (byId("password"));
const button = /** @type {HTMLButtonElement} */ (form.querySelector("button"));

/** Where to go: the path that was asked for, if it is one of this server. */
function destination() {
  const next = new URLSearchParams(location.search).get("next") ?? HOME;
  const url = URL.canParse(next, location.origin) ? new URL(next, location.origin) : null;
  // By itself a path that begins so names a host: of `/.//host` it is left.
  if (url?.origin !== location.origin || url.pathname.startsWith("//")) return HOME;
  return url.pathname + url.search + url.hash;
}

/** @param {string} message @param {HTMLInputElement} [input] the one to mend */
function showError(message, input) {
  byId("login-error").textContent = message;
  for (const field of [email, password]) field.setAttribute("aria-invalid", String(field === input));
  input?.focus();
}

/** @param {Event} event */
async function submit(event) {
  event.preventDefault();
  if (!email.value.trim()) return showError(text.missingEmail, email);
  if (!password.value) return showError(text.missingPassword, password);
  showError("");
  button.disabled = true;
  button.textContent = text.loggingIn;
  try {
    await post("/api/auth/login", { email: email.value.trim(), password: password.value });
    location.assign(destination());
  } catch (error) {
    const answer = /** @type {import("./api.js").ApiError} */ (error);
    button.disabled = false;
    button.textContent = text.logIn;
    if (answer.status === 401) showError(text.wrongPassword, password);
    else showError(problem(answer));
  }
}

function showDemoAccounts() {
  for (const [name, role] of Object.entries(text.demoRoles)) {
    const address = `${name}@jasaweb.test`;
    const fill = () => {
      email.value = address;
      password.value = DEMO_PASSWORD;
      showError("");
      button.focus();
    };
    byId("demo-accounts").append(
      element(
        "li",
        {},
        element(
          "button",
          { type: "button", class: "account", click: fill },
          element("strong", {}, role),
          element("span", {}, address),
        ),
      ),
    );
  }
  byId("demo").hidden = false;
}

fillText();
document.title = text.loginPage;
showLanguageSwitch();
form.addEventListener("submit", submit);
if (document.documentElement.dataset.demo === "true") showDemoAccounts();
