// The tests of bunny-kernels, compiled to WebAssembly: every kernel in plain code and on vectors of 128 bits, against
// its definition in f64, on made-up numbers of all lengths around a vector's.
//
//   bunny-web/build.sh --kernels && node bunny-web/checks/kernels.mjs
//
// A test that fails ends the module: the trace says which it was.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const module = await WebAssembly.compile(readFileSync(new URL("../dist/kernels.wasm", import.meta.url)));
// Nothing that it is made of may ask for anything.
assert.deepEqual(WebAssembly.Module.imports(module), []);
const { exports } = await WebAssembly.instantiate(module, {});
assert.equal(exports.main(0, 0), 0);
const [plain, vectors] = [0, 1].map((level) => exports.tried(level));
assert(plain >= 400 && vectors === plain, `${plain} times in plain code, ${vectors} on vectors`);
console.log(`kernels are right ${plain} times in plain code, and as often on vectors`);
