// The WebAssembly module as JavaScript sees it: bytes in, objects out. Runs in a worker, and in Node for checks.

/** The form of calls that this file knows; the module says its own. */
const VERSION = 1;

/** What went wrong, in the engine's words. */
export class BunnyError extends Error {
  name = "BunnyError";
}

export class Engine {
  #calls;
  /** What the module said before it ended, if it has. */
  #broken = null;

  /** An engine of a `WebAssembly.Module`. */
  static async of(module) {
    const engine = new Engine();
    const imports = {
      bunny: {
        now: () => performance.now(),
        random: (at, length) => {
          // At most 65,536 bytes at a time.
          for (let from = 0; from < length; from += 65536) {
            crypto.getRandomValues(engine.#bytes(at + from, Math.min(65536, length - from)));
          }
        },
        panicked: (at, length) => {
          engine.#broken = new TextDecoder().decode(engine.#bytes(at, length).slice());
        },
      },
    };
    // Crates below name functions of a generator of bindings that is not used here. None is called.
    for (const { module: from, name } of WebAssembly.Module.imports(module)) {
      imports[from] ??= {};
      imports[from][name] ??= () => { throw new BunnyError(`the module calls ${name}, which is not there`); };
    }
    engine.#calls = (await WebAssembly.instantiate(module, imports)).exports;
    const version = engine.#calls.start();
    if (version !== VERSION) {
      throw new BunnyError(`this module is of version ${version}, the JavaScript beside it of ${VERSION}: take both from one build`);
    }
    return engine;
  }

  /** Memory of the module; to be taken anew after every call, since it moves as it grows. */
  #bytes(at, length) {
    return new Uint8Array(this.#calls.memory.buffer, at, length);
  }

  /** Lends memory of the module. */
  #lend(length, what) {
    if (length === 0) return 0;
    const at = length < 2 ** 31 ? this.#call("alloc", length) >>> 0 : 0;
    if (at === 0) {
      const size = `${(length / 1e9).toFixed(2)} GB`;
      throw new BunnyError(length < 2 ** 31
        ? `there is no memory for the ${size} of ${what}: a tab has 4 GB`
        : `${what} has ${size}, and a tab holds no file of 2 GB or more: write smaller shards`);
    }
    return at;
  }

  #give(bytes, what) {
    const at = this.#lend(bytes.length, what);
    this.#bytes(at, bytes.length).set(bytes);
    return [at, bytes.length];
  }

  /** Calls the module, and reads what it says. */
  #say(name, ...given) {
    const at = this.#call(name, ...given) >>> 0;
    const said = this.#bytes(at, this.#calls.result_length() >>> 0).slice();
    const object = JSON.parse(new TextDecoder().decode(said));
    if (object.error) throw new BunnyError(object.error);
    return object;
  }

  #call(name, ...given) {
    if (this.#broken) throw new BunnyError(`the engine has ended: ${this.#broken}`);
    try {
      return this.#calls[name](...given);
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) throw error;
      this.#broken ??= error.message;
      throw new BunnyError(this.#broken);
    }
  }

  /** Puts a file at a path: `chunks` are its bytes, `length` of them. */
  async put(path, length, chunks) {
    const at = this.#lend(length, path);
    let filled = 0;
    for await (const chunk of chunks) {
      if (filled + chunk.length > length) throw new BunnyError(`${path} is longer than the ${length} bytes that were said`);
      this.#bytes(at + filled, chunk.length).set(chunk);
      filled += chunk.length;
    }
    if (filled < length) throw new BunnyError(`${path} ends after ${filled} of ${length} bytes`);
    this.#call("put", ...this.#give(new TextEncoder().encode(path), path), at, length);
  }

  #request(name, request) {
    return this.#say(name, ...this.#give(new TextEncoder().encode(JSON.stringify(request)), "a request"));
  }

  /** Loads a model from files that were put: `{model, base, vision_tower, precision}`, none for the one inside. */
  load(request = {}) { return this.#request("load", request); }

  /** Begins to answer `{system, messages: [{role, text, pictures}], options}`; `pictures` are the files of all. */
  ask(request, pictures = []) {
    for (const picture of pictures) this.#say("picture", ...this.#give(picture, "a picture"));
    return this.#request("ask", request);
  }

  /** Goes on with the answer: `{text, tokens, end}`. */
  step() { return this.#say("step"); }

  /** Gives up the answer. */
  stop() { this.#call("stop"); }

  /** Forgets all that was said and shown. */
  reset() { this.#call("reset"); }

  /** The ids of a text. */
  encode(text) { return this.#say("encode", ...this.#give(new TextEncoder().encode(text), "a text")).ids; }

  /** What tower and projector make of a picture: `{tokens, hidden, data}`, row by row. */
  embed(picture) {
    const { tokens, hidden, at } = this.#say("embed", ...this.#give(picture, "a picture"));
    const data = new Float32Array(this.#calls.memory.buffer, at, tokens * hidden).slice();
    return { tokens, hidden, data };
  }

  /** Bytes of the module's memory. */
  get memory() { return this.#calls.memory.buffer.byteLength; }
}
