"""mistral.rs behind the part of the wire that serving.py asks: its own server is in no package of PyPI, its Runner is.

    python mistralrs_server.py --model FOLDER [--file FILE.gguf] [--dtype bf16] [--slots N] --port PORT

serving.py starts it with the Python that has mistralrs. A prompt comes in ids; mistral.rs takes texts, and so gets
the one that they stand for, which it cuts into as many tokens again, but for a few.
"""

import argparse
import json
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import mistralrs


class Handler(BaseHTTPRequestHandler):
    runner = None
    asking = threading.Lock()

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # The Runner is asked by one thread at a time; what it gives is read by all at once.
        with self.asking:
            request = mistralrs.ChatCompletionRequest(
                messages=self.runner.detokenize_text(body["prompt"], False),
                model="default",
                max_tokens=body["max_tokens"],
                temperature=0.0,
                ignore_eos=True,
                stream=True,
            )
            chunks = self.runner.send_chat_completion_request(request)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        tokens = 0
        for chunk in chunks:
            tokens += 1
            self.tell({"choices": [{"text": chunk.choices[0].delta.content or ""}]})
        self.tell({"usage": {"completion_tokens": tokens}})

    def tell(self, event):
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--file")
    parser.add_argument("--dtype", default="f32", choices=["f32", "f16", "bf16"])
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    dtype = getattr(mistralrs.ModelDType, args.dtype.upper())
    if args.file:
        which = mistralrs.Which.GGUF(args.model, args.file, dtype=dtype)
    else:
        which = mistralrs.Which.Plain(args.model, mistralrs.Architecture.Phi2, dtype=dtype)
    # Only chats are streamed: the template of this one is what is said.
    with tempfile.NamedTemporaryFile("w", suffix=".jinja") as template:
        template.write("{{ messages[0].content }}")
        template.flush()
        Handler.runner = mistralrs.Runner(which=which, max_seqs=args.slots, jinja_explicit=template.name)
    Server((args.host, args.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
