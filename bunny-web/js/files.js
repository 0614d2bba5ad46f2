// A model's files: from a folder on a host, kept by the browser (Cache API), or from the person's disk.

import { BunnyError } from "./engine.js";

/** Where the browser keeps what was fetched. */
const CACHE = "bunny-1";
/** What is read whole while it is put into the cache; larger files go through the disk. */
const SMALL = 64e6;

/** What lies beside weights, if it is there. */
const BESIDE = [
  "generation_config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json",
  "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "adapter_config.json",
];
/** Weights: the first of each line that is there. */
const WEIGHTS = [
  ["model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin"],
  ["adapter_model.safetensors", "adapter_model.bin"],
  ["non_lora_trainables.safetensors", "non_lora_trainables.bin"],
  ["mm_projector.safetensors", "mm_projector.bin"],
];

async function cache() {
  // Pages from neither HTTPS nor localhost have none, nor do some private windows.
  return "caches" in globalThis ? caches.open(CACHE).catch(() => null) : null;
}

/** A file that is known by its digest, and so fetched once. */
async function pinned(address, path, digest) {
  const key = `${address}?sha256=${digest}`;
  const kept = await cache();
  const known = await kept?.match(key);
  if (known) return file(path, known);
  const response = await answered(address, "no-cache");
  const bytes = new Uint8Array(await response.arrayBuffer());
  // Pages from neither HTTPS nor localhost cannot tell.
  if (crypto.subtle && hex(await crypto.subtle.digest("SHA-256", bytes)) !== digest) {
    throw new BunnyError(`${address} is not the file that web.json names: the host has parts of two versions`);
  }
  kept?.put(key, new Response(bytes, { headers: { "Content-Length": bytes.length } }))
    .then(() => forgetOthers(kept, key, address)).catch(() => {});
  return { path, length: bytes.length, chunks: [bytes] };
}

const hex = (digest) => [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** Forgets what a host had at an address before. */
async function forgetOthers(kept, key, address) {
  for (const other of await kept.keys()) {
    if (other.url.split("?")[0] === address && other.url !== key) await kept.delete(other);
  }
}

async function answered(address, cache) {
  let response;
  try {
    response = await fetch(address, { cache });
  } catch (error) {
    throw new BunnyError(`${address} cannot be fetched: ${error.message}`);
  }
  if (!response.ok) throw new BunnyError(`${address} cannot be fetched: the host answers ${response.status}`);
  return response;
}

/** A file of a published folder, fetched once; null where an optional one is not there. */
async function fetched(address, path, optional) {
  const kept = await cache();
  const known = await kept?.match(address);
  if (known) return file(path, known);
  let response;
  try {
    response = await answered(address, "default");
  } catch (error) {
    // Offline, what is not kept is not there.
    if (optional) return null;
    throw error;
  }
  if (!kept) return file(path, response);
  try {
    if (Number(response.headers.get("Content-Length") ?? 0) < SMALL) {
      kept.put(address, response.clone()).catch(() => {});
      return file(path, response);
    }
    await kept.put(address, response);
    return file(path, await kept.match(address));
  } catch {
    // There is no room to keep it.
    return file(path, response.bodyUsed ? await answered(address, "default") : response);
  }
}

async function file(path, response) {
  // A host that compresses says the length of what it sends, which is another one.
  const said = response.headers.get("Content-Encoding") ? null : response.headers.get("Content-Length");
  if (said === null) {
    const bytes = new Uint8Array(await response.arrayBuffer());
    return { path, length: bytes.length, chunks: [bytes] };
  }
  return { path, length: Number(said), chunks: chunks(response.body) };
}

async function* chunks(stream) {
  const reader = stream.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield value;
  }
}

async function whole({ length, chunks }) {
  const bytes = new Uint8Array(length);
  let at = 0;
  for await (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

/** The WebAssembly module at an address, as it is or packed by gzip. */
export async function module(address, digest) {
  const bytes = await whole(digest ? await pinned(address, "the module", digest) : await file("the module", await answered(address, "default")));
  const isPacked = bytes[0] === 0x1f && bytes[1] === 0x8b;
  const stream = new Blob([bytes]).stream();
  const plain = isPacked ? stream.pipeThrough(new DecompressionStream("gzip")) : stream;
  return WebAssembly.compileStreaming(new Response(plain, { headers: { "Content-Type": "application/wasm" } }));
}

/** What `bunny-cli web` wrote beside a page; what it wrote there before, where the host cannot be reached. */
export async function manifest(address) {
  const kept = await cache();
  let response;
  try {
    response = await answered(address, "no-cache");
    await kept?.put(address, response.clone()).catch(() => {});
  } catch (error) {
    response = await kept?.match(address);
    if (!response) throw error;
  }
  const said = await response.json();
  if (said.format_version !== 1) throw new BunnyError(`${address} is of format ${said.format_version}, which is newer than this page`);
  return said;
}

/** The files of a folder whose manifest says what is there, each with its path in the folder. */
export async function* listed(base, files) {
  // All at once: most are small.
  const coming = files.map(({ path, sha256 }) => pinned(new URL(path, base).href, path, sha256));
  coming.forEach((one) => one.catch(() => {}));
  for (const one of coming) yield await one;
}

/** The files of a published folder at an address: `config.json` and what belongs to it. */
export async function* published(base) {
  const at = (path) => new URL(path, base).href;
  const get = (path, optional = true) => fetched(at(path), path, optional);
  const config = await whole(await get("config.json", false));
  yield { path: "config.json", length: config.length, chunks: [config] };
  const fields = JSON.parse(new TextDecoder().decode(config));
  let tokenizer = false;
  for (const path of BESIDE) {
    const one = await get(path);
    tokenizer ||= one !== null && path === "tokenizer.json";
    if (one) yield one;
  }
  if (!tokenizer) {
    for (const path of ["vocab.json", "merges.txt"]) {
      const one = await get(path);
      if (one) yield one;
    }
  }
  yield* weights(get);
  // A tower in a folder of its own within the model's.
  const tower = fields.mm_vision_tower;
  if (typeof tower === "string" && !tower.startsWith("/") && !tower.startsWith(".")) {
    const within = (path) => get(`${tower}/${path}`);
    const own = await within("config.json");
    if (own) {
      yield own;
      const processor = await within("preprocessor_config.json");
      if (processor) yield processor;
      yield* weights((path) => get(`${tower}/${path}`));
    }
  }
}

async function* weights(get) {
  for (const line of WEIGHTS) {
    for (const path of line) {
      const one = await get(path);
      if (!one) continue;
      if (!path.endsWith(".index.json")) {
        yield one;
        break;
      }
      const bytes = await whole(one);
      yield { path: one.path, length: bytes.length, chunks: [bytes] };
      const map = JSON.parse(new TextDecoder().decode(bytes)).weight_map ?? {};
      for (const shard of new Set(Object.values(map))) {
        const part = await get(shard);
        if (part) yield part;
      }
      break;
    }
  }
}

/** The files of a folder on the person's disk, as a folder's `<input webkitdirectory>` has them. */
export async function* fromDisk(list) {
  // The first part is the folder's own name.
  const files = list.map(({ file, path }) => ({ file, path: path.slice(path.indexOf("/") + 1) }));
  const has = (path) => files.some((one) => one.path === path);
  if (!has("config.json") && !has("adapter_config.json")) throw new BunnyError("there is no config.json among these files: choose a model's folder");
  const isSafe = files.some(({ path }) => /^model.*\.safetensors/.test(path));
  const wanted = ({ path }) => /\.(json|txt|safetensors|bin|pt|pth)$/.test(path) && !(isSafe && path.startsWith("pytorch_model"));
  for (const { file, path } of files.filter(wanted)) {
    yield { path, length: file.size, chunks: chunks(file.stream()) };
  }
}
