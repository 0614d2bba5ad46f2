// A Bunny in this tab.
//
//   import { Bunny } from "./bunny.js";
//   const bunny = await Bunny.load();
//   const { answer } = await bunny.ask("What is in the picture?", { pictures: [file], listen: console.log });
//
// Types are in bunny.d.ts.

import { BunnyError } from "./engine.js";

export { BunnyError };

export class Bunny {
  #worker;
  #waiting = new Map();
  #count = 0;
  #turns = [];
  /** What the model is: `{name, context, picture_tokens, parameters, precision, memory}`. */
  info = null;

  /** Loads a model: the one beside this file, unless another is named. */
  static async load({ site, wasm, model, base, tower, precision, progress } = {}) {
    const bunny = new Bunny();
    bunny.#worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    bunny.#worker.onmessage = ({ data }) => bunny.#hear(data);
    bunny.#worker.onerror = (event) => bunny.#end(event.message || "the worker cannot be started");
    const here = new URL("./", import.meta.url).href;
    const absolute = (address) => {
      if (!address) return undefined;
      if (typeof address === "string" || address instanceof URL) return new URL(address, document.baseURI).href;
      // Where a file lay in its folder is not sent along with it.
      return [...address].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
    };
    const given = {
      site: wasm ? undefined : absolute(site) ?? here,
      wasm: absolute(wasm), model: absolute(model), base: absolute(base), tower: absolute(tower), precision,
    };
    try {
      bunny.info = await bunny.#call("load", given, progress);
    } catch (error) {
      bunny.close();
      throw error;
    }
    return bunny;
  }

  #call(call, given, listen, signal) {
    const id = this.#count++;
    if (signal?.aborted) return Promise.reject(signal.reason);
    const stop = () => this.#worker.postMessage({ call: "stop", given: id });
    signal?.addEventListener("abort", stop, { once: true });
    return new Promise((done, failed) => {
      this.#waiting.set(id, { done, failed, listen });
      this.#worker.postMessage({ id, call, given });
    }).finally(() => signal?.removeEventListener("abort", stop));
  }

  #hear({ id, event, done, error }) {
    const waiting = this.#waiting.get(id);
    if (!waiting) return;
    if (event) {
      waiting.listen?.(event);
      return;
    }
    this.#waiting.delete(id);
    if (error === undefined) waiting.done(done);
    else waiting.failed(new BunnyError(error));
  }

  #end(problem) {
    for (const { failed } of this.#waiting.values()) failed(new BunnyError(problem));
    this.#waiting.clear();
  }

  /** Answers the last of `messages`, `{role, text, pictures}` each, and keeps nothing of them. */
  answer(messages, { system, listen, signal, ...options } = {}) {
    const pictures = messages.flatMap((message) => [...message.pictures ?? []]);
    const request = {
      system, options,
      messages: messages.map(({ role, text, pictures }) => ({ role, text, pictures: pictures?.length ?? 0 })),
    };
    return this.#call("ask", { request, pictures }, listen && (({ text, tokens }) => listen(text, tokens)), signal);
  }

  /** Asks about pictures and what was said before. */
  async ask(text, { pictures = [], ...options } = {}) {
    const turns = this.#turns;
    const question = { role: "user", text, pictures: [...pictures] };
    const said = await this.answer([...turns, question], options);
    if (said.finish !== "interrupted" && turns === this.#turns) turns.push(question, { role: "assistant", text: said.answer });
    return said;
  }

  /** Stops all answers that are under way. */
  stop() {
    for (const id of this.#waiting.keys()) this.#worker.postMessage({ call: "stop", given: id });
  }

  /** Forgets what was said and shown. */
  async reset() {
    this.#turns = [];
    await this.#call("reset");
  }

  /** What tower and projector make of a picture: `{tokens, hidden, data}`, row by row. */
  embed(picture) {
    return this.#call("embed", { picture });
  }

  /** The ids of a text. */
  encode(text) {
    return this.#call("encode", { text });
  }

  /** Ends the worker, and frees its memory. */
  close() {
    this.#worker.terminate();
    this.#end("the model was closed");
  }
}
