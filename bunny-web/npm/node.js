// What `import "bunny-web"` is in Node: the same, with a thread for a worker, and paths of files for addresses.

import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";

import { Bunny as InTab, BunnyError } from "./index.js";

export { BunnyError };

export class Bunny extends InTab {
  static worker() {
    return new Thread();
  }

  static base() {
    return pathToFileURL("./").href;
  }
}

/** A thread, as a page's worker behaves. While it is asked nothing, Node may end. */
class Thread {
  #thread = new Worker(new URL("./node-worker.js", import.meta.url));
  #asked = 0;

  constructor() {
    this.#thread.unref();
    this.#thread.on("message", (data) => {
      if (!data.event && (this.#asked -= 1) === 0) this.#thread.unref();
      this.onmessage({ data });
    });
    this.#thread.on("messageerror", () => this.onmessageerror());
    this.#thread.on("error", (error) => this.onerror(error));
    this.#thread.on("exit", () => this.onerror({ message: "the thread has ended" }));
  }

  postMessage(message) {
    this.#thread.postMessage(message);
    // A stop has no answer of its own.
    if (message.call !== "stop" && (this.#asked += 1) === 1) this.#thread.ref();
  }

  terminate() {
    this.#thread.terminate();
  }
}
