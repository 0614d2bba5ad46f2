// The page to talk in. Data flows one way: what a person does changes `chat`, a change is stored and drawn.
// Answers come from `POST v1/chat/completions`, by way of `backend.js`: of the server that this page came from, or of
// a model in this tab.

import { call, hear } from "./backend.js";
import { markdown } from "./markdown.js";
import { chats, load, remove, store, storeAgain } from "./history.js";
import { dataUrl, taken } from "./pictures.js";

const $ = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
};

// ---- what there is ----

/** The conversation shown: `{id, title, updated, turns: [{role, text, pictures?, stats?, failed?}]}`. */
let chat = newChat();
/** Pictures of the next question, as blobs. */
let pictures = [];
/** Ends when all that were added are among them, or refused. */
let added = Promise.resolve();
/** How many files were refused so far. */
let refusals = 0;
/** The answer under way in the conversation shown: its `AbortController`, or nothing. */
let running = null;
/** What the server says of its model: `{model, card, samples}`. */
let model = { model: "", card: "", samples: [] };

function newChat() {
  return { id: `${Date.now()}-${Math.random()}`, title: "", updated: Date.now(), turns: [] };
}

const DEFAULTS = { temperature: 0, top_p: 1, max_tokens: 512, seed: "", system: "" };
/** What a person has set. Fields that were left empty mean the default: as a number, nothing would be 0. */
function settings() {
  const said = Object.entries(JSON.parse(localStorage.getItem("settings") ?? "{}")).filter(([, value]) => value !== "");
  return { ...DEFAULTS, ...Object.fromEntries(said) };
}
const key = () => sessionStorage.getItem("key") ?? "";

function headers() {
  const headers = { "Content-Type": "application/json" };
  if (key()) headers.Authorization = `Bearer ${key()}`;
  return headers;
}

// ---- pictures ----

const addresses = new WeakMap();
function address(blob) {
  if (!addresses.has(blob)) addresses.set(blob, URL.createObjectURL(blob));
  return addresses.get(blob);
}

function addPictures(files) {
  // A list of a browser's own is emptied before it is read.
  const list = [...files];
  added = added.then(() => readPictures(list));
}

async function readPictures(files) {
  const refused = [];
  for (const file of files) {
    await taken(file).then((picture) => pictures.push(picture), ({ message }) => refused.push(message));
  }
  refusals += refused.length;
  notice(refused.join(" "));
  drawPictures();
  $("question").focus();
}

function drawPictures() {
  $("pictures").replaceChildren(
    ...pictures.map((picture, at) => {
      const name = picture.name || `picture ${at + 1}`;
      return make("li", {}, make("img", { src: address(picture), alt: name }),
        make("button", {
          type: "button", text: "✕", "aria-label": `Remove ${name}`,
          onclick: () => { pictures.splice(at, 1); drawPictures(); },
        }));
    }),
  );
}

// ---- asking ----

/** What is sent of a conversation: a question that failed would have each later one fail that it is sent with. */
const sent = (turns) => turns.filter((turn, at) => !turn.failed && !turns[at + 1]?.failed);

/** A conversation as the server takes it. */
async function messages(turns) {
  const list = [];
  const { system } = settings();
  if (system) list.push({ role: "system", content: system });
  for (const turn of sent(turns)) {
    if (turn.role === "assistant") {
      if (turn.text) list.push({ role: "assistant", content: turn.text });
      continue;
    }
    const parts = [];
    for (const picture of turn.pictures ?? []) {
      parts.push({ type: "image_url", image_url: { url: await dataUrl(picture) } });
    }
    parts.push({ type: "text", text: turn.text });
    list.push({ role: "user", content: parts });
  }
  return list;
}

async function ask() {
  const [into, before] = [chat, refusals];
  await added;
  // Who asks about a picture that turns out to be none is told so first.
  if (into !== chat || refusals > before) return;
  const text = $("question").value.trim();
  if (running || (!text && pictures.length === 0)) return;
  notice("");
  chat.turns.push({ role: "user", text, pictures });
  chat.title ||= text || "A picture";
  pictures = [];
  $("question").value = "";
  fit();
  drawPictures();
  // Not waited for: the answer begins in this conversation, whichever is shown by then.
  keep(chat);
  await answer();
}

/** Keeps a conversation, where the browser lets it. */
async function keep(one, put = store) {
  one.updated = Date.now();
  await put(one).catch(() => notice("This browser keeps no history."));
  await drawChats();
}

/** Has the last question answered. */
async function answer() {
  const turn = { role: "assistant", text: "" };
  const into = chat;
  into.turns.push(turn);
  const control = new AbortController();
  running = control;
  drawChat();
  const started = performance.now();
  let first = null;
  try {
    const { temperature, top_p, max_tokens, seed } = settings();
    const body = {
      model: model.model, messages: await messages(into.turns), stream: true,
      stream_options: { include_usage: true },
      temperature: Number(temperature), top_p: Number(top_p), max_tokens: Number(max_tokens),
    };
    if (seed !== "") body.seed = Number(seed);
    const response = await call("v1/chat/completions", {
      method: "POST", headers: headers(), body: JSON.stringify(body), signal: control.signal,
    });
    connected(true);
    if (!response.ok) throw new Error(await problem(response));
    let usage = null;
    for await (const event of events(response.body)) {
      if (event.error) throw new Error(event.error.message);
      usage = event.usage ?? usage;
      const choice = event.choices?.[0];
      if (choice?.delta?.content) {
        first ??= performance.now();
        turn.text += choice.delta.content;
        drawLast(into);
      }
      if (choice?.finish_reason === "length") turn.cut = true;
    }
    const seconds = (performance.now() - (first ?? started)) / 1000;
    const tokens = usage?.completion_tokens ?? 0;
    turn.stats = {
      tokens, prompt: usage?.prompt_tokens, first: first && (first - started) / 1000,
      rate: tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : null,
    };
    announce(turn.text);
  } catch (error) {
    if (control.signal.aborted) turn.stopped = true;
    else {
      turn.failed = error instanceof TypeError ? "The server does not answer." : error.message;
      if (error instanceof TypeError) connected(false);
      announce(turn.failed);
    }
  } finally {
    if (running === control) running = null;
    // A conversation that was deleted meanwhile stays deleted.
    await keep(into, storeAgain);
    if (into === chat) {
      drawChat();
      $("question").focus();
    }
  }
}

/** What went wrong, in the server's words. */
async function problem(response) {
  const told = await response.json().catch(() => null);
  if (response.status === 401) return "The server wants a key: put it into the settings.";
  return told?.error?.message ?? `The server answered ${response.status}.`;
}

/** The events of a stream: blocks of lines, `data: ` before each one's JSON. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trimStart()).join("\n");
      if (data.startsWith("[DONE]")) return;
      if (data) yield JSON.parse(data);
    }
  }
}

// ---- what one can do with a turn ----

function regenerate() {
  if (running || chat.turns.length === 0) return;
  if (chat.turns.at(-1).role === "assistant") chat.turns.pop();
  answer();
}

/** Takes the last question back into the box. */
function edit() {
  if (running) return;
  if (chat.turns.at(-1)?.role === "assistant") chat.turns.pop();
  const question = chat.turns.pop();
  $("question").value = question.text;
  pictures = question.pictures ?? [];
  drawPictures();
  drawChat();
  fit();
  $("question").focus();
}

// ---- drawing ----

const notice = (text) => { $("notice").textContent = text; };
const announce = (text) => { $("announcement").textContent = text; };

/** Says whether the server answers; one that does not is asked again until it does. */
function connected(there) {
  $("connection").textContent = there ? "" : "no connection";
  if (!there) setTimeout(greet, 3000);
}

function drawTurn(turn, at) {
  const last = at === chat.turns.length - 1;
  const tools = make("div", { class: "tools" });
  const text = make("div", { class: "text" });
  if (turn.role === "user") {
    text.textContent = turn.text;
    const lastQuestion = at === chat.turns.findLastIndex((other) => other.role === "user");
    if (lastQuestion && !running) tools.append(make("button", { type: "button", text: "Edit", onclick: edit }));
    const shown = (turn.pictures ?? []).map((picture, number) =>
      make("img", { src: address(picture), alt: picture.name || `picture ${number + 1}` }));
    return make("div", { class: "user" }, make("span", { class: "hidden", text: "You:" }),
      make("div", { class: "shown" }, ...shown), ...(turn.text ? [text] : []), tools);
  }
  text.append(...markdown(turn.text || (running && last ? "…" : "")));
  const item = make("div", { class: "assistant" }, make("span", { class: "hidden", text: "Bunny:" }), text);
  if (turn.failed) item.append(make("p", { class: "failed", text: turn.failed }));
  if (running && last) return item;
  // Browsers lend the clipboard to localhost and HTTPS alone.
  if (turn.text && navigator.clipboard) tools.append(make("button", { type: "button", text: "Copy", onclick: () => navigator.clipboard.writeText(turn.text) }));
  if (last) tools.append(make("button", { type: "button", text: turn.failed ? "Try again" : "Regenerate", onclick: regenerate }));
  else if (turn.failed) tools.append(make("span", { text: "not sent with later questions" }));
  if (turn.stopped) tools.append(make("span", { text: "stopped" }));
  if (turn.cut) tools.append(make("span", { text: "cut at the longest answer" }));
  if (turn.stats) tools.append(make("span", { class: "stats", text: told(turn.stats) }));
  item.append(tools);
  return item;
}

function told({ tokens, prompt, first, rate }) {
  const parts = [`${tokens} tokens`];
  if (rate) parts.push(`${rate.toFixed(rate < 10 ? 1 : 0)} tokens/s`);
  if (first) parts.push(`first after ${first.toFixed(2)} s`);
  if (prompt) parts.push(`${prompt} positions read`);
  return parts.join(" · ");
}

function drawChat() {
  $("transcript").replaceChildren(...chat.turns.map(drawTurn));
  $("welcome").hidden = chat.turns.length > 0;
  $("stop").hidden = !running;
  $("send").hidden = Boolean(running);
  $("transcript").scrollTop = $("transcript").scrollHeight;
}

/** Draws the answer under way anew, and nothing else. */
function drawLast(into) {
  if (into !== chat) return;
  const log = $("transcript");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  log.lastElementChild.querySelector(".text").replaceChildren(...markdown(chat.turns.at(-1).text));
  if (atEnd) log.scrollTop = log.scrollHeight;
}

async function drawChats() {
  const wanted = $("search").value.toLowerCase();
  const list = await chats().catch(() => []);
  const matches = ({ title, turns }) =>
    title.toLowerCase().includes(wanted) || turns.some((turn) => turn.text.toLowerCase().includes(wanted));
  $("chats").replaceChildren(...list.filter(matches).map(({ id, title }) =>
    make("li", {},
      make("button", { type: "button", class: "open", text: title, "aria-current": id === chat.id ? "true" : null, onclick: () => open(id) }),
      make("button", {
        type: "button", text: "✕", "aria-label": `Delete ${title}`,
        onclick: async () => {
          if (id === chat.id) show(newChat());
          await remove(id);
          drawChats();
        },
      }))));
}

function show(other) {
  // The answer under way is kept with its own conversation; in this one none is.
  running?.abort();
  running = null;
  chat = other;
  drawChat();
  drawChats();
  sidebar(false);
  $("question").focus();
}

async function open(id) {
  // What is shown may be ahead of what is stored: its answer under way is not yet there.
  const one = id === chat.id ? chat : await load(id);
  if (one === chat) sidebar(false);
  else if (one) show(one);
  else drawChats();
}

function sidebar(shown) {
  $("sidebar").classList.toggle("shown", shown);
  $("open-sidebar").setAttribute("aria-expanded", String(shown));
}

/** The box is as high as its text. */
function fit() {
  const box = $("question");
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}

// ---- export, settings, model ----

async function exportAll() {
  const all = await chats();
  const plain = await Promise.all(all.map(async (one) => ({
    ...one,
    turns: await Promise.all(one.turns.map(async (turn) => ({
      ...turn, pictures: turn.pictures && await Promise.all(turn.pictures.map(dataUrl)),
    }))),
  })));
  const json = new Blob([JSON.stringify({ format_version: 1, model: model.model, chats: plain }, null, 1)], { type: "application/json" });
  const link = make("a", { href: URL.createObjectURL(json), download: "bunny-conversations.json" });
  link.click();
  URL.revokeObjectURL(link.href);
}

function openSettings() {
  const form = $("settings").querySelector("form");
  for (const [name, value] of Object.entries({ ...settings(), key: key() })) form.elements[name].value = value;
  // Not every browser forgets at Escape what the last closing said, and that was perhaps to save.
  $("settings").returnValue = "";
  $("settings").showModal();
}

function saveSettings() {
  if ($("settings").returnValue !== "save") return;
  const form = $("settings").querySelector("form");
  const values = Object.fromEntries(Object.keys(DEFAULTS).map((name) => [name, form.elements[name].value]));
  localStorage.setItem("settings", JSON.stringify(values));
  sessionStorage.setItem("key", form.elements.key.value);
  greet();
}

async function greet() {
  try {
    const response = await call("page.json", { headers: headers() });
    connected(true);
    if (!response.ok) throw new Error(await problem(response));
    model = await response.json();
  } catch (error) {
    if (error instanceof TypeError) connected(false);
    else notice(error.message);
    return;
  }
  notice("");
  $("model").textContent = model.model;
  $("card").textContent = model.card;
  $("samples").replaceChildren(...model.samples.map(({ name, src }) =>
    make("li", {}, make("button", {
      type: "button", "aria-label": `Ask about ${name}`,
      onclick: async () => {
        const blob = await (await fetch(src)).blob();
        addPictures([new File([blob], name, { type: blob.type })]);
      },
    }, make("img", { src, alt: name })))));
}

// ---- what a person does ----

$("composer").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
$("question").addEventListener("input", fit);
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    ask();
  }
});
$("stop").addEventListener("click", () => running?.abort());
$("attach").addEventListener("click", () => $("file").click());
$("camera").addEventListener("click", () => $("photo").click());
for (const id of ["file", "photo"]) {
  $(id).addEventListener("change", (event) => { addPictures(event.target.files); event.target.value = ""; });
}
addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) { event.preventDefault(); addPictures(event.clipboardData.files); }
});
addEventListener("dragover", (event) => {
  if ([...event.dataTransfer.types].includes("Files")) { event.preventDefault(); $("drop").hidden = false; }
});
addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
addEventListener("drop", (event) => {
  $("drop").hidden = true;
  if (event.dataTransfer.files.length) { event.preventDefault(); addPictures(event.dataTransfer.files); }
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) running.abort();
  else if (event.key.toLowerCase() === "o" && event.ctrlKey && event.shiftKey) { event.preventDefault(); show(newChat()); }
  else if (event.key.toLowerCase() === "k" && event.ctrlKey) { event.preventDefault(); sidebar(true); $("search").focus(); }
});
addEventListener("online", greet);
hear((text) => { $("connection").textContent = text; });
$("new-chat").addEventListener("click", () => show(newChat()));
$("search").addEventListener("input", drawChats);
$("export").addEventListener("click", exportAll);
$("open-settings").addEventListener("click", openSettings);
$("settings").addEventListener("close", saveSettings);
$("open-sidebar").addEventListener("click", () => { sidebar(true); $("search").focus(); });
$("close-sidebar").addEventListener("click", () => sidebar(false));

await greet();
const [latest] = await chats().catch(() => []);
if (latest) chat = latest;
drawChat();
drawChats();
