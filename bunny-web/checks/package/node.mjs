// The package in Node, as somebody's program has it who installed it: run by checks/npm.mjs where that is.

import assert from "node:assert/strict";
import { openAsBlob } from "node:fs";

import { Bunny, BunnyError } from "bunny-web";

const [, , shapes, other, folder] = process.argv;
const picture = await openAsBlob(shapes);
const question = { pictures: [picture] };
const fails = (promise, problem, kind = BunnyError) => assert.rejects(promise, (error) => {
  assert(error instanceof kind && problem.test(error.message), `${error.name}: ${error.message}`);
  return true;
});

const bunny = await Bunny.load();
const heard = [];
const first = await bunny.ask("What is in the picture?", { ...question, listen: (text) => heard.push(text) });
assert.match(first.answer, /diamond/);
assert.equal(heard.join("").trim(), first.answer);

// Two questions at once are one conversation: the second hears the first one's answer.
const second = await bunny.ask("Where is the black diamond?");
await bunny.reset();
const both = await Promise.all([bunny.ask("What is in the picture?", question), bunny.ask("Where is the black diamond?")]);
assert.deepEqual(both.map(({ answer }) => answer), [first.answer, second.answer]);
assert.equal(both[1].prompt_tokens, second.prompt_tokens);

// A stop reaches what waits, too; a signal says the same before and while an answer comes.
const stopped = [bunny.ask("Tell me everything", { min_new_tokens: 500 }), bunny.ask("And then?")];
bunny.stop();
for (const { finish } of await Promise.all(stopped)) assert.equal(finish, "interrupted");
assert.equal((await bunny.ask("What?", { signal: AbortSignal.abort() })).finish, "interrupted");

// What is wrong is said, and leaves nothing behind.
await bunny.reset();
await fails(bunny.ask("What?", { pictures: ["https://host/picture.jpg"] }), /must be a Blob/);
await fails(bunny.ask("What?", { pictures: [picture, new Blob(["no picture"])] }), /picture|format/);
await fails(bunny.ask("What?", { pictures: [picture], heat: 3 }), /heat/);
await fails(bunny.ask("What?", { ...question, listen: () => { throw new RangeError("mine"); } }), /mine/, RangeError);
await fails(bunny.ask("What?", { seed: () => 1 }), /clone/, DOMException);
const { answer } = await bunny.ask("What is in the picture?", question);
assert.equal(answer, first.answer);
await bunny.reset();
const foreign = await bunny.ask("What is in the picture?", { pictures: [await openAsBlob(other)] });
await bunny.reset();
await fails(bunny.ask("What?", { pictures: [picture], heat: 3 }), /heat/);
const after = await bunny.ask("What is in the picture?", { pictures: [await openAsBlob(other)] });
assert.equal(after.answer, foreign.answer);

// Closed is closed.
const cut = bunny.ask("Tell me everything", { min_new_tokens: 500 });
await new Promise((done) => setTimeout(done, 100));
bunny.close();
await fails(cut, /closed/);
await fails(bunny.ask("What?"), /closed/);
await fails(bunny.reset(), /closed/);
bunny.stop();
bunny.close();

// Models by paths, relative to where the program was started; loading is given up, and fails by name.
const own = await Bunny.load({ model: folder, precision: "f32" });
assert.equal((await own.encode("a red circle")).length > 1, true);
own.close();
await fails(Bunny.load({ model: "nowhere" }), /nowhere\/config\.json .*404/);
await fails(Bunny.load({ model: { archive: shapes } }), /no tar archive/);
await fails(Bunny.load({ wasm: shapes }), /cannot be compiled as WebAssembly/);
await fails(Bunny.load({ signal: AbortSignal.abort(new RangeError("mine")) }), /mine/, RangeError);
const control = new AbortController();
const given = Bunny.load({ signal: control.signal, progress: () => control.abort() });
await fails(given, /abort/i, DOMException);

// Nothing keeps Node from ending: this one is not closed.
await Bunny.load();
console.log(first.answer);
