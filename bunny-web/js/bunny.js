// A Bunny in this tab.
//
//   import { Bunny } from "./bunny.js";
//   const bunny = await Bunny.load();
//   const { answer } = await bunny.ask("What is in the picture?", { pictures: [file], listen: console.log });
//
// Types are in bunny.d.ts.

import { BunnyError } from "./engine.js";

export { BunnyError };

/** This file's address. Bundlers read `new URL("./…", import.meta.url)` as a file to be copied, and only so written. */
const here = import.meta.url;

/** What an answer is that was stopped before it began. */
const UNBEGUN = { finish: "interrupted", answer: "" };

export class Bunny {
  #worker;
  #waiting = new Map();
  #count = 0;
  #turns = [];
  /** Why nothing more can be asked, if so. */
  #ended = null;
  /** Settles when the conversation has come to its end so far. */
  #spoken = Promise.resolve();
  /** How often all was stopped. */
  #stops = 0;
  /** What the model is: `{name, context, picture_tokens, parameters, precision, memory}`. */
  info = null;

  /** Loads a model: the one beside this file, unless another is named. */
  static async load({ site, wasm, model, base, tower, precision, progress, signal } = {}) {
    signal?.throwIfAborted();
    const absolute = (address) => new URL(address, this.base()).href;
    const folder = (given) => {
      if (!given) return undefined;
      if (typeof given === "string" || given instanceof URL) return absolute(given);
      if (given.archive) return { archive: absolute(given.archive) };
      // Where a file lay in its folder is not sent along with it.
      return [...given].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
    };
    const request = {
      site: wasm ? undefined : absolute(site ?? here), wasm: wasm && absolute(wasm),
      model: folder(model), base: folder(base), tower: folder(tower), precision,
    };
    const bunny = new this();
    bunny.#worker = this.worker();
    bunny.#worker.onmessage = ({ data }) => bunny.#hear(data);
    bunny.#worker.onmessageerror = () => bunny.#end("what the worker says cannot be read");
    bunny.#worker.onerror = (event) => bunny.#end(event.message
      || "the worker cannot be started: worker.js must lie beside bunny.js, and the page's policy allow it (worker-src)");
    const abort = () => bunny.#end(signal.reason);
    signal?.addEventListener("abort", abort, { once: true });
    try {
      bunny.info = await bunny.#call("load", request, progress);
    } catch (error) {
      bunny.close();
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
    return bunny;
  }

  /** A worker; Node has others. */
  static worker() {
    // A worker of another host than the page's is forbidden; one of the page's own may import from there.
    const importing = `import ${JSON.stringify(new URL("worker.js", here).href)};`;
    if (globalThis.origin === "null") {
      // Nothing is of the same host as a sandbox, whose blobs Chromium takes for no modules either.
      return new Worker(`data:text/javascript,${encodeURIComponent(importing)}`, { type: "module" });
    }
    try {
      return new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    } catch (error) {
      if (error.name !== "SecurityError") throw error;
      return new Worker(URL.createObjectURL(new Blob([importing], { type: "text/javascript" })), { type: "module" });
    }
  }

  /** What addresses are relative to: the page, or the worker that this runs in. */
  static base() {
    return globalThis.document?.baseURI ?? location.href;
  }

  #call(call, given, listen, signal) {
    if (this.#ended !== null) return Promise.reject(problem(this.#ended));
    const id = this.#count++;
    const stop = () => this.#worker.postMessage({ call: "stop", given: id });
    signal?.addEventListener("abort", stop, { once: true });
    return new Promise((done, failed) => {
      // What cannot be sent is thrown, and nobody is to wait for it.
      this.#worker.postMessage({ id, call, given });
      this.#waiting.set(id, { done, failed, listen, stop });
    }).finally(() => signal?.removeEventListener("abort", stop));
  }

  #hear({ id, event, done, error }) {
    const waiting = this.#waiting.get(id);
    if (!waiting) return;
    if (event) {
      try {
        waiting.listen?.(event);
      } catch (error) {
        this.#waiting.delete(id);
        waiting.stop();
        waiting.failed(error);
      }
      return;
    }
    this.#waiting.delete(id);
    if (error === undefined) waiting.done(done);
    else waiting.failed(new BunnyError(error));
  }

  #end(reason) {
    if (this.#ended !== null) return;
    this.#ended = reason;
    this.#worker.terminate();
    for (const { failed } of this.#waiting.values()) failed(problem(reason));
    this.#waiting.clear();
  }

  /** Answers the last of `messages`, `{role, text, pictures}` each, and keeps nothing of them. */
  async answer(messages, { system, listen, signal, ...options } = {}) {
    const stops = this.#stops;
    const pictures = await Promise.all(messages.flatMap((message) => [...message.pictures ?? []]).map(bytes));
    if (signal?.aborted || stops !== this.#stops) return { ...UNBEGUN };
    const request = {
      system, options,
      messages: messages.map(({ role, text, pictures }) => ({ role, text, pictures: pictures?.length ?? 0 })),
    };
    return this.#call("ask", { request, pictures }, listen && (({ text, tokens }) => listen(text, tokens)), signal);
  }

  /** Asks about pictures and what was said before; questions that wait for others hear their answers. */
  ask(text, { pictures = [], ...options } = {}) {
    const question = { role: "user", text, pictures: [...pictures] };
    const stops = this.#stops;
    return this.#next(async () => {
      if (stops !== this.#stops) return { ...UNBEGUN };
      const said = await this.answer([...this.#turns, question], options);
      if (said.finish !== "interrupted") this.#turns.push(question, { role: "assistant", text: said.answer });
      return said;
    });
  }

  /** Has `act` done when the conversation has come to its end so far. */
  #next(act) {
    const done = this.#spoken.then(act);
    this.#spoken = done.catch(() => {});
    return done;
  }

  /** Stops all answers that are under way. */
  stop() {
    this.#stops += 1;
    for (const { stop } of this.#waiting.values()) stop();
  }

  /** Forgets what was said and shown. */
  reset() {
    return this.#next(() => {
      this.#turns = [];
      return this.#call("reset");
    });
  }

  /** What tower and projector make of a picture: `{tokens, hidden, data}`, row by row. */
  async embed(picture) {
    return this.#call("embed", { picture: await bytes(picture) });
  }

  /** The ids of a text. */
  encode(text) {
    return this.#call("encode", { text });
  }

  /** Ends the worker, and frees its memory. */
  close() {
    this.#end("the model was closed");
  }
}

/** An error of a reason: the engine's words, or whatever somebody aborted with. */
const problem = (reason) => (typeof reason === "string" ? new BunnyError(reason) : reason);

/** The file that a picture is. Blobs themselves cannot always be sent: those of Node's `fs.openAsBlob` cannot. */
async function bytes(picture) {
  if (!(picture instanceof Blob)) throw new BunnyError("a picture must be a Blob or a File; fetch an address first: (await fetch(address)).blob()");
  return new Uint8Array(await picture.arrayBuffer());
}
