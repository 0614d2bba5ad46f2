// The worker that holds a model: what it is sent is done one after another, but for `stop`, which is heard
// between two tokens.

import { Engine } from "./engine.js";
import { unpacked } from "./archive.js";
import { fromDisk, listed, manifest, module, published } from "./files.js";

/** Where a model's files are put. */
const PLACES = { model: "/model", base: "/base", tower: "/tower" };

let engine = null;
/** Questions that are to stop. */
const stopped = new Set();
let last = Promise.resolve();

/** Lets messages in that have come meanwhile. */
const door = new MessageChannel();
const breath = () => new Promise((done) => {
  door.port1.onmessage = done;
  door.port2.postMessage(null);
});

async function load({ site, wasm, model, base, tower, precision }, tell) {
  const said = site && await manifest(new URL("web.json", site).href);
  const address = wasm ?? new URL(said.module.path, site).href;
  const compiled = module(address, wasm ? undefined : said.module.sha256);
  // Files come while the module is compiled.
  compiled.catch(() => {});
  const parts = { model: model ?? (said?.model && { listed: said.model.files, at: new URL(`${said.model.folder}/`, site).href }), base, tower };
  const sources = Object.entries(parts).filter(([, part]) => part).map(([name, part]) => [PLACES[name], filesOf(part)]);
  const begun = sources.map(([place, files]) => [place, files, files.next()]);
  begun.forEach(([, , first]) => first.catch(() => {}));
  engine = await Engine.of(await compiled);
  for (const [place, files, first] of begun) {
    for (let next = await first; !next.done; next = await files.next()) {
      const { path, length, chunks } = next.value;
      await engine.put(`${place}/${path}`, length, counted(path, length, chunks, tell));
    }
  }
  const request = { precision: precision ?? "auto" };
  if (parts.model) request.model = PLACES.model;
  if (parts.base) request.base = PLACES.base;
  if (parts.tower) request.vision_tower = PLACES.tower;
  tell({ path: null });
  const loaded = engine.load(request);
  return { ...loaded, name: model ? undefined : said?.model?.name, memory: engine.memory };
}

function filesOf(part) {
  if (part.archive) return unpacked(part.archive);
  if (part.listed) return listed(part.at, part.listed);
  if (typeof part === "string") return published(part.endsWith("/") ? part : `${part}/`);
  return fromDisk(part);
}

async function* counted(path, length, chunks, tell) {
  let done = 0;
  let told = 0;
  for await (const chunk of chunks) {
    done += chunk.length;
    // Files of gigabytes come in pieces of kilobytes.
    if (done === length || performance.now() - told > 100) {
      told = performance.now();
      tell({ path, done, length });
    }
    yield chunk;
  }
}

async function ask(id, { request, pictures }, tell) {
  if (stopped.has(id)) return { finish: "interrupted", answer: "" };
  const { prompt_tokens } = engine.ask(request, pictures);
  let answer = "";
  let count = 0;
  for (;;) {
    await breath();
    if (stopped.has(id)) {
      engine.stop();
      return { finish: "interrupted", answer: answer.trim(), prompt_tokens, completion_tokens: count };
    }
    const { text, tokens, end } = engine.step();
    answer += text;
    count += tokens.length;
    if (text || tokens.length) tell({ text, tokens });
    if (end) return { ...end, prompt_tokens };
  }
}

const calls = {
  load: (_, given, tell) => load(given, tell),
  ask,
  reset: () => engine.reset(),
  embed: (_, { picture }) => engine.embed(picture),
  encode: (_, { text }) => engine.encode(text),
};

globalThis.onmessage = ({ data: { id, call, given } }) => {
  if (call === "stop") {
    stopped.add(given);
    return;
  }
  const tell = (event) => postMessage({ id, event });
  last = last.then(async () => {
    try {
      postMessage({ id, done: await calls[call](id, given, tell) });
    } catch (error) {
      postMessage({ id, error: error.message });
    }
    stopped.delete(id);
  });
};
