// A host of files for the checks, as plain as they come, or with the habits that some have.

import { createServer } from "node:http";
import { existsSync, readFileSync, statSync } from "node:fs";
import { extname, join, normalize } from "node:path";

const KINDS = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".jpg": "image/jpeg" };

/**
 * Serves `folder` at a free port of 127.0.0.1, and `pages`, texts by their paths, before its files.
 *
 * `isOpen` lets other hosts' pages read (CORS); `unpacks` says of a packed file that the packing is the host's own, as
 * Apache and sirv do; `application` answers with a page where there is no file.
 */
export async function host(folder, { pages = {}, isOpen, unpacks, application } = {}) {
  const requests = [];
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://host").pathname);
    requests.push(`${request.method} ${path}`);
    if (isOpen) response.setHeader("Access-Control-Allow-Origin", "*");
    const file = join(folder, normalize(path));
    const isThere = path in pages || (existsSync(file) && statSync(file).isFile());
    if (!isThere && !application) return void response.writeHead(404).end();
    if (!isThere) return void response.writeHead(200, { "Content-Type": "text/html" }).end(application);
    if (unpacks && path.endsWith(".gz")) response.setHeader("Content-Encoding", "gzip");
    const bytes = Buffer.from(pages[path] ?? readFileSync(file));
    response.setHeader("Content-Length", bytes.length);
    response.writeHead(200, { "Content-Type": KINDS[extname(path)] ?? (path in pages ? "text/html" : "application/octet-stream") });
    response.end(bytes);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const close = () => {
    server.closeAllConnections();
    return new Promise((done) => server.close(done));
  };
  return { url: `http://127.0.0.1:${server.address().port}`, requests, pages, close };
}
