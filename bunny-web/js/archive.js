// A model's folder in one file: a tar archive, packed by gzip or not, read as it comes.

import { BunnyError } from "./engine.js";
import { answered, chunks } from "./files.js";

/** Headers, and what files are filled up to. */
const BLOCK = 512;

/** The files of an archive at an address, each with its path in the folder; each is to be read before the next. */
export async function* unpacked(address) {
  const response = await answered(address, "default");
  const bytes = new Bytes(await plain(response.body, address), address);
  let folder = "";
  for (let isFirst = true; ; isFirst = false) {
    const header = await bytes.take(BLOCK);
    if (header === null || header.every((byte) => byte === 0)) {
      if (isFirst) throw new BunnyError(`${address} is no tar archive: it is empty`);
      return;
    }
    if (text(header, 257, 5) !== "ustar") throw new BunnyError(`${address} is no tar archive`);
    const length = parseInt(text(header, 124, 12), 8);
    const kind = text(header, 156, 1);
    const prefix = text(header, 345, 155);
    const path = `${prefix && text(header, 262, 1) === "" ? `${prefix}/` : ""}${text(header, 0, 100)}`.replace(/^(\.\/)+/, "");
    // An archive of a folder begins with the folder.
    if (isFirst && kind === "5") folder = path;
    if (kind === "0" || kind === "") {
      const within = path.startsWith(folder) ? path.slice(folder.length) : path;
      yield { path: within, length, chunks: bytes.some(length, `${address}: ${path}`) };
    } else if (kind === "L" || kind === "K" || kind === "S") {
      throw new BunnyError(`${address} has names or files of a kind that is not read here: write it with tar --format=ustar`);
    } else {
      for await (const _ of bytes.some(length, address));
    }
    await bytes.take((BLOCK - (length % BLOCK)) % BLOCK);
  }
}

/** What stands in a field, up to its end. */
function text(header, at, length) {
  return new TextDecoder().decode(header.subarray(at, at + length)).split("\0")[0].trim();
}

/** A stream as it is, or what gzip packed in it. */
async function plain(stream, address) {
  const reader = stream.getReader();
  let head = new Uint8Array(0);
  while (head.length < 2) {
    const { value, done } = await reader.read();
    if (done) throw new BunnyError(`${address} is no tar archive: it is empty`);
    head = join(head, value);
  }
  const whole = new ReadableStream({
    start: (controller) => controller.enqueue(head),
    async pull(controller) {
      const { value, done } = await reader.read();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return head[0] === 0x1f && head[1] === 0x8b ? whole.pipeThrough(new DecompressionStream("gzip")) : whole;
}

function join(one, other) {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

/** A stream of chunks, taken by as many bytes as one likes. */
class Bytes {
  #chunks;
  #left = new Uint8Array(0);

  constructor(stream, path) {
    this.#chunks = chunks(stream, path);
  }

  /** What is there of at most `length` bytes, at least one; null at the end. */
  async #part(length) {
    while (this.#left.length === 0) {
      const { value, done } = await this.#chunks.next();
      if (done) return null;
      this.#left = value;
    }
    const part = this.#left.subarray(0, length);
    this.#left = this.#left.subarray(part.length);
    return part;
  }

  /** As many bytes; null where there are fewer. */
  async take(length) {
    const all = new Uint8Array(length);
    for (let at = 0; at < length;) {
      const part = await this.#part(length - at);
      if (part === null) return null;
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  /** As many bytes, as they come. */
  async* some(length, what) {
    for (let left = length; left > 0;) {
      const part = await this.#part(left);
      if (part === null) throw new BunnyError(`${what} ends ${left} bytes early`);
      left -= part.length;
      yield part;
    }
  }
}
