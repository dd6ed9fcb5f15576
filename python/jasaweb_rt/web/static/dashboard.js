/** The dashboard. */

import { showCompose } from "./compose.js";
import { byId, setText } from "./dom.js";
import { showInbox } from "./inbox.js";
import { showInvoices } from "./invoices.js";
import { startPage } from "./live.js";
import { showProjects } from "./projects.js";
import { text } from "./text.js";

void startPage(text.title, (user, markRead) => {
  setText(byId("greeting"), text.greeting(user.name));
  byId("admin-link").hidden = user.role !== "admin";
  showProjects();
  showInvoices();
  showInbox(markRead, showCompose(user, markRead));
});
