// Keeps the page's files, so that it opens without a network. The model's are kept by files.js.

const CACHE = "bunny-page-1";
const FILES = [
  "./", "app.js", "backend.js", "history.js", "markdown.js", "pictures.js", "style.css", "bunny.js", "archive.js", "engine.js",
  "files.js", "worker.js", "page.json", "samples/shapes.jpg",
];

addEventListener("install", (event) => {
  skipWaiting();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)));
});
addEventListener("activate", (event) => event.waitUntil(clients.claim()));

// What the host has comes first: only where it cannot be reached is what was kept shown.
addEventListener("fetch", (event) => {
  const { request } = event;
  const address = new URL(request.url);
  const here = new URL("./", location.href);
  if (request.method !== "GET" || !address.href.startsWith(here.href)) return;
  const path = address.pathname.slice(here.pathname.length) || "./";
  if (!FILES.includes(path) && path !== "index.html") return;
  event.respondWith((async () => {
    const cache = await caches.open(CACHE);
    const key = new URL(path === "index.html" ? "./" : path, here).href;
    try {
      const response = await fetch(request);
      if (response.ok) await cache.put(key, response.clone());
      return response;
    } catch (error) {
      const kept = await cache.match(key);
      if (kept) return kept;
      throw error;
    }
  })());
});
