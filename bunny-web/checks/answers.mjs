// The built-in model's answers to the test of its world, in WebAssembly and natively: the same words but where two
// tokens were as good as equal.
//
//   node bunny-web/checks/answers.mjs target/release/bunny-cli [MODULE] [QUESTIONS]
//
// 2,200 questions unless fewer are wanted. Prints how many answers agree, and of each that does not by how much the
// model preferred one token to the next where they part; fails where fewer than 99.5 % agree or a preference is
// larger than two orders of summation can change.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { answer, engine, putAll } from "./node.mjs";

const [, , bunny, module = "bunny-web/dist/bunny.wasm.gz", questions = "2200"] = process.argv;
/** Nats. Logits are sums of some hundred products, through eleven layers: f32 keeps five digits or six of them. */
const MARGIN = 1e-3;

const folder = mkdtempSync(join(tmpdir(), "bunny-"));
process.on("exit", () => rmSync(folder, { recursive: true }));
const run = (...args) => execFileSync(bunny, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
const [world, unpacked, file] = ["world", "model", "answers.jsonl"].map((name) => join(folder, name));
run("data", "synth", "--out", world, "--pairs", "1", "--conversations", "1", "--texts", "1", "--questions", questions, "--seed", "4711");
run("model", "unpack", unpacked);
run("eval", "picture-world", "--data", world, "--batch", "1", "--out", file, "--format", "json");

const one = await engine(module);
await putAll(one, "/model", unpacked);
console.log(one.load({ model: "/model" }));
const rows = readFileSync(file, "utf8").trim().split("\n").map(JSON.parse);
let differ = 0;
let busy = 0;
for (const { id, image, question, answer: expected } of rows) {
  one.reset();
  const picture = image && readFileSync(join(world, "test/images", image));
  const before = process.cpuUsage();
  const { answer: said, tokens } = answer(one, question, picture, { max_new_tokens: 16, log_probabilities: 2 });
  const { user, system } = process.cpuUsage(before);
  busy += (user + system) / 1000;
  if (said === expected) continue;
  differ += 1;
  // Where they part, the two likeliest tokens are the two that were chosen: the least preference in the answer.
  const margin = Math.min(...tokens.map(({ top: [[, first], [, second]] }) => first - second));
  console.log(`${id}: ${JSON.stringify(said)}, natively ${JSON.stringify(expected)}; preferred by ${margin.toExponential(1)} nats`);
  assert(margin < MARGIN, "the two differ by more than rounding");
}
console.log(`${rows.length - differ} of ${rows.length} answers are the same words; ${(busy / rows.length).toFixed(1)} ms of processor time each`);
assert(differ <= 0.005 * rows.length);
