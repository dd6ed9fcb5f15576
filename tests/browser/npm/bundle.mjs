// Bundles what the pages of the tests load: node bundle.mjs FOLDER-FOR-THE-FILES FOLDER-OF-OUR-STATIC-FILES
import { build } from "esbuild";
import { fileURLToPath } from "node:url";

const [outdir, statics] = process.argv.slice(2);
const here = (name) => fileURLToPath(new URL(name, import.meta.url));

const bundle = (entry, name, mode, rest = {}) =>
  build({
    entryPoints: [{ in: here(entry), out: name }],
    outdir,
    bundle: true,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    jsx: "automatic",
    define: { "process.env.NODE_ENV": JSON.stringify(mode) },
    alias: { "@/static": statics },
    logLevel: "warning",
    ...rest,
  });

await Promise.all([
  bundle("react.js", "react.development", "development"),
  bundle("react.js", "react.production", "production"),
  bundle("dashboard.jsx", "dashboard", "production"),
]);
