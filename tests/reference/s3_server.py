"""An S3 server (moto) with a set of embeddings in the bucket `bunny`, behind a proxy that misbehaves.

    pip install 'moto[server]' boto3
    python s3_server.py FOLDER     # prints one line of JSON: the addresses of server and proxy

Of every so many requests to the proxy one is answered late, cut in the middle of its body, answered by
503, or, where it puts an object, answered as done and thrown away; with `well` behind FOLDER, none is.
GET /faults tells how many of each, GET /traffic how many requests there were and how many bytes of objects
they read and wrote. The server ends when its standard input does."""

import http.client
import http.server
import json
import os
import sys
import threading
import time
from pathlib import Path

os.environ.update(AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret", AWS_DEFAULT_REGION="us-east-1")

import boto3  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

FAULTS = ["503", "cut", "slow", "lost put"]
EVERY = 11
LATE = 3.0

counts = {fault: 0 for fault in FAULTS}
traffic = {"requests": 0, "read": 0, "written": 0}
behaves = sys.argv[2:] == ["well"]
lock = threading.Lock()
requests = 0
turns = 0


def fault(method, path):
    """What goes wrong with this request: the next fault whose kind it is, now and then."""
    global requests, turns
    with lock:
        requests += 1
        if requests < EVERY or behaves:
            return None
        turn = FAULTS[turns % len(FAULTS)]
        # Only what puts a whole object can be thrown away unseen, and only an answer with a body cut.
        if (turn == "lost put" and (method != "PUT" or "?" in path)) or (turn == "cut" and method != "GET"):
            return None
        requests, turns = 0, turns + 1
        counts[turn] += 1
        return turn


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream = None

    def answer(self, status, headers, body, length=None):
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "server", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def relay(self):
        if self.path in ("/faults", "/traffic"):
            told = counts if self.path == "/faults" else traffic
            return self.answer(200, [], json.dumps(told).encode())
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        wrong = fault(self.command, self.path)
        if wrong == "503":
            return self.answer(503, [], b"<Error><Code>SlowDown</Code><Message>slow down</Message></Error>")
        if wrong == "slow":
            time.sleep(LATE)
        if wrong == "lost put":
            return self.answer(200, [("ETag", '"0123456789abcdef0123456789abcdef"')], b"")
        server = http.client.HTTPConnection(*self.upstream)
        server.request(self.command, self.path, body, dict(self.headers))
        answer = server.getresponse()
        content = answer.read()
        with lock:
            traffic["requests"] += 1
            traffic["read"] += len(content) if self.command == "GET" and "list-type" not in self.path else 0
            traffic["written"] += len(body) if self.command == "PUT" else 0
        if self.command == "HEAD":
            self.answer(answer.status, answer.getheaders(), b"", answer.getheader("Content-Length", "0"))
        elif wrong == "cut" and len(content) > 1:
            self.answer(answer.status, answer.getheaders(), content[: len(content) // 2], len(content))
            self.close_connection = True
        else:
            self.answer(answer.status, answer.getheaders(), content)
        server.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = relay

    def log_message(self, *_):
        pass


def main():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket="bunny")
    folder = Path(sys.argv[1])
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            client.upload_file(str(file), "bunny", f"set/{file.relative_to(folder)}")
    Proxy.upstream = (host, port)
    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    print(json.dumps({"server": f"http://{host}:{port}", "proxy": f"http://127.0.0.1:{proxy.server_port}"}), flush=True)
    sys.stdin.read()
    os._exit(0)


main()
