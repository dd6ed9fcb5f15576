/** The page for administrators. */

import { showAnnounceForm } from "./admin-announce.js";
import { showComposeForm } from "./admin-compose.js";
import { showConnections } from "./admin-connections.js";
import { showFigures } from "./admin-figures.js";
import { showMessages } from "./admin-messages.js";
import { showInvoices } from "./invoices.js";
import { startPage } from "./live.js";
import { showProjects } from "./projects.js";
import { text } from "./text.js";

void startPage(text.admin.page, (_, markRead) => {
  showFigures();
  showProjects();
  showInvoices();
  showMessages(markRead);
  showComposeForm();
  showAnnounceForm();
  showConnections();
});
