// A thread of Node as the worker of a page: it hears and says by the same names, and fetches files.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { parentPort } from "node:worker_threads";

const fetched = globalThis.fetch;
globalThis.fetch = async (address, options) => {
  if (!`${address}`.startsWith("file:")) return fetched(address, options);
  const path = fileURLToPath(address);
  const found = await stat(path).catch(() => null);
  if (!found?.isFile()) return new Response(null, { status: 404 });
  const stream = options?.method === "HEAD" ? null : Readable.toWeb(createReadStream(path));
  return new Response(stream, { headers: { "Content-Length": found.size } });
};

globalThis.postMessage = (message) => parentPort.postMessage(message);
await import("./worker.js");
parentPort.on("message", (data) => globalThis.onmessage({ data }));
