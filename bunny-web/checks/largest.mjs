// How large a model a tab holds: folders of random weights with the sizes of published ones, language model in four
// bits, loaded in Chromium and asked a question, and about a picture where that is said.
//
//   node bunny-web/checks/largest.mjs SITE FOLDER [phi-1.5 | phi-2] [picture]
//
// Writes up to 4 GB to FOLDER. Needs what page.mjs needs.

import { createServer } from "node:http";
import { cpSync, createReadStream, existsSync, mkdirSync, openSync, closeSync, readFileSync, statSync, writeFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { extname, join } from "node:path";
import { randomBytes } from "node:crypto";

const require = createRequire(process.env.NODE_PATH ? `${process.env.NODE_PATH}/x.js` : import.meta.url);
const { chromium } = require("playwright-core");

const [, , site, folder, size = "phi-1.5", shown] = process.argv;
const root = new URL("../../", import.meta.url).pathname;
const { layers, hidden, inner, heads, rows } = {
  "phi-1.5": { layers: 24, hidden: 2048, inner: 8192, heads: 32, rows: 51200 },
  "phi-2": { layers: 32, hidden: 2560, inner: 10240, heads: 32, rows: 51200 },
}[size];
/** SigLIP so400m of 384 pixels. */
const tower = { layers: 27, hidden: 1152, inner: 4304, heads: 16, image: 384, patch: 14 };
const SHARD = 1.5e9;

function tensors() {
  const list = [];
  const float = (name, ...shape) => list.push({ name, dtype: "F16", shape, bytes: 2 * shape.reduce((a, b) => a * b, 1) });
  const packed = (name, out, inner) => {
    list.push({ name: `${name}.weight_packed`, dtype: "I32", shape: [out, inner / 8], bytes: out * inner / 2 });
    float(`${name}.weight_scale`, out, inner / 32);
    list.push({ name: `${name}.weight_shape`, dtype: "I64", shape: [2], bytes: 16, sides: [out, inner] });
  };
  const norm = (name, width) => { float(`${name}.weight`, width); float(`${name}.bias`, width); };
  const linear = (name, out, inner) => { float(`${name}.weight`, out, inner); float(`${name}.bias`, out); };
  float("model.embed_tokens.weight", rows, hidden);
  float("lm_head.weight", rows, hidden);
  norm("model.final_layernorm", hidden);
  for (let layer = 0; layer < layers; layer += 1) {
    const at = `model.layers.${layer}`;
    norm(`${at}.input_layernorm`, hidden);
    for (const [name, out, from] of [["mlp.fc1", inner, hidden], ["mlp.fc2", hidden, inner],
      ...["q_proj", "k_proj", "v_proj", "dense"].map((name) => [`self_attn.${name}`, hidden, hidden])]) {
      packed(`${at}.${name}`, out, from);
      float(`${at}.${name}.bias`, out);
    }
  }
  linear("model.mm_projector.0", hidden, tower.hidden);
  linear("model.mm_projector.2", hidden, hidden);
  const vision = "model.vision_tower.vision_tower.vision_model";
  float(`${vision}.embeddings.patch_embedding.weight`, tower.hidden, 3, tower.patch, tower.patch);
  float(`${vision}.embeddings.patch_embedding.bias`, tower.hidden);
  float(`${vision}.embeddings.position_embedding.weight`, Math.floor(tower.image / tower.patch) ** 2, tower.hidden);
  norm(`${vision}.post_layernorm`, tower.hidden);
  for (let layer = 0; layer < tower.layers - 1; layer += 1) {
    const at = `${vision}.encoder.layers.${layer}`;
    norm(`${at}.layer_norm1`, tower.hidden);
    norm(`${at}.layer_norm2`, tower.hidden);
    linear(`${at}.mlp.fc1`, tower.inner, tower.hidden);
    linear(`${at}.mlp.fc2`, tower.hidden, tower.inner);
    for (const name of ["q_proj", "k_proj", "v_proj", "out_proj"]) linear(`${at}.self_attn.${name}`, tower.hidden, tower.hidden);
  }
  return list;
}

/** Bytes of a tensor: integers of any kind, floats of about 0.01. */
function* content({ dtype, bytes, sides }) {
  if (sides) {
    const words = Buffer.alloc(16);
    sides.forEach((side, at) => words.writeBigInt64LE(BigInt(side), 8 * at));
    yield words;
    return;
  }
  const some = randomBytes(1 << 20);
  // Half precision: 0x20xx is about 0.008, with either sign.
  if (dtype === "F16") for (let at = 1; at < some.length; at += 2) some[at] = 0x20 | (some[at] & 0x80);
  for (let left = bytes; left > 0; left -= some.length) yield some.subarray(0, Math.min(left, some.length));
}

function write() {
  const fixture = `${root}tests/fixtures/models/phi-siglip-int4`;
  mkdirSync(`${folder}/siglip-tower`, { recursive: true });
  for (const name of ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]) cpSync(`${fixture}/${name}`, `${folder}/${name}`);
  const json = (name) => JSON.parse(readFileSync(`${fixture}/${name}`));
  writeFileSync(`${folder}/config.json`, JSON.stringify({
    ...json("config.json"), hidden_size: hidden, intermediate_size: inner, num_attention_heads: heads, num_key_value_heads: heads,
    num_hidden_layers: layers, vocab_size: rows, max_position_embeddings: 2048, mm_hidden_size: tower.hidden,
  }));
  writeFileSync(`${folder}/siglip-tower/config.json`, JSON.stringify({
    ...json("siglip-tower/config.json"), hidden_size: tower.hidden, intermediate_size: tower.inner, image_size: tower.image,
    num_attention_heads: tower.heads, num_hidden_layers: tower.layers,
  }));
  const shards = [[]];
  let filled = 0;
  for (const tensor of tensors()) {
    if (filled + tensor.bytes > SHARD) { shards.push([]); filled = 0; }
    shards.at(-1).push(tensor);
    filled += tensor.bytes;
  }
  const map = {};
  for (const [at, shard] of shards.entries()) {
    const name = `model-${String(at + 1).padStart(5, "0")}-of-${String(shards.length).padStart(5, "0")}.safetensors`;
    const header = {};
    let offset = 0;
    for (const { name: tensor, dtype, shape, bytes } of shard) {
      header[tensor] = { dtype, shape, data_offsets: [offset, offset + bytes] };
      offset += bytes;
      map[tensor] = name;
    }
    let text = JSON.stringify(header);
    text += " ".repeat((8 - text.length % 8) % 8);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    const file = openSync(`${folder}/${name}`, "w");
    writeSync(file, length);
    writeSync(file, text);
    for (const tensor of shard) for (const bytes of content(tensor)) writeSync(file, bytes);
    closeSync(file);
  }
  writeFileSync(`${folder}/model.safetensors.index.json`, JSON.stringify({ weight_map: map }));
}

if (!existsSync(`${folder}/model.safetensors.index.json`)) write();

const KINDS = { ".html": "text/html", ".js": "text/javascript", ".json": "application/json" };
const server = createServer((request, response) => {
  const path = new URL(request.url, "http://host").pathname;
  let file = path.startsWith("/large/") ? join(folder, path.slice(7)) : join(site, path);
  if (file.endsWith("/")) file += "index.html";
  if (!existsSync(file) || statSync(file).isDirectory()) return void response.writeHead(404).end();
  response.writeHead(200, { "Content-Type": KINDS[extname(file)] ?? "application/octet-stream", "Content-Length": statSync(file).size });
  createReadStream(file).pipe(response);
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const page = await (await browser.newContext()).newPage();
await page.goto(`http://localhost:${server.address().port}/page.json`);
page.setDefaultTimeout(0);
const said = await page.evaluate(async (isShown) => {
  const { Bunny } = await import("/bunny.js");
  const started = performance.now();
  try {
    const bunny = await Bunny.load({ model: "/large/" });
    const loaded = (performance.now() - started) / 1000;
    const pictures = isShown ? [await (await fetch("/samples/shapes.jpg")).blob()] : [];
    const answer = await bunny.ask("What is in the picture?", { pictures, max_new_tokens: 8, min_new_tokens: 8 });
    return { loaded, info: bunny.info, ...answer };
  } catch (error) {
    return { error: error.message, seconds: (performance.now() - started) / 1000 };
  }
}, shown === "picture");
console.log(size, JSON.stringify(said));
await browser.close();
server.close();
