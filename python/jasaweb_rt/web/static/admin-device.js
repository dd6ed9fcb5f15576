/** What a connection runs on, told from its `User-Agent`: a guess to recognise it by, and no more. */

import { text } from "./text.js";

// Browsers claim to be older ones, so the more particular name comes first.
/** @type {[string, RegExp][]} */
const BROWSERS = [
  ["Edge", /\bEdg(e|A|iOS)?\//],
  ["Opera", /\b(OPR|Opera)\//],
  ["Samsung Internet", /\bSamsungBrowser\//],
  ["Firefox", /\b(Firefox|FxiOS)\//],
  ["Chrome", /\b(Headless)?(Chrome|CriOS)\//],
  ["Safari", /\bSafari\//],
];
/** @type {[string, RegExp][]} */
const SYSTEMS = [
  ["iOS", /\b(iPhone|iPad|iPod)\b/],
  ["Android", /\bAndroid\b/],
  ["Windows", /\bWindows\b/],
  ["ChromeOS", /\bCrOS\b/],
  ["macOS", /\bMac OS X\b/],
  ["Linux", /\bLinux\b/],
];

/** @param {string | null} userAgent */
export function deviceName(userAgent) {
  if (!userAgent) return text.admin.unknownDevice;
  const find = (/** @type {[string, RegExp][]} */ table) => table.find(([, pattern]) => pattern.test(userAgent))?.[0];
  const browser = find(BROWSERS);
  const system = find(SYSTEMS);
  // Programs begin with their own name and version (RFC 9110 section 10.1.5).
  const name = browser ?? userAgent.split(/[\s/]/, 1)[0].slice(0, 40);
  return system ? text.admin.device(name, system) : name;
}
