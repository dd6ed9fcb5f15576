/** The viewer of the HTTP interface. Swagger UI is a classic script, which has run when a module does. */

import { csrfToken } from "./api.js";

/** @typedef {{method?: string, headers: Record<string, string>}} OutgoingRequest */

const dark = matchMedia("(prefers-color-scheme: dark)");
const followScheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", followScheme);
followScheme();

/** @type {any} */ (globalThis).SwaggerUIBundle({
  domNode: document.getElementById("schema"),
  url: "/schema/openapi.json",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  // Nothing of ours is checked by a foreign host.
  validatorUrl: null,
  // Tried out under the session of the page, as our own pages do.
  requestInterceptor(/** @type {OutgoingRequest} */ request) {
    if (request.method && request.method !== "GET") request.headers["x-csrftoken"] = csrfToken();
    return request;
  },
});
