// Writes the folder that `npm pack` and `npm publish` take.
//
//   node bunny-web/npm/package.mjs MODULE OUT
//
// MODULE is what build.sh made, bunny.wasm.gz. The version is that of all crates.

import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const [, , module, out] = process.argv;
const at = (path) => new URL(`../${path}`, import.meta.url).pathname;

const version = (path) => readFileSync(at(path), "utf8").match(/^version = "(.+)"$/m)[1];
assert.equal(version("Cargo.toml"), version("../Cargo.toml"), "bunny-web is of another version than the workspace");

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
for (const name of readdirSync(at("js")).filter((name) => /\.(js|ts)$/.test(name))) cpSync(at(`js/${name}`), `${out}/${name}`);
for (const name of ["index.js", "node.js", "node-worker.js", "README.md"]) cpSync(at(`npm/${name}`), `${out}/${name}`);
for (const name of ["LICENSE-APACHE", "LICENSE-MIT"]) cpSync(at(`../${name}`), `${out}/${name}`);
const described = JSON.parse(readFileSync(at("npm/package.json")));
writeFileSync(`${out}/package.json`, `${JSON.stringify({ ...described, version: version("../Cargo.toml") }, null, 2)}\n`);
cpSync(module, `${out}/bunny.wasm.gz`);
writeFileSync(`${out}/model.tar.gz`, gzipSync(archive(at("../bunny-core/builtin")), { level: 9 }));

/** The files of a folder in a tar archive (POSIX ustar): the same bytes for the same files. */
function archive(folder) {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith(".md"))
    .map((entry) => `${entry.parentPath}/${entry.name}`.slice(folder.length + 1)).sort();
  const blocks = names.flatMap((name) => {
    const bytes = readFileSync(`${folder}/${name}`);
    return [header(name, bytes.length), bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

function header(name, length) {
  assert(Buffer.byteLength(name) <= 100, name);
  const block = Buffer.alloc(512);
  const octal = (number, digits) => number.toString(8).padStart(digits, "0");
  const fields = [[0, name], [100, octal(0o644, 7)], [108, octal(0, 7)], [116, octal(0, 7)], [124, octal(length, 11)],
    [136, octal(0, 11)], [148, " ".repeat(8)], [156, "0"], [257, "ustar\0" + "00"]];
  for (const [at, text] of fields) block.write(text, at, "latin1");
  block.write(`${octal(block.reduce((sum, byte) => sum + byte), 6)}\0 `, 148, "latin1");
  return block;
}
