// The package of npm, as somebody has it who installs it: packed, installed, its types, and a question in Node and in
// Chromium: from a host of files, from another host than the page's, and in a sandbox that keeps nothing.
//
//   npm install playwright-core@1.65.1 typescript@7.0.2 @types/node@24
//   node bunny-web/checks/npm.mjs [FOLDER]
//
// FOLDER is what `build.sh --npm` wrote, bunny-web/dist/npm. Where the packages may be, says bunny-serve/checks/browser.mjs.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";

import { PICTURE, openBrowser, require } from "../../bunny-serve/checks/browser.mjs";
import { host } from "./host.mjs";

const [, , folder = "bunny-web/dist/npm"] = process.argv;
const root = new URL("../../", import.meta.url).pathname;
const app = mkdtempSync(join(tmpdir(), "bunny-npm-"));
process.on("exit", () => rmSync(app, { recursive: true }));
const run = (program, ...args) => execFileSync(program, args, { cwd: app, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });

// ---- packed and installed ----

const [packed] = JSON.parse(run("npm", "pack", resolve(folder), "--json"));
assert.equal(packed.version, readFileSync(`${root}Cargo.toml`, "utf8").match(/^version = "(.+)"$/m)[1]);
assert.deepEqual(packed.files.map(({ path }) => path).sort(), [
  "LICENSE-APACHE", "LICENSE-MIT", "README.md", "archive.js", "bunny.d.ts", "bunny.js", "bunny.wasm.gz", "engine.js", "files.js",
  "index.js", "model.tar.gz", "node-worker.js", "node.js", "package.json", "worker.js",
].sort());
writeFileSync(`${app}/package.json`, JSON.stringify({ private: true, type: "module" }));
run("npm", "install", "--offline", "--no-audit", "--no-fund", join(app, packed.filename));
for (const part of ["", "/worker", "/bunny.wasm.gz", "/model.tar.gz", "/package.json"]) {
  run("node", "-e", `import.meta.resolve("bunny-web${part}")`, "--input-type=module");
}

// ---- types ----

const types = dirname(require.resolve("@types/node/package.json"));
cpSync(`${root}bunny-web/checks/package/app.ts`, `${app}/app.ts`);
const tsc = (...args) => run("node", join(dirname(require.resolve("typescript/package.json")), "bin/tsc"), "--noEmit", "--strict",
  "--target", "es2022", ...args, "app.ts");
tsc("--module", "esnext", "--moduleResolution", "bundler", "--lib", "es2022,dom", "--types", "");
tsc("--module", "nodenext", "--lib", "es2022", "--typeRoots", dirname(types), "--types", "node");

// ---- in Node ----

cpSync(`${root}bunny-web/checks/package/node.mjs`, `${app}/node.mjs`);
const models = `${root}tests/fixtures/models`;
const said = run("node", "node.mjs", PICTURE, `${models}/wide.png`, `${models}/phi-siglip`).trim();

// ---- in a browser ----

const POLICY = "default-src 'none'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'";

/** A page that imports the module at an address, and says the answer. */
const page = (policy, address) => `<!doctype html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${policy}">
<output></output><script type="module">
  let said;
  try {
    const { Bunny } = await import("${address}");
    const bunny = await Bunny.load();
    const picture = await (await fetch("/shapes.jpg")).blob();
    said = (await bunny.ask("What is in the picture?", { pictures: [picture] })).answer;
    // Another model, at an address that answers with a page whatever is asked.
    await Bunny.load({ model: "/nothing/" }).catch((error) => { said += \` \${error.message}\`; });
  } catch (error) { said = error.message; }
  if (parent !== window) parent.postMessage(said, "*");
  document.querySelector("output").textContent = said;
</script>`;
const modules = `${app}/node_modules`;
const pages = { "/shapes.jpg": readFileSync(PICTURE), "/": page(POLICY, "/bunny-web/index.js") };
const plain = await host(modules, { pages, application: pages["/"] });
const cdn = await host(modules, { isOpen: true, unpacks: true });
const elsewhere = POLICY.replaceAll("'self'", `'self' blob: ${cdn.url}`);
pages["/elsewhere"] = page(elsewhere, `${cdn.url}/bunny-web/index.js`);
// A sandbox has an origin of its own, which has no Cache API and may only read what is open.
cdn.pages["/shapes.jpg"] = pages["/shapes.jpg"];
cdn.pages["/inner.html"] = page("", "/bunny-web/index.js");
pages["/sandbox"] = `<!doctype html><output></output><script>
  addEventListener("message", ({ data }) => { document.querySelector("output").textContent = data; });
</script><iframe sandbox="allow-scripts" src="${cdn.url}/inner.html"></iframe>`;

const { browser, page: tab, faults } = await openBrowser(60000);
const seconds = {};
for (const path of ["/", "/elsewhere", "/sandbox"]) {
  const opened = performance.now();
  await tab.goto(plain.url + path);
  await tab.locator("output").filter({ hasText: /./ }).waitFor();
  const text = await tab.locator("output").textContent();
  assert(text.startsWith(said), `${path}: ${text}`);
  assert.match(text, /nothing\/config\.json cannot be fetched: the host answers (with a page|404)/);
  seconds[path] = ((performance.now() - opened) / 1000).toFixed(1);
}
assert.deepEqual(faults, []);

// What was kept of a folder is held against the host, and is what there is where the host is gone.
const folders = await host(models, { isOpen: true });
const load = (model) => tab.evaluate(async ([address, model]) => {
  const { Bunny } = await import(address);
  const bunny = await Bunny.load({ model });
  bunny.close();
  return bunny.info.parameters;
}, [`${plain.url}/bunny-web/index.js`, model]);
pages["/free"] = "<!doctype html><title>a page without a policy</title>";
await tab.goto(`${plain.url}/free`);
const parameters = await load(`${folders.url}/phi-siglip/`);
folders.requests.length = 0;
assert.equal(await load(`${folders.url}/phi-siglip/`), parameters);
assert.deepEqual(folders.requests.filter((request) => !request.startsWith("HEAD ")), []);
folders.pages["/phi-siglip/config.json"] = "{ it changed }";
await assert.rejects(load(`${folders.url}/phi-siglip/`), /JSON/);
delete folders.pages["/phi-siglip/config.json"];
assert.equal(await load(`${folders.url}/phi-siglip/`), parameters);
await folders.close();
assert.equal(await load(`${folders.url}/phi-siglip/`), parameters);

await browser.close();
await Promise.all([plain.close(), cdn.close()]);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`;
console.log(`the package is well: ${megabytes(packed.size)} packed, ${megabytes(packed.unpackedSize)} on disk`);
console.log(`seconds to the first answer: ${JSON.stringify(seconds)}`);
