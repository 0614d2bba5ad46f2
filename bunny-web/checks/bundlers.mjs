// The package of npm in applications as bundlers make them: Vite's (built, and from its development server), webpack's
// and esbuild's, each asked a question in Chromium.
//
//   npm install playwright-core@1.65.1 vite@8 webpack@5 webpack-cli@7 esbuild@0.28
//   node bunny-web/checks/bundlers.mjs [FOLDER]
//
// FOLDER is what `build.sh --npm` wrote, bunny-web/dist/npm. Where the packages may be, says bunny-serve/checks/browser.mjs.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { PICTURE, openBrowser, require } from "../../bunny-serve/checks/browser.mjs";
import { host } from "./host.mjs";

const [, , folder = "bunny-web/dist/npm"] = process.argv;
const app = mkdtempSync(join(tmpdir(), "bunny-bundlers-"));
process.on("exit", () => rmSync(app, { recursive: true }));

/** A program of a package, wherever that lies. */
const program = (name, path) => require.resolve(`${name}/package.json`).replace("package.json", path);
const run = (path, ...args) => execFileSync("node", [path, ...args], { cwd: app, stdio: ["ignore", "ignore", "inherit"] });

writeFileSync(`${app}/package.json`, JSON.stringify({ private: true, type: "module" }));
mkdirSync(`${app}/node_modules`);
cpSync(folder, `${app}/node_modules/bunny-web`, { recursive: true });
writeFileSync(`${app}/app.js`, `import { Bunny } from "bunny-web";
const picture = await (await fetch("/shapes.jpg")).blob();
try {
  const bunny = await Bunny.load();
  const { answer } = await bunny.ask("What is in the picture?", { pictures: [picture] });
  document.querySelector("output").textContent = answer;
} catch (error) { document.querySelector("output").textContent = error.message; }
`);
const page = (script) => `<!doctype html><meta charset="utf-8"><output></output><script type="module" src="${script}"></script>`;
writeFileSync(`${app}/index.html`, page("/app.js"));
mkdirSync(`${app}/public`);
cpSync(PICTURE, `${app}/public/shapes.jpg`);

const { browser, page: tab, faults } = await openBrowser(60000);
async function ask(name, url) {
  const opened = performance.now();
  await tab.goto(url);
  await tab.locator("output").filter({ hasText: /./ }).waitFor();
  const said = await tab.locator("output").textContent();
  assert.match(said, /diamond/, `${name}: ${said}`);
  assert.deepEqual(faults, [], name);
  console.log(`${name}: answered ${((performance.now() - opened) / 1000).toFixed(1)} s after opening`);
}
async function askBuilt(name, out) {
  const served = await host(`${app}/${out}`, { pages: existsSync(`${app}/${out}/index.html`)
    ? { "/": readFileSync(`${app}/${out}/index.html`) } : { "/": page("/app.js"), "/shapes.jpg": readFileSync(PICTURE) } });
  await ask(name, `${served.url}/`);
  await served.close();
}

const vite = program("vite", "bin/vite.js");
run(vite, "build", "--outDir", "vite", "--logLevel", "warn");
await askBuilt("Vite, built", "vite");

const server = spawn("node", [vite, "--port", "0", "--host", "127.0.0.1", "--clearScreen", "false"], { cwd: app, stdio: ["ignore", "pipe", "inherit"] });
process.on("exit", () => server.kill());
const url = await new Promise((done) => {
  let text = "";
  server.stdout.on("data", (more) => {
    // Colours stand within the address.
    text += `${more}`.replace(/\x1b\[\d*m/g, "");
    const found = text.match(/http:\/\/127\.0\.0\.1:\d+\//);
    if (found) done(found[0]);
  });
});
await ask("Vite's development server", url);
server.kill();

run(program("webpack", "bin/webpack.js"), "--mode", "production", "--entry", "./app.js", "--output-path", `${app}/webpack`,
  "--output-filename", "app.js");
await askBuilt("webpack", "webpack");

mkdirSync(`${app}/esbuild`);
require("esbuild").buildSync({ absWorkingDir: app, entryPoints: ["app.js"], bundle: true, format: "esm", minify: true, outdir: "esbuild" });
for (const name of readdirSync(folder).filter((name) => /\.(js|gz)$/.test(name))) cpSync(`${folder}/${name}`, `${app}/esbuild/${name}`);
await askBuilt("esbuild, with the package's files beside the bundle", "esbuild");

await browser.close();
