/** A new message to somebody, found by name or address. */

import { get, post } from "./api.js";
import { byId, element } from "./dom.js";
import { onSubmit } from "./forms.js";
import { text } from "./text.js";

/** @typedef {{id: string, name: string, email: string}} Contact as administrators see it */

const PEOPLE = 50;

const words = text.admin;
let turn = 0;
/** Who is offered. @type {Contact[]} */
let people = [];

/** Offers the people whose name or address holds what is being looked for. */
async function loadPeople() {
  const own = ++turn;
  const search = /** @type {HTMLInputElement} */ (byId("compose-search")).value.trim();
  const hint = byId("compose-people");
  try {
    const { items, total } = await get(`/api/users?${new URLSearchParams({ search, limit: String(PEOPLE) })}`);
    if (own !== turn) return;
    people = items;
    offer();
    const nobody = search ? words.nobody : text.noContacts;
    hint.textContent = total === 0 ? nobody : items.length < total ? words.firstOf(items.length, total) : "";
  } catch {
    if (own === turn) hint.textContent = text.contactsFailed;
  }
}

/** Keeps the choice where it is among them; where there is but one, that is chosen. */
function offer() {
  const select = /** @type {HTMLSelectElement} */ (byId("compose-to"));
  const chosen = select.value;
  select.replaceChildren(
    element("option", { value: "" }, text.chooseRecipient),
    ...people.map(({ id, name, email }) => element("option", { value: id }, `${name} · ${email}`)),
  );
  if (people.some(({ id }) => id === chosen)) select.value = chosen;
  else if (people.length === 1) select.value = people[0].id;
}

export function showComposeForm() {
  byId("compose-search").addEventListener("input", () => void loadPeople());
  onSubmit(/** @type {HTMLFormElement} */ (byId("compose")), async (values) => {
    const name = people.find(({ id }) => id === values.toUserId)?.name ?? "";
    await post("/api/messages", values);
    return text.sent(name);
  });
  // The fields are empty only after this event.
  byId("compose").addEventListener("reset", () => queueMicrotask(loadPeople));
  void loadPeople();
}
