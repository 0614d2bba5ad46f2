// A model's files: from a folder on a host, kept by the browser (Cache API), or from the person's disk.

import { BunnyError } from "./engine.js";

/** Where the browser keeps what was fetched. */
const CACHE = "bunny-1";
/** What is read whole while it is put into the cache; larger files go through the disk. */
const SMALL = 64e6;
/** The status by which the cache knows that a file is not there. */
const ABSENT = 404;

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
  // Pages from neither HTTPS nor localhost have none, nor do some private windows; a sandbox may not even look.
  try {
    return await globalThis.caches?.open(CACHE) ?? null;
  } catch {
    return null;
  }
}

/** A file that is known by its digest, and so fetched once. */
async function pinned(address, path, digest) {
  const key = `${address}?sha256=${digest}`;
  const kept = await cache();
  const known = await kept?.match(key);
  if (known) return file(path, known);
  const response = await answered(address, "no-cache");
  const bytes = await body(response, address);
  // Pages from neither HTTPS nor localhost cannot tell; nor can anybody where the host has sent a packed file as one
  // that it packed itself, and the browser has unpacked it.
  const isUnpacked = address.endsWith(".gz") && !isPacked(bytes);
  if (crypto.subtle && !isUnpacked && hex(await crypto.subtle.digest("SHA-256", bytes)) !== digest) {
    throw new BunnyError(`${address} is not the file that web.json names: the host has parts of two versions`);
  }
  kept?.put(key, new Response(bytes, { headers: { "Content-Length": bytes.length } }))
    .then(() => forgetOthers(kept, key, address)).catch(() => {});
  return { path, length: bytes.length, chunks: [bytes] };
}

const isPacked = (bytes) => bytes[0] === 0x1f && bytes[1] === 0x8b;

const hex = (digest) => [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** Forgets what a host had at an address before. */
async function forgetOthers(kept, key, address) {
  for (const other of await kept.keys()) {
    if (other.url.split("?")[0] === address && other.url !== key) await kept.delete(other);
  }
}

/** What a host says at an address; the error of one that has nothing there is `isAbsent`. */
export async function answered(address, cache) {
  let response;
  try {
    response = await fetch(address, { cache });
  } catch (error) {
    throw new BunnyError(`${address} cannot be fetched: ${error.message}`);
  }
  // Hosts of single-page applications answer with their page whatever is asked.
  const isPage = response.headers.get("Content-Type")?.startsWith("text/html");
  if (response.ok && !isPage) return response;
  const said = response.ok ? "with a page" : response.status;
  const problem = new BunnyError(`${address} cannot be fetched: the host answers ${said}`);
  throw Object.assign(problem, { isAbsent: isPage || [403, 404, 410].includes(response.status) });
}

/** Whether what was kept is what the host has; where it cannot be reached, it is. */
async function isCurrent(address, known) {
  let now;
  try {
    now = await fetch(address, { method: "HEAD", cache: "no-cache" });
  } catch {
    return true;
  }
  if (known.status === ABSENT) return !now.ok;
  // Some hosts know no HEAD.
  if (!now.ok) return ![404, 410].includes(now.status);
  const both = (name) => [known, now].map(({ headers }) => headers.get(name));
  const told = ["ETag", "Last-Modified", "Content-Length"].map(both).find((values) => !values.includes(null));
  return told === undefined || told[0] === told[1];
}

/** A file of a published folder, fetched once as long as the host has the same; null where an optional one is not there. */
async function fetched(address, path, optional) {
  const kept = await cache();
  const known = await kept?.match(address);
  if (known && await isCurrent(address, known)) return known.status === ABSENT ? null : file(path, known);
  let response;
  try {
    response = await answered(address, known ? "no-cache" : "default");
  } catch (error) {
    if (!optional || !error.isAbsent) throw error;
    // Known without a network too.
    await kept?.put(address, new Response(null, { status: ABSENT })).catch(() => {});
    return null;
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

async function body(response, path) {
  try {
    return new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    throw new BunnyError(`${path} has stopped coming: ${error.message}`);
  }
}

async function file(path, response) {
  // A host that compresses says the length of what it sends, which is another one.
  const said = response.headers.get("Content-Encoding") ? null : response.headers.get("Content-Length");
  // Another host's page is not told whether it does; weights that are large are hardly ever compressed.
  const isUnsure = response.type === "cors" && Number(said) < SMALL;
  if (said === null || isUnsure) {
    const bytes = await body(response, path);
    return { path, length: bytes.length, chunks: [bytes] };
  }
  return { path, length: Number(said), chunks: chunks(response.body, path) };
}

/** The chunks of a stream: not every browser lets one loop over it. */
export async function* chunks(stream, path) {
  const reader = stream.getReader();
  for (;;) {
    let next;
    try {
      next = await reader.read();
    } catch (error) {
      throw new BunnyError(`${path} has stopped coming: ${error.message}`);
    }
    if (next.done) return;
    yield next.value;
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
  const stream = new Blob([bytes]).stream();
  const plain = isPacked(bytes) ? stream.pipeThrough(new DecompressionStream("gzip")) : stream;
  try {
    return await WebAssembly.compileStreaming(new Response(plain, { headers: { "Content-Type": "application/wasm" } }));
  } catch (error) {
    throw new BunnyError(`${address} cannot be compiled as WebAssembly: ${error.message}`);
  }
}

/** What `bunny-cli web` wrote beside a page; what it wrote there before, where the host cannot be reached. */
export async function manifest(address) {
  const kept = await cache();
  let response;
  let isNew = true;
  try {
    response = await answered(address, "no-cache");
  } catch (error) {
    response = await kept?.match(address);
    if (!response) throw error;
    isNew = false;
  }
  const text = await response.text();
  let said;
  try {
    said = JSON.parse(text);
  } catch (error) {
    throw new BunnyError(`${address} is no JSON: ${error.message}`);
  }
  if (isNew) await kept?.put(address, new Response(text)).catch(() => {});
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
    yield { path, length: file.size, chunks: chunks(file.stream(), path) };
  }
}
