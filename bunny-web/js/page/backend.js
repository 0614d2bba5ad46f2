// The page's answers, of a model in this tab: `v1/chat/completions` is answered by a worker, all else is files.
// `?model=ADDRESS` in the page's address takes the model of a folder there, `?precision=int4` rounds it.

import { Bunny } from "./bunny.js";

let listener = () => {};
let said = "";

/** Has `listener` hear what the model is about. */
export function hear(one) {
  listener = one;
  tell(said);
}

function tell(text) {
  said = text;
  listener(text);
}

const wanted = new URLSearchParams(location.search);
/** What the page is told of the model; known when another one than the page's own is loaded. */
let other = null;
let loading = load({ model: wanted.get("model") ?? undefined });

function load({ model }) {
  tell("loading");
  const loaded = Bunny.load({
    model, base: wanted.get("base") ?? undefined, tower: wanted.get("tower") ?? undefined,
    precision: wanted.get("precision") ?? undefined,
    progress: ({ path, done, length }) => tell(path === null ? "loading"
      : `loading ${path}: ${(done / 1e6).toFixed(1)} of ${(length / 1e6).toFixed(1)} MB`),
  });
  loaded.then((bunny) => {
    tell("");
    if (model) {
      const billions = (bunny.info.parameters / 1e9).toFixed(2);
      other = { card: `A model of ${billions} billion parameters, held in ${bunny.info.precision}, in this tab.` };
    }
  }, (error) => tell(error.message));
  return loaded;
}

/** As `fetch`, but for answers. */
export async function call(address, options) {
  if (address === "v1/chat/completions") return answer(JSON.parse(options.body), options.signal);
  const response = await fetch(address);
  if (address !== "page.json" || !other) return response;
  return Response.json({ ...await response.json(), samples: [], model: "", ...other });
}

async function answer({ messages, ...body }, signal) {
  let bunny, turns, system;
  try {
    // A stop is heard before the answer begins, too: while a model is loaded, that is long.
    bunny = await Promise.race([aborted(signal), loading]);
    [turns, system] = conversation(messages);
  } catch (error) {
    signal?.throwIfAborted();
    return refusal(error);
  }
  const encoder = new TextEncoder();
  const control = new AbortController();
  signal?.addEventListener("abort", () => control.abort());
  const stream = new ReadableStream({
    async start(controller) {
      // What is said until the stop is heard, nobody reads.
      const send = (event) => signal?.aborted || controller.enqueue(encoder.encode(`data: ${JSON.stringify(event)}\n\n`));
      signal?.addEventListener("abort", () => controller.error(new DOMException("", "AbortError")));
      try {
        const { finish, prompt_tokens, completion_tokens } = await bunny.answer(turns, {
          system, signal: control.signal,
          listen: (content) => content && send({ choices: [{ index: 0, delta: { content } }] }),
          temperature: body.temperature, top_p: body.top_p, max_new_tokens: body.max_tokens,
          seed: body.seed ?? Math.floor(Math.random() * 2 ** 32),
        });
        if (signal?.aborted) return;
        send({ choices: [{ index: 0, delta: {}, finish_reason: finish === "length" ? "length" : "stop" }] });
        send({ choices: [], usage: { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens } });
        controller.enqueue(encoder.encode("data: [DONE]\n\n"));
        controller.close();
      } catch (error) {
        if (signal?.aborted) return;
        send({ error: { message: error.message } });
        controller.close();
      }
    },
    cancel: () => control.abort(),
  });
  return new Response(stream, { headers: { "Content-Type": "text/event-stream" } });
}

/** Fails when `signal` does. */
const aborted = (signal) => new Promise((_, failed) => {
  if (signal?.aborted) failed(signal.reason);
  signal?.addEventListener("abort", () => failed(signal.reason));
});

const refusal = (error) => Response.json({ error: { message: error.message } }, { status: 400 });

/** OpenAI's messages as the model takes them, and the system text. */
function conversation(messages) {
  const turns = [];
  let system;
  for (const { role, content } of messages) {
    if (role === "system") {
      system = content;
      continue;
    }
    const parts = typeof content === "string" ? [{ type: "text", text: content }] : content;
    const text = parts.filter(({ type }) => type === "text").map((part) => part.text).join("\n");
    const pictures = parts.filter(({ type }) => type === "image_url").map((part) => blob(part.image_url.url));
    const before = turns.at(-1);
    // A question that got no answer is asked together with the next one, as a server does.
    if (before?.role === role) {
      before.text = [before.text, text].filter(Boolean).join("\n");
      before.pictures.push(...pictures);
    } else turns.push({ role, text, pictures });
  }
  return [turns, system];
}

/** The picture of a data URL. */
function blob(address) {
  const [head, base64] = address.split(",");
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type: head.slice(5).split(";")[0] });
}

// ---- a model from the person's disk ----

const chooser = Object.assign(document.createElement("input"), { type: "file", webkitdirectory: true, hidden: true });
const button = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: "Model from disk" });
chooser.setAttribute("aria-label", "A model's folder");
button.addEventListener("click", () => chooser.click());
chooser.addEventListener("change", () => {
  const before = loading;
  const files = [...chooser.files];
  chooser.value = "";
  if (!files.length) return;
  loading = before.then((bunny) => bunny.close(), () => {}).then(() => load({ model: files }));
  // The page asks anew what it talks with.
  loading.then(() => dispatchEvent(new Event("online")), () => {});
});
document.querySelector("#open-settings").parentElement.append(button, chooser);

if ("serviceWorker" in navigator) navigator.serviceWorker.register("sw.js").catch(() => {});
