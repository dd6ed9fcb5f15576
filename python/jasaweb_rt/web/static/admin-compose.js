/** A new message to somebody. */

import { get, post } from "./api.js";
import { byId, element } from "./dom.js";
import { onSubmit } from "./forms.js";
import { text, word } from "./text.js";

/** @typedef {{id: string, name: string, role: string, email?: string}} Contact */

const PEOPLE = 50;

const words = text.admin;
let turn = 0;

/** Offers the people whose name or address holds what is being looked for. */
async function loadPeople() {
  const own = ++turn;
  const search = /** @type {HTMLInputElement} */ (byId("compose-search")).value.trim();
  const hint = byId("compose-people");
  try {
    const { items, total } = await get(`/api/users?${new URLSearchParams({ search, limit: String(PEOPLE) })}`);
    if (own !== turn) return;
    offer(items);
    hint.textContent = total === 0 ? words.nobody : items.length < total ? words.firstOf(items.length, total) : "";
  } catch {
    if (own === turn) hint.textContent = words.peopleFailed;
  }
}

/** Keeps the choice where it is among them; where there is but one, that is chosen. @param {Contact[]} people */
function offer(people) {
  const select = /** @type {HTMLSelectElement} */ (byId("compose-to"));
  const chosen = select.value;
  select.replaceChildren(
    element("option", { value: "" }, words.choosePerson),
    ...people.map(({ id, name, role, email }) =>
      element("option", { value: id }, `${name} · ${email ?? word(words.roles, role)}`),
    ),
  );
  if (people.some(({ id }) => id === chosen)) select.value = chosen;
  else if (people.length === 1) select.value = people[0].id;
}

/** @param {string} toUserId @param {string} subject @param {string} content */
export const send = (toUserId, subject, content) => post("/api/messages", { toUserId, subject, content });

export function showComposeForm() {
  const select = /** @type {HTMLSelectElement} */ (byId("compose-to"));
  byId("compose-search").addEventListener("input", () => void loadPeople());
  onSubmit(/** @type {HTMLFormElement} */ (byId("compose")), async ({ toUserId, subject, content }) => {
    const name = select.selectedOptions[0].textContent ?? "";
    await send(toUserId, subject, content);
    return words.sent(name);
  });
  byId("compose").addEventListener("reset", () => queueMicrotask(loadPeople));
  void loadPeople();
}
