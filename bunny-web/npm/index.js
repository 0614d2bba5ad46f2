// What `import "bunny-web"` is in a browser: the engine and the built-in model are files of the package. Bundlers find
// them by the form of their addresses.

import { Bunny as Engine, BunnyError } from "./bunny.js";

export { BunnyError };

export class Bunny extends Engine {
  /** Loads the built-in model, unless another one or a site is named. */
  static load(options = {}) {
    if (options.site) return super.load(options);
    const wasm = options.wasm ?? new URL("./bunny.wasm.gz", import.meta.url);
    const model = options.model ?? { archive: new URL("./model.tar.gz", import.meta.url) };
    return super.load({ ...options, wasm, model });
  }
}
