// Tokenizers in WebAssembly, whose regular expressions are run by another engine than natively, and folders of every
// kind that are loaded from memory.
//
//   node bunny-web/checks/words.mjs [MODULE]
//
// The expected ids are those of bunny-core/tests/words.rs, which holds the native engine to them.

import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";

import { answer, engine, putAll } from "./node.mjs";

const [, , module = "bunny-web/dist/bunny.wasm.gz"] = process.argv;
const root = new URL("../../", import.meta.url).pathname;
const words = `${root}bunny-core/tests/fixtures/words`;
const models = `${root}tests/fixtures/models`;
const expected = JSON.parse(readFileSync(`${words}/expected.json`));
const digests = JSON.parse(readFileSync(`${words}/engines.json`));

// ---- random texts, as bunny-core/tests/words.rs makes them ----

const MASK = (1n << 64n) - 1n;

/** SplitMix64. */
class Draws {
  constructor(seed) { this.state = BigInt(seed); }
  below(count) {
    this.state = (this.state + 0x9E3779B97F4A7C15n) & MASK;
    let z = this.state;
    z = ((z ^ (z >> 30n)) * 0xBF58476D1CE4E5B9n) & MASK;
    z = ((z ^ (z >> 27n)) * 0x94D049BB133111EBn) & MASK;
    return Number((z ^ (z >> 31n)) % BigInt(count));
  }
  of(list) { return list[this.below(list.length)]; }
  within([first, last]) { return String.fromCodePoint(first + this.below(last - first + 1)); }
  several(most, one) {
    let text = "";
    for (let left = 1 + this.below(most); left > 0; left -= 1) text += one();
    return text;
  }
}

const { contractions, spaces, scripts, others, punctuation } = digests.alphabet;

function randomText(seed) {
  const draws = new Draws(seed);
  return draws.several(12, () => {
    switch (draws.below(9)) {
      case 0: return " ";
      case 1: return draws.several(8, () => draws.within([97, 122]));
      case 2: return draws.several(5, () => draws.within([48, 57]));
      case 3: return draws.of(contractions);
      case 4: return draws.several(3, () => draws.of([...punctuation]));
      case 5: return draws.of(spaces);
      case 6: { const script = draws.of(scripts); return draws.several(4, () => draws.within(script)); }
      case 7: return draws.of(others);
      default: return draws.several(3, () => draws.within([65, 90]));
    }
  });
}

// ---- tokenizers ----

/** Models whose answers are known. */
const cases = readdirSync(models).filter((name) => existsSync(`${models}/${name}/expected.json`));

/** Files that make a tokenizer: of a model that lends a make the rest, none of them counts. */
const OWN = /^(tokenizer.*|vocab|added_tokens|special_tokens_map)\.json$|^merges\.txt$/;

/** A make's tokenizer, in the built-in model, which has room for as many tokens. */
async function withTokenizer(make) {
  const other = await engine(module);
  await putAll(other, "/model", `${root}bunny-core/builtin`, (name) => !OWN.test(name));
  await putAll(other, "/model", `${words}/${make}`);
  other.load({ model: "/model" });
  return other;
}

let texts = 0;
for (const [make, parts] of Object.entries(digests.digests)) {
  const tokenizer = await withTokenizer(make);
  // Control tokens that somebody typed are words here.
  const typed = expected[make].texts.filter(({ text }) => !/<\|?\/?[a-z_]+\|?>/.test(text));
  for (const { text, ids } of typed) assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
  for (const [part, digest] of parts.entries()) {
    let found = 0x811C9DC5;
    for (let at = 0; at < digests.texts; at += 1) {
      for (const id of [...tokenizer.encode(randomText(part * digests.texts + at)), -1]) found = Math.imul(found ^ id, 0x01000193) >>> 0;
      texts += 1;
    }
    assert.equal(found, digest, `${make}: texts from ${part * digests.texts} on`);
  }
}
console.log(`${texts} random texts have the ids that they have natively`);

// ---- folders of every kind, against the ids that transformers, timm and peft say ----

let turns = 0;
for (const name of cases) {
  const one = await engine(module);
  const has = (part) => existsSync(`${models}/${name}/${part}`);
  const own = ["bunny-lora", "bunny-pretrain"].find(has);
  const request = { model: "/model", precision: "f32" };
  await putAll(one, "/model", `${models}/${name}${own ? `/${own}` : ""}`);
  if (own) {
    const tower = ["siglip-tower", "eva-clip-tower"].find(has);
    await putAll(one, "/base", `${models}/${name}/base`);
    await putAll(one, "/tower", `${models}/${name}/${tower}`);
    Object.assign(request, { base: "/base", vision_tower: "/tower" });
  }
  one.load(request);
  const { max_new_tokens, turns: asked } = JSON.parse(readFileSync(`${models}/${name}/expected.json`));
  let before = [];
  for (const { name: turn, picture, prompt, generated_ids, generated_text } of asked) {
    if (turn.endsWith(".0")) before = [];
    const text = prompt.slice(prompt.lastIndexOf("USER: ") + 6, -" ASSISTANT:".length).replace("<image>\n", "");
    const file = picture && readFileSync(`${models}/${picture}`);
    const { tokens } = answer(one, text, file, { max_new_tokens }, before);
    // Products of many rows with integers round what is multiplied, which the reference does not.
    if (/-int[48]$/.test(name)) assert(tokens.length > 0, `${name} ${turn}`);
    else assert.deepEqual(tokens.map(({ id }) => id), generated_ids, `${name} ${turn}`);
    before.push({ role: "user", text, pictures: picture ? 1 : 0 }, { role: "assistant", text: generated_text });
    turns += 1;
  }
}
console.log(`${turns} turns with ${cases.length} folders have the reference's ids`);

// ---- what is wrong is said ----

const one = await engine(module);
const says = (act, problem) => assert.throws(act, (error) => error.name === "BunnyError" && problem.test(error.message));
says(() => one.step(), /no model is loaded/);
says(() => one.load({ model: "/nowhere" }), /\/nowhere\/config\.json/);
says(() => one.load({ modle: "/model" }), /modle/);
await putAll(one, "/model", `${models}/phi-siglip`);
says(() => one.load({ model: "/model", precision: "int5" }), /int5/);
await putAll(one, "/model", `${models}/phi-siglip`);
one.load({ model: "/model" });
says(() => one.step(), /nothing was asked/);
says(() => one.ask({ messages: [] }), /user's/);
says(() => one.ask({ messages: [{ role: "user", text: "What?", pictures: 1 }] }), /picture/);
says(() => one.ask({ messages: [{ role: "user", text: "?" }], options: { temperature: 3 } }), /temperature/);
says(() => one.ask({ messages: [{ role: "user", text: "?" }], options: { heat: 3 } }), /heat/);
says(() => one.embed(new Uint8Array([1, 2, 3])), /picture|format/);
const { tokens, hidden, data } = one.embed(readFileSync(`${models}/wide.png`));
assert.equal(data.length, tokens * hidden);
assert(data.every(Number.isFinite));
console.log("what is wrong is said");

// ---- a reset gives back what a conversation held ----

const held = [];
for (let count = 0; count < 40; count += 1) {
  // Bytes behind a picture's end make it another file.
  answer(one, "What?", Buffer.concat([readFileSync(`${models}/wide.png`), Buffer.from([count])]), { max_new_tokens: 4 });
  one.reset();
  held.push(one.memory);
}
assert.equal(held.at(-1), held[4]);
console.log(`${held.at(-1)} bytes of memory after 5 conversations, and after ${held.length}`);
