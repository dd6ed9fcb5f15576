/** Requests to this server: JSON in and out, with the CSRF header, within a time limit. */

const TIMEOUT = 15_000; // ms

/** An answer that is not 2xx, with the server's own sentence; status 0: there was no answer. */
export class ApiError extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** @param {string} path */
export const get = (path) => request("GET", path);
/** @param {string} path @param {object} [body] */
export const post = (path, body) => request("POST", path, body);
/** @param {string} path @param {object} body */
export const patch = (path, body) => request("PATCH", path, body);
/** @param {string} path */
export const remove = (path) => request("DELETE", path);

/**
 * @param {string} method
 * @param {string} path
 * @param {object} [body]
 * @returns {Promise<any>} the answer's JSON; null where it has none
 */
async function request(method, path, body) {
  /** @type {Record<string, string>} */
  const headers = { accept: "application/json" };
  if (method !== "GET") headers["x-csrftoken"] = csrfToken();
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  let answer;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT),
    });
    const content = await response.text();
    answer = response.headers.get("content-type")?.includes("json") ? JSON.parse(content) : null;
  } catch {
    throw new ApiError(0, "");
  }
  if (!response.ok) throw new ApiError(response.status, typeof answer?.error === "string" ? answer.error : "");
  return answer;
}

export const csrfToken = () => cookie("csrftoken");

/** @param {string} name */
function cookie(name) {
  const pair = document.cookie.split("; ").find((part) => part.startsWith(`${name}=`));
  return pair ? decodeURIComponent(pair.slice(name.length + 1)) : "";
}
