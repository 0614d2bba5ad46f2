// A browser with the page in it, and what a person does there: for the checks of the page, whoever answers behind it.
//
// Takes Debian's Chromium (apt install chromium), or the one that CHROMIUM names. NODE_PATH says where the packages
// are, if not beside this folder.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

/** Finds packages that npm installed. */
export const require = createRequire(process.env.NODE_PATH ? `${process.env.NODE_PATH}/x.js` : import.meta.url);

export const PICTURE = new URL("../../examples/pictures/shapes.jpg", import.meta.url).pathname;

/** A browser, an empty page that waits for `timeout` milliseconds at most, and the faults that the page will have. */
export async function openBrowser(timeout) {
  const { chromium } = require("playwright-core");
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  const context = await browser.newContext({ viewport: { width: 1000, height: 560 } });
  const page = await context.newPage();
  page.setDefaultTimeout(timeout);
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => {
    // What a browser says of a host that is gone.
    const expected = /Failed to load resource|ERR_CONNECTION|ERR_INTERNET/;
    if (message.type() === "error" && !expected.test(message.text())) faults.push(message.text());
  });
  return { browser, page, faults };
}

/** Has the picture dropped on the page, or pasted. */
export async function give(page, how) {
  await page.evaluate(([base64, how]) => {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], "shapes.jpg", { type: "image/jpeg" }));
    const event = how === "drop"
      ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
      : new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
    document.body.dispatchEvent(event);
  }, [readFileSync(PICTURE, "base64"), how]);
}

export async function ask(page, text) {
  await page.locator("#question").fill(text);
  await page.keyboard.press("Enter");
}

export const answers = (page) => page.locator("#transcript .assistant");

/** Waits for that many answers to have ended. */
export const answered = (page, count) => page.waitForFunction((count) =>
  document.querySelectorAll("#transcript .assistant .stats").length === count, count);
