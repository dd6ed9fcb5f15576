/** The words of the page for administrators, in English. `admin-text-id.js` has the same keys. */

export const admin = {
  page: "Administration · JasaWeb",
  title: "Administration",
  dashboard: "Dashboard",
  sections: "On this page",
  cancel: "Cancel",

  figures: "Right now",
  figuresFailed: "The figures could not be read.",
  figure: {
    connections: "Connections",
    users: "People online",
    deliveries: "Deliveries a second",
    framesReceived: "Messages from pages a second",
    bytesWritten: "Sent a second",
    slowConsumers: "Closed for slowness",
  },
  health: {
    ready: "Notifications go out",
    waiting: "Notifications wait for the database",
    draining: "The server is stopping",
  },

  markPaid: "Mark as paid",
  /** @param {string} project @param {string} amount */
  markPaidOf: (project, amount) => `Mark as paid: ${amount} for “${project}”`,
  markPaidTitle: "Mark this invoice as paid?",
  /** @param {string} project @param {string} amount */
  markPaidMessage: (project, amount) =>
    `${amount} for “${project}”. The client is told, and a project that waits for the payment moves on. This cannot be undone here.`,

  messages: "Messages",
  noMessages: "No messages yet. What clients write to you arrives here by itself.",
  messagesFailed: "Your messages could not be loaded.",
  /** @param {string} name */
  from: (name) => `From ${name}`,
  reply: "Reply",
  /** @param {string} name @param {string} subject */
  replyTo: (name, subject) => `Reply to ${name} about “${subject}”`,
  /** @param {string} subject */
  re: (subject) => `Re: ${subject}`,
  newMessage: "New message",
  findPerson: "Find a person",
  recipient: "To",
  choosePerson: "Choose a person",
  nobody: "Nobody has such a name.",
  /** @param {number} shown @param {number} total */
  firstOf: (shown, total) => `The first ${shown} of ${total} people.`,
  peopleFailed: "The list of people could not be loaded.",
  subject: "Subject",
  message: "Message",
  send: "Send",
  /** @param {string} name */
  sent: (name) => `Sent to ${name}.`,

  announcement: "New announcement",
  heading: "Title",
  audience: "For",
  audiences: { all: "Everyone", clients: "Clients", admins: "Administrators" },
  priority: "Priority",
  priorities: { low: "Low", medium: "Normal", high: "High", critical: "Critical" },
  delivery: "Reaches",
  durable: "Also those who are away: they find it later",
  liveOnly: "Only those who are connected now",
  announce: "Announce",
  /** @param {number} count */
  stored: (count) => `Announced to ${count} ${count === 1 ? "person" : "people"}.`,
  /** @param {number} count */
  broadcast: (count) => `Sent over ${count} ${count === 1 ? "connection" : "connections"}.`,

  connections: "Who is connected",
  connectionsFailed: "The connections could not be read.",
  noConnections: "Nobody who is connected matches.",
  filter: "Filter",
  searchConnections: "Name, id or address",
  role: "Role",
  roles: { "": "All", admin: "Administrator", client: "Client" },
  columns: {
    name: "Name",
    role: "Role",
    address: "Address",
    device: "Device",
    since: "Since",
    activity: "Last activity",
    action: "Action",
  },
  unknownDevice: "Unknown",
  /** @param {string} browser @param {string} system */
  device: (browser, system) => `${browser} on ${system}`,
  disconnect: "Disconnect",
  /** @param {string} name @param {string} address */
  disconnectOf: (name, address) => `Disconnect ${name} at ${address}`,
  disconnectTitle: "Disconnect this page?",
  /** @param {string} name @param {string} address */
  disconnectMessage: (name, address) =>
    `${name} at ${address} gets nothing live there until the page is opened again.`,
  /** @param {string} name */
  disconnected: (name) => `${name} was disconnected.`,
  pages: "Pages of connections",
  previous: "Previous",
  next: "Next",
  /** @param {number} first @param {number} last @param {number} total */
  range: (first, last, total) => `${first}–${last} of ${total}`,
};
