/** Project cards: loaded once, then moved on by what arrives. */

import { patch } from "./api.js";
import { byId, element, flash, reconcile, setText, setTime } from "./dom.js";
import { liveList } from "./live-list.js";
import { loadingNotice } from "./loading.js";
import { getState, onState } from "./store.js";
import { problem, text, word } from "./text.js";
import { toast } from "./toasts.js";

/** @typedef {import("./store.js").Project} Project */

const STAGES = Object.keys(text.statuses);

const projects = liveList("/api/projects", "projects", "projectsLoading");

export const loadProjects = projects.load;

/** A project's status has changed. @param {string} id @param {string} status @param {string} at RFC 3339 */
export function moveProject(id, status, at) {
  projects.change(id, { status, updatedAt: at });
}

/** @param {Project} project @param {HTMLSelectElement} select */
async function changeStatus(project, select) {
  select.disabled = true;
  try {
    const changed = await patch(`/api/projects/${encodeURIComponent(project.id)}`, { status: select.value });
    moveProject(project.id, changed.status, changed.updatedAt);
  } catch (error) {
    toast(problem(/** @type {import("./api.js").ApiError} */ (error)), "", "high");
  }
  select.disabled = false;
  // The list may say otherwise than the select by now, and a failure left it with what was asked for.
  select.value = getState().projects.find(({ id }) => id === project.id)?.status ?? select.value;
  // Lost with `disabled`; who has gone on meanwhile keeps the new place, or would type into the select.
  if (document.activeElement === document.body) select.focus();
}

/** @param {Project} project */
function createCard(project) {
  const card = element("li", { class: "card project" });
  const name = element("h3", { class: "project-name" });
  const kind = element("p", { class: "muted project-kind" });
  const badge = element("span", { class: "badge" });
  const stages = element("div", { class: "stages", role: "img" }, ...STAGES.map(() => element("span")));
  const foot = element("p", { class: "project-foot muted" }, element("span", {}, `${text.updated} `, element("time")));
  card.append(element("div", { class: "project-head" }, element("div", {}, name, kind), badge), stages, foot);
  if (getState().user?.role === "admin") {
    const select = element("select", { "aria-label": text.statusOf(project.name) });
    for (const status of STAGES) select.append(element("option", { value: status }, word(text.statuses, status)));
    select.addEventListener("change", () => void changeStatus(project, select));
    foot.append(select);
  } else if (project.url && /^https?:\/\//i.test(project.url)) {
    foot.append(element("a", { href: project.url, rel: "noopener noreferrer", target: "_blank" }, text.openSite));
  }
  return card;
}

/** @param {Element} card @param {Project} project */
function updateCard(card, project) {
  const find = (/** @type {string} */ selector) => /** @type {HTMLElement} */ (card.querySelector(selector));
  const badge = find(".badge");
  const before = badge.dataset.status;
  setText(find(".project-name"), project.name);
  const kind = word(text.projectTypes, project.type);
  setText(find(".project-kind"), project.ownerName ? `${kind} ${text.ownedBy(project.ownerName)}` : kind);
  setText(badge, word(text.statuses, project.status));
  badge.dataset.status = project.status;
  const stage = STAGES.indexOf(project.status) + 1;
  const stages = find(".stages");
  stages.dataset.stage = String(stage);
  stages.hidden = stage === 0;
  stages.setAttribute("aria-label", text.stage(stage, STAGES.length));
  setTime(/** @type {HTMLTimeElement} */ (find("time")), project.updatedAt);
  const select = card.querySelector("select");
  if (select && !select.disabled) select.value = project.status;
  if (before !== undefined && before !== project.status) flash(card);
}

export function showProjects() {
  const notice = loadingNotice(byId("projects-status"), text.projectsFailed, text.noProjects, loadProjects);
  /** @type {Project[] | null} */
  let shown = null;
  onState(({ projects, projectsLoading, user }) => {
    notice(projectsLoading, projects.length === 0);
    setText(byId("projects-title"), user?.role === "admin" ? text.allProjects : text.projects);
    if (projects !== shown) reconcile(byId("projects"), projects, ({ id }) => id, createCard, updateCard);
    shown = projects;
  });
}
