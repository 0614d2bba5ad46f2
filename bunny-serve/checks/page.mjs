// The page in a browser, as a person uses it, against the built-in model.
//
//   npm install playwright-core@1.65.1 axe-core@4.14.1
//   node bunny-serve/checks/page.mjs target/release/bunny-cli [SCREENSHOT.png]
//
// Which browser, and where packages may be, says browser.mjs.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { once } from "node:events";

import { PICTURE, answered, answers, ask, give, openBrowser, require } from "./browser.mjs";

const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const EXAMPLES = new URL("../../examples", import.meta.url).pathname;
const [, , bunny, screenshot] = process.argv;

async function serve(...options) {
  const server = spawn(bunny, ["serve", ...options], { stdio: ["ignore", "pipe", "inherit"] });
  process.on("exit", () => server.kill());
  const [line] = await once(server.stdout.setEncoding("utf8"), "data");
  return { server, url: line.split(" ")[0] };
}

async function end({ server }) {
  server.kill("SIGINT");
  await once(server, "exit");
}

async function nothingSerious(page, where) {
  // The policy lets no script in but the page's own; this one comes by the debugger.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run());
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), [], where);
}

/** Fills fields of the settings; whether they are still open after that. */
async function set(values, way = "Save") {
  await page.getByRole("button", { name: "Settings" }).click();
  for (const [label, value] of Object.entries(values)) await page.getByLabel(label).fill(value);
  if (way === "Save") await page.getByRole("button", { name: "Save" }).click();
  else await page.keyboard.press(way);
  return page.locator("#settings").evaluate((dialog) => dialog.open);
}

let running = await serve("--port", "0");
const { url } = running;
const port = new URL(url).port;
const { browser, page, faults } = await openBrowser(15000);

await page.goto(url);
await page.locator("#samples img").first().waitFor();
await nothingSerious(page, "at first");
assert.match(await page.locator("#card").textContent(), /small world/);

// A first question, with a picture that was dropped.
await give(page, "drop");
await page.locator("#pictures img").waitFor();
await ask(page, "What is in the picture?");
await answered(page, 1);
const first = await answers(page).first().locator(".text").textContent();
assert(first.length > 3, first);
assert.match(await page.locator(".stats").first().textContent(), /tokens\/s/);
await nothingSerious(page, "with an answer");
if (screenshot) await page.screenshot({ path: screenshot });

// A second one; a third with a picture that was pasted, taken away and chosen in the dialog.
await ask(page, "What number is written in the picture?");
await answered(page, 2);
await give(page, "paste");
await page.getByRole("button", { name: "Remove shapes.jpg" }).click();
assert.equal(await page.locator("#pictures img").count(), 0);
await page.locator("#file").setInputFiles(PICTURE);
await ask(page, "Where is the black diamond?");
await answered(page, 3);

// Stop, by button and by key; words of a model are words, whatever they look like.
await set({ Temperature: "2" });
await page.evaluate(() => {
  // A slow answer of one's own: the built-in model's are over at once.
  const real = window.fetch;
  window.fetch = (address, options) => {
    if (!String(address).includes("chat/completions")) return real(address, options);
    const encoder = new TextEncoder();
    const event = (content) => encoder.encode(`data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`);
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(event("<img src=x onerror=alert(1)> **bold** [a](javascript:alert(1)) [b](https://example.com)"));
        options.signal.addEventListener("abort", () => controller.error(new DOMException("", "AbortError")));
      },
    });
    return Promise.resolve(new Response(body));
  };
});
await ask(page, "Go on");
await page.locator("#transcript strong").waitFor();
assert.equal(await page.locator("#transcript .assistant img").count(), 0);
assert.equal(await page.locator("#transcript .assistant a").count(), 1);
await page.keyboard.press("Escape");
await page.getByText("stopped").waitFor();

// Another conversation while an answer runs can be asked at once, by whatever way it was come to, and what had been
// said stays with the one that was left; one that is deleted stays so.
const nothingRuns = async () => {
  assert(await page.locator("#send").isVisible(), "nothing can be sent");
  assert(await page.locator("#stop").isHidden(), "there is something to stop");
};
const listed = (title) => page.locator("#chats li", { has: page.getByRole("button", { name: title, exact: true }) });
const leaving = {
  "walking off by button": () => page.getByRole("button", { name: "New conversation" }).click(),
  "walking off by key": () => page.keyboard.press("Control+Shift+O"),
  "walking off to another": () => listed("walking off by key").locator(".open").click(),
};
await leaving["walking off by button"]();
for (const [title, leave] of Object.entries(leaving)) {
  await ask(page, title);
  await page.locator("#transcript strong").waitFor();
  await leave();
  await page.waitForFunction((title) => document.querySelector("#transcript .user")?.textContent.includes(title) !== true, title);
  await nothingRuns();
}
await page.getByText("stopped").waitFor();
await page.getByRole("button", { name: "Regenerate" }).click();
await listed("walking off by key").locator(".open").click();
assert(await page.locator("#stop").isVisible(), "an answer ends where its own conversation is opened");
for (const title of Object.keys(leaving)) await page.getByRole("button", { name: `Delete ${title}` }).click();
await page.waitForFunction(() => document.querySelectorAll("#chats li").length === 1);
await nothingRuns();
// What was kept after all would be here by now.
await page.waitForTimeout(200);
await page.locator("#search").fill("walking off");
await page.waitForFunction(() => document.querySelectorAll("#chats li").length === 0);
await page.locator("#search").fill("");

// What was said is still there after a reload, and can be found, exported, asked again and changed.
await page.reload();
await page.locator("#transcript .assistant").nth(3).waitFor();
assert.equal(await answers(page).first().locator(".text").textContent(), first);
assert(await page.locator("#transcript .user img").count() === 2);
await page.locator("#search").fill("diamond");
assert.equal(await page.locator("#chats li").count(), 1);
await page.locator("#search").fill("no such words");
await page.waitForFunction(() => document.querySelectorAll("#chats li").length === 0);
await page.locator("#search").fill("");
const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export" }).click()]);
const exported = JSON.parse(readFileSync(await download.path(), "utf8"));
assert.equal(exported.chats[0].turns.length, 8);
assert(exported.chats[0].turns[0].pictures[0].startsWith("data:image/jpeg;base64,"));
await page.getByRole("button", { name: "Regenerate" }).click();
await answered(page, 4);
await page.getByRole("button", { name: "Edit" }).click();
assert.equal(await page.locator("#question").inputValue(), "Go on");

// Pictures of kinds that the server refuses are converted, whatever is said of them; what cannot be is refused before
// it is asked about.
const add = (...files) => page.locator("#file").setInputFiles(
  files.map(([name, mimeType, bytes]) => ({ name, mimeType, buffer: Buffer.from(bytes) })));
const sent = async (question) => {
  const [request] = await Promise.all([page.waitForRequest("**/chat/completions"), ask(page, question)]);
  const parts = request.postDataJSON().messages.flatMap(({ content }) => content);
  return parts.map(({ text, image_url }) => text ?? image_url?.url.split(",")[0]);
};
const bitmap = [
  ..."BM", 70, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 24, 0, ...Array(40).fill(0),
].map((byte) => byte.charCodeAt?.() ?? byte);
const drawing = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 1"><circle r="1" fill="red"/></svg>';
await page.getByRole("button", { name: "New conversation" }).click();
await add(
  ["a.bmp", "image/bmp", bitmap], ["b", "", bitmap], ["c.png", "image/png", bitmap],
  ["d.svg", "image/svg+xml", drawing], ["e", "", drawing], ["f", "", readFileSync(PICTURE)],
);
const [png, jpeg] = ["data:image/png;base64", "data:image/jpeg;base64"];
assert.deepEqual(await sent("What are these?"), [png, png, png, png, png, jpeg, "What are these?"]);
await answered(page, 1);
await page.locator("#question").fill("And these?");
await page.evaluate(() => {
  const data = new DataTransfer();
  data.items.add(new File(["\0\0\0\x18ftypheic"], "h.heic", { type: "image/heic" }));
  data.items.add(new File(["words"], "i.txt", { type: "text/plain" }));
  data.items.add(new File(["more words"], "j"));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
  document.querySelector("#composer").requestSubmit();
});
await page.locator("#notice", { hasText: /h\.heic is no .*i\.txt is no .*j is no / }).waitFor();
assert.equal(await page.locator("#pictures li").count(), 0);
assert.equal(await page.locator("#question").inputValue(), "And these?");

// Settings: what is empty is as if it were not set, what is wrong cannot be saved, and Escape saves nothing.
assert.equal(await set({ Temperature: "", "Top p": "", "Longest answer": "", Seed: "" }), false);
const [request] = await Promise.all([page.waitForRequest("**/chat/completions"), ask(page, "And how many?")]);
const { temperature, top_p, max_tokens, seed } = request.postDataJSON();
assert.deepEqual([temperature, top_p, max_tokens, seed], [0, 1, 512, undefined]);
await answered(page, 2);
for (const wrong of [{ Temperature: "3" }, { "Top p": "0" }, { "Longest answer": "0" }, { "Longest answer": "1.5" }, { Seed: "-1" }]) {
  assert.equal(await set(wrong), true, JSON.stringify(wrong));
  await page.keyboard.press("Escape");
}
assert.equal(await set({ "Longest answer": "0" }, "Escape"), false);
await page.getByRole("button", { name: "Settings" }).click();
assert.deepEqual(await page.locator("#settings input[type=number]").evaluateAll((fields) => fields.map(({ value }) => value)), ["0", "1", "512", ""]);
await page.keyboard.press("Escape");

// What fails spoils nothing that is asked later.
await page.getByRole("button", { name: "New conversation" }).click();
await add(["half.jpg", "image/jpeg", readFileSync(PICTURE).subarray(0, 200)]);
await ask(page, "What is in the half?");
await page.locator(".failed", { hasText: "cannot be read" }).waitFor();
assert.deepEqual(await sent("What is a circle?"), ["What is a circle?"]);
await answered(page, 1);
await nothingSerious(page, "with a failure");

// The server goes, and comes back.
await page.getByRole("button", { name: "New conversation" }).click();
await end(running);
await ask(page, "Is anybody there?");
await page.locator(".failed", { hasText: "The server does not answer." }).waitFor();
assert.match(await page.locator("#connection").textContent(), /no connection/);
await nothingSerious(page, "without a server");
running = await serve("--port", port, "--api-key", "secret");
await page.waitForFunction(() => document.querySelector("#connection").textContent === "");
await page.getByRole("button", { name: "Try again" }).click();
await page.locator(".failed", { hasText: "key" }).waitFor();
await page.getByRole("button", { name: "Settings" }).click();
await nothingSerious(page, "in the settings");
await page.keyboard.press("Escape");
await set({ Key: "secret" });
await page.getByRole("button", { name: "Try again" }).click();
await page.waitForFunction(() => document.querySelectorAll(".failed").length === 0);
await page.keyboard.press("Control+Shift+O");
assert.equal(await answers(page).count(), 0);

// The examples that need no packages: what is asked may hold what JSON and shells take for their own.
const question = 'What is "in"\tthe picture,\n\na \\n or $HOME?';
const [bySh, byNode] = [["sh", "ask.sh"], [process.execPath, "ask.mjs"]].map(([program, example]) => execFileSync(
  program, [`${EXAMPLES}/${example}`, PICTURE, question],
  { env: { ...process.env, BUNNY_SERVER: url, BUNNY_KEY: "secret" }, encoding: "utf8" },
));
assert(bySh.includes('"choices"'), bySh);
assert.equal(JSON.parse(bySh).choices[0].message.content, byNode.trimEnd());

// In the dark, on a telephone.
await page.emulateMedia({ colorScheme: "dark", reducedMotion: "reduce" });
await page.setViewportSize({ width: 320, height: 640 });
await nothingSerious(page, "in the dark");
assert(await page.evaluate(() => document.documentElement.scrollWidth <= 320), "it scrolls sideways");
await page.getByRole("button", { name: "Conversations" }).click();
await page.locator("#chats .open").first().click();
await answers(page).first().waitFor();
assert.deepEqual(faults, []);
await end(running);
await browser.close();
console.log("the page is well");
