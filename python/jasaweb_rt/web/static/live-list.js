/** Lists of the state that are read whole by HTTP, and kept current by what arrives. */

import { get } from "./api.js";
import { getState, setState } from "./store.js";

/** @typedef {import("./store.js").State} State */

/**
 * @param {string} path answers `{"items": […]}`
 * @param {"projects" | "invoices"} key where the items are in the state
 * @param {"projectsLoading" | "invoicesLoading"} loadingKey where it says how they are
 * @returns {{load: () => Promise<void>, change: (id: string, fields: object) => void}} `load` reads the list, and calls
 *   while one is under way make for one more, not many; `change` is for what has been told of one item
 */
export function liveList(path, key, loadingKey) {
  /**
   * What was told while the list was under way: its answer may be older.
   * @type {{id: string, fields: object}[] | null}
   */
  let told = null;
  let again = false;

  /** @param {object} part */
  const set = (part) => setState(/** @type {Partial<State>} */ (part));

  async function load() {
    if (told) {
      again = true;
      return;
    }
    told = [];
    if (getState()[loadingKey] === "failed") set({ [loadingKey]: "loading" });
    try {
      const { items } = await get(path);
      set({ [key]: items, [loadingKey]: "ready" });
      const meanwhile = told;
      told = null;
      for (const { id, fields } of meanwhile) change(id, fields);
    } catch {
      told = null;
      set({ [loadingKey]: "failed" });
    }
    if (again) {
      again = false;
      await load();
    }
  }

  /** @param {string} id @param {object} fields what is new of it */
  function change(id, fields) {
    told?.push({ id, fields });
    const items = getState()[key];
    if (items.some((item) => item.id === id)) {
      set({ [key]: items.map((item) => (item.id === id ? { ...item, ...fields } : item)) });
    } else if (getState()[loadingKey] === "ready" && !told) {
      void load(); // one that is not known yet
    }
  }

  return { load, change };
}
