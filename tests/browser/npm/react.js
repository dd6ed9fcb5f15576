// React as one ES module, which a page can load without a bundler.
import * as React from "react";
export { React };
export { createRoot, hydrateRoot } from "react-dom/client";
export { renderToString } from "react-dom/server.browser";
