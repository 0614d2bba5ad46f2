// The page with the model in the tab, in a browser, as a person uses it: from a host of nothing but files.
//
//   npm install playwright-core@1.65.1
//   node bunny-web/checks/page.mjs SITE
//
// SITE is what `bunny-cli web SITE` wrote. Which browser, and where the package may be, says
// bunny-serve/checks/browser.mjs.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { existsSync, readFileSync, statSync } from "node:fs";
import { extname, join, normalize } from "node:path";

import { answered, answers, ask, give, openBrowser } from "../../bunny-serve/checks/browser.mjs";
import { host } from "./host.mjs";

const [, , site] = process.argv;
const root = new URL("../../", import.meta.url).pathname;

// ---- a host of files ----

const KINDS = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".jpg": "image/jpeg" };
let requests = [];
const mounts = { "/": site, "/fixtures/": `${root}tests/fixtures/models` };

function start(port) {
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://host").pathname);
    requests.push(path);
    const mount = Object.keys(mounts).filter((mount) => path.startsWith(mount)).at(-1);
    let file = join(mounts[mount], normalize(path.slice(mount.length - 1)));
    if (path === "/mine.html") file = `${root}examples/web/index.html`;
    if (file.endsWith("/")) file += "index.html";
    if (!existsSync(file) || statSync(file).isDirectory()) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "Content-Type": KINDS[extname(file)] ?? "application/octet-stream" }).end(readFileSync(file));
  });
  return new Promise((done) => server.listen(port, "127.0.0.1", () => done(server)));
}

function stop(server) {
  server.closeAllConnections();
  return new Promise((done) => server.close(done));
}

let server = await start(0);
const { port } = server.address();
const url = `http://localhost:${port}/`;

// ---- what a person does ----

const { browser, page, faults } = await openBrowser(60000);

// A first question, as soon as the page is there, with a picture that was dropped.
const opened = performance.now();
await page.goto(url);
await give(page, "drop");
await page.locator("#pictures img").waitFor();
await ask(page, "What is in the picture?");
await answered(page, 1);
const firstAfter = (performance.now() - opened) / 1000;
const first = await answers(page).first().locator(".text").textContent();
assert.match(first, /[a-z]{3}/, first);
assert.match(await page.locator("#card").textContent(), /small world/);
assert.equal(await page.locator("#connection").textContent(), "");

// Later ones; once the page's own files are kept, nothing is asked of the host for them.
await page.evaluate(() => navigator.serviceWorker.ready);
await page.waitForFunction(async () => (await (await caches.open("bunny-page-1")).keys()).length >= 10);
requests = [];
const times = [];
for (const [at, question] of ["Where is the black diamond?", "What number is written in the picture?", "How many shapes are there?"].entries()) {
  const asked = performance.now();
  await ask(page, question);
  await answered(page, 2 + at);
  times.push(performance.now() - asked);
}
assert.deepEqual(requests, []);

// A stream: text comes in pieces, and a stop is heard between two of them.
const pieces = await page.evaluate(async () => {
  const { Bunny } = await import("./bunny.js");
  const bunny = await Bunny.load();
  const picture = await (await fetch("samples/shapes.jpg")).blob();
  const heard = [];
  const whole = await bunny.ask("What is in the picture?", { pictures: [picture], listen: (text) => heard.push(text) });
  const control = new AbortController();
  let count = 0;
  const cut = await bunny.answer([{ role: "user", text: "What is in the picture?", pictures: [picture] }], {
    min_new_tokens: 500, max_new_tokens: 500, signal: control.signal,
    listen: () => { if ((count += 1) === 5) control.abort(); },
  });
  const later = await bunny.ask("Where is the black diamond?");
  await bunny.reset();
  const fresh = await bunny.ask("What is in the picture?", { pictures: [picture] });
  const { tokens, hidden, data } = await bunny.embed(picture);
  const ids = await bunny.encode("a red circle");
  let failed;
  await bunny.answer([{ role: "user", text: "?", pictures: [new Blob(["no picture"])] }]).catch((error) => { failed = error.message; });
  bunny.close();
  return { heard, whole, cut, count, later, fresh, sides: [tokens, hidden, data.length], ids, failed, info: bunny.info };
});
assert(pieces.heard.length > 2, `${pieces.heard.length} pieces`);
assert.equal(pieces.heard.join("").trim(), pieces.whole.answer);
assert.equal(pieces.whole.answer, first.trim());
assert.equal(pieces.cut.finish, "interrupted");
assert(pieces.cut.completion_tokens < 400, `${pieces.cut.completion_tokens} tokens before the stop was heard`);
assert(pieces.later.answer.length > 0);
assert.equal(pieces.fresh.answer, pieces.whole.answer);
assert.equal(pieces.sides[0] * pieces.sides[1], pieces.sides[2]);
assert(pieces.ids.length > 1);
assert.match(pieces.failed, /picture|format/);

// Stop, on the page; a new conversation begins anew.
await page.getByRole("button", { name: "Settings" }).click();
await page.getByLabel("Temperature").fill("2");
await page.getByLabel("Longest answer").fill("2000");
await page.getByRole("button", { name: "Save" }).click();
await ask(page, "Tell me everything");
await page.keyboard.press("Escape");
await page.waitForFunction(() => document.querySelector("#stop").hidden);
await page.keyboard.press("Control+Shift+O");
assert.equal(await answers(page).count(), 0);

// Again, from what the browser kept: the host is gone.
await stop(server);
await page.reload();
await page.locator("#transcript .assistant").first().waitFor();
await page.keyboard.press("Control+Shift+O");
await give(page, "drop");
await page.locator("#pictures img").waitFor();
await page.getByRole("button", { name: "Settings" }).click();
await page.getByLabel("Temperature").fill("0");
await page.getByLabel("Longest answer").fill("512");
await page.getByRole("button", { name: "Save" }).click();
await ask(page, "What is in the picture?");
await page.waitForFunction(() => document.querySelector("#transcript .assistant:last-child .stats"));
assert.equal(await answers(page).last().locator(".text").textContent(), first);
server = await start(port);

// Another model: a published folder at an address, and one of the person's disk.
await page.goto(`${url}?model=${encodeURIComponent("fixtures/phi2-siglip-trimmed/")}`);
await page.waitForFunction(() => document.querySelector("#connection").textContent === "");
const own = await page.evaluate(async () => {
  const { Bunny } = await import("./bunny.js");
  const bunny = await Bunny.load({ model: "fixtures/phi-siglip/", precision: "f32" });
  const picture = await (await fetch("fixtures/wide.png")).blob();
  const { answer } = await bunny.ask("What is in the picture?", { pictures: [picture], max_new_tokens: 16 });
  bunny.close();
  const missing = await Bunny.load({ model: "fixtures/nowhere/" }).catch((error) => error.message);
  return { answer, missing };
});
const reference = JSON.parse(readFileSync(`${root}tests/fixtures/models/phi-siglip/expected.json`)).turns[0];
assert.equal(own.answer, reference.generated_text.trim());
assert.match(own.missing, /config\.json .*404/);
await page.locator("input[webkitdirectory]").setInputFiles(`${root}tests/fixtures/models/phi-siglip-int4`);
await page.waitForFunction(() => /million|billion/.test(document.querySelector("#card").textContent)
  && document.querySelector("#connection").textContent === "");
assert.match(await page.locator("#card").textContent(), /in this tab/);

// The example: thirty lines of somebody else's page.
await page.goto(`${url}mine.html`);
await page.locator("output").filter({ hasText: /[a-z]{3}/ }).waitFor();

// A host that says of a packed file that the packing is its own: the browser unpacks it, and its digest is another.
const unpacking = await host(site, { unpacks: true, pages: { "/blank": "<!doctype html>" } });
await page.goto(`${unpacking.url}/blank`);
const unpacked = await page.evaluate(async () => {
  const { Bunny } = await import("./bunny.js");
  const bunny = await Bunny.load();
  bunny.close();
  return bunny.info.parameters;
});
assert.equal(unpacked, pieces.info.parameters);
await unpacking.close();

assert.deepEqual(faults, []);
await browser.close();
await stop(server);
console.log(`the page is well; first answer ${firstAfter.toFixed(2)} s after opening, later ones ${times.map((time) => time.toFixed(0)).join(", ")} ms`);
console.log(JSON.stringify(pieces.info));
