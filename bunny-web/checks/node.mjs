// What the checks share: an engine in Node, and files put into it.

import { createReadStream, readFileSync, readdirSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { gunzipSync } from "node:zlib";

import { Engine } from "../js/engine.js";

/** An engine of a module, as it is or packed by gzip. */
export async function engine(file) {
  const bytes = readFileSync(file);
  return Engine.of(await WebAssembly.compile(file.endsWith(".gz") ? gunzipSync(bytes) : bytes));
}

function* filesIn(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* filesIn(path);
    else yield path;
  }
}

/** Puts the files of a folder under `at`, those that are `wanted`. */
export async function putAll(one, at, folder, wanted = () => true) {
  for (const path of filesIn(folder)) {
    const name = relative(folder, path);
    if (wanted(name)) await one.put(`${at}/${name}`, statSync(path).size, createReadStream(path));
  }
}

/** Asks one question about no or one picture, after other messages perhaps, and takes the whole answer. */
export function answer(one, text, picture, options = {}, before = []) {
  const first = before.length === 0 && picture ? 1 : 0;
  one.ask({ messages: [...before, { role: "user", text, pictures: first }], options }, picture ? [picture] : []);
  const tokens = [];
  for (;;) {
    const said = one.step();
    tokens.push(...said.tokens);
    if (said.end) return { ...said.end, tokens };
  }
}
