"""How fast many clients at once are served, beside llama.cpp's llama-server and mistral.rs.

    python benches/peers/serving.py --bunny target/release/bunny-cli --llama LLAMA/build/bin \\
        --mistralrs VENV/bin/python --folder DIR --rounds 2

Two models: the built-in one, by 1, 8, 64 and 256 clients, and Phi-2 with SigLIP of random weights, by 1, 4 and 8.
Every client asks the next question as soon as it has its answer, of --tokens tokens, streamed. Questions are about
two pictures; the peers, and bunny beside them, get texts of as many tokens instead, two beginnings as long as a
picture, each with questions behind it. Servers are taken in turns, each started anew and warmed up by one answer.

Prints tokens a second of all clients, the time to the first token and between tokens (median, 99th of a hundred),
and how long a second question about a picture takes to its first token beside the first. The last line is JSON.
Needs NumPy, and gguf for llama.cpp's files, which --folder keeps (16 GB with --weights bf16 int8 int4).
"""

import argparse
import asyncio
import base64
import contextlib
import json
import os
import pathlib
import platform
import random
import re
import shlex
import socket
import statistics
import subprocess
import sys
import time

import random_bunny

HERE = pathlib.Path(__file__).resolve().parent
PICTURES = HERE.parents[1] / "examples" / "pictures"
QUESTIONS = ["What is in the picture?", "What number is written there?", "Where is it?", "How many are there?"]
# Positions of a picture, and words behind it; what stands before is the same for all.
SHAPES = {"builtin": (64, 40), "phi-2": (729, 39)}
CLIENTS = {"builtin": [1, 8, 64, 256], "phi-2": [1, 4, 8]}
QUANTISED = {"f32": "F32", "f16": "F16", "bf16": None, "int8": "Q8_0", "int4": "Q4_0"}


def picture_bodies(count, tokens):
    """Chats about two pictures."""
    urls = ["data:;base64," + base64.b64encode((PICTURES / name).read_bytes()).decode() for name in
            ("shapes.jpg", "coffee.jpg")]
    for number in range(count):
        parts = [
            {"type": "image_url", "image_url": {"url": urls[number % 2]}},
            {"type": "text", "text": QUESTIONS[number // 2 % len(QUESTIONS)]},
        ]
        yield {"messages": [{"role": "user", "content": parts}], "max_tokens": tokens}


def text_bodies(count, tokens, shape):
    """Texts of as many tokens, as ids, with two beginnings of a picture's length."""
    picture, words = shape
    draw = random.Random(0)
    ids = lambda count: [draw.randrange(256, 768) for _ in range(count)]
    beginnings = [ids(picture), ids(picture)]
    for number in range(count):
        yield {"prompt": beginnings[number % 2] + ids(words), "max_tokens": tokens}


async def ask(port, path, body):
    """When each event with text came, from the request on, and the tokens of the answer."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    status = await reader.readline()
    if b" 200 " not in status:
        raise SystemExit(f"{status.decode()}{(await reader.read()).decode()[:500]}")
    times, tokens = [], 0
    async for line in reader:
        if not line.startswith(b"data: {"):
            continue
        if b'"completion_tokens":' in line:
            tokens = int(re.search(rb'"completion_tokens":\s*(\d+)', line)[1])
        if re.search(rb'"(text|content)":\s*"[^"]', line):
            times.append(time.perf_counter() - started)
    writer.close()
    if not times or not tokens:
        raise SystemExit("an answer had no text, or no usage")
    return times, tokens


async def load(port, path, bodies, clients):
    """All bodies by so many clients."""
    left, answers = iter(bodies), []

    async def client():
        for body in left:
            answers.append(await ask(port, path, body))

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.perf_counter() - started
    first = [times[0] for times, _ in answers]
    between = [b - a for times, _ in answers for a, b in zip(times, times[1:])]
    of_hundred = lambda times: statistics.quantiles(times, n=100, method="inclusive")
    return {
        "requests": len(answers),
        "seconds": seconds,
        "tokens_per_second": sum(tokens for _, tokens in answers) / seconds,
        "first_token_p50": of_hundred(first)[49],
        "first_token_p99": of_hundred(first)[98],
        "between_p50": of_hundred(between)[49],
        "between_p99": of_hundred(between)[98],
    }


@contextlib.contextmanager
def running(command, log):
    """The port of a server, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*command, "--host", "127.0.0.1", "--port", str(port)]
    print("  " + shlex.join(map(str, command)), file=sys.stderr, flush=True)
    with open(log, "w") as words, subprocess.Popen(command, stdout=words, stderr=words) as process:
        try:
            end = time.monotonic() + 600
            while not is_healthy(port):
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"the server does not start: see {log}")
                time.sleep(0.2)
            yield port
        finally:
            process.terminate()
            process.wait(timeout=60)


def is_healthy(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def measure(command, log, workload, model, clients, requests, tokens):
    """A run of one workload on a server that has just been started."""
    is_chat = workload == "pictures"
    path = "/v1/chat/completions" if is_chat else "/v1/completions"
    bodies = picture_bodies(requests, tokens) if is_chat else text_bodies(requests, tokens, SHAPES[model])
    common = {"temperature": 0, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
    encoded = [json.dumps(body | common).encode() for body in bodies]
    with running(command, log) as port:
        # The first and the third are about the same picture, or begin alike.
        (cold, _), (warm, _) = [asyncio.run(ask(port, path, encoded[at])) for at in (0, 2)]
        before = os.getloadavg()[0]
        result = asyncio.run(load(port, path, encoded, clients))
    return result | {"first_question": cold[0], "second_question": warm[0], "load_before": before}


def bunny_command(args, folder, weights, slots):
    model = "builtin" if folder.name == "builtin" else folder
    kind = {"int8": ["--dtype", "bf16", "--weights", "int8"], "int4": ["--dtype", "bf16", "--weights", "int4"]}
    numbers = kind.get(weights, ["--dtype", weights])
    return [args.bunny, "serve", "--model", model, *numbers, "--slots", str(slots), *shlex.split(args.bunny_args)]


def llama_command(args, path, weights, slots, positions):
    """A file in the numbers that are wanted, made where it is not there, and the server over it."""
    kind = QUANTISED[weights]
    if kind:
        wanted = path.with_name(f"{path.stem}-{weights}.gguf")
        if not wanted.exists():
            pure = [args.llama / "llama-quantize", "--pure", path, wanted, kind]
            subprocess.run(pure, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        path = wanted
    own = ["-t", str(args.threads), "-np", str(slots), "-c", str(slots * positions), "--no-ui"]
    return [args.llama / "llama-server", "-m", path, *own, *shlex.split(args.llama_args)]


def mistralrs_command(args, folder, path, weights, slots):
    """Floats are the folder's, integers those of the file that llama-server has."""
    own = [args.mistralrs, HERE / "mistralrs_server.py", "--slots", str(slots)]
    if QUANTISED[weights] in ("Q8_0", "Q4_0"):
        return [*own, "--model", path.parent, "--file", f"{path.stem}-{weights}.gguf", "--dtype", "f32"]
    return [*own, "--model", folder, "--dtype", weights]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bunny", metavar="BINARY", required=True)
    parser.add_argument("--bunny-args", default="", help="further arguments of `serve`")
    parser.add_argument("--llama", metavar="DIR", type=pathlib.Path, help="where llama-server and llama-quantize are")
    parser.add_argument("--llama-args", default="", help="further arguments of llama-server")
    parser.add_argument("--mistralrs", metavar="PYTHON", type=pathlib.Path, help="a Python that has mistralrs")
    parser.add_argument("--folder", metavar="DIR", type=pathlib.Path, required=True, help="where models are kept")
    parser.add_argument("--model", choices=SHAPES, nargs="+", default=list(SHAPES))
    parser.add_argument("--weights", choices=QUANTISED, nargs="+", help="f32 for the built-in model, else bf16")
    parser.add_argument("--workload", choices=["pictures", "text"], nargs="+", default=["pictures", "text"])
    parser.add_argument("--clients", type=int, nargs="+")
    parser.add_argument("--requests", type=int, help="of each run; two a client and more unless given")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--slots", type=int, default=8, help="answers at once")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", help="also write the JSON here")
    args = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)
    args.folder.mkdir(parents=True, exist_ok=True)
    template, log = args.folder / "builtin", args.folder / "serving.log"
    if not template.exists():
        subprocess.run([args.bunny, "model", "unpack", template], check=True, stdout=subprocess.DEVNULL)
    results = []
    print("model    weights  workload  server   clients  tokens/s  first token, s (p99)  between, ms (p99)  second/first")
    for _ in range(args.rounds):
        for model in args.model:
            folder, path = random_bunny.folder_and_gguf(template, args.folder, model, bool(args.llama))
            for weights in args.weights or (["f32"] if model == "builtin" else ["bf16"]):
                for clients in args.clients or CLIENTS[model]:
                    slots = args.slots
                    positions = sum(SHAPES[model]) + args.tokens + 64
                    usual = max(2 * clients, 64 if model == "builtin" else 8)
                    requests = max(args.requests or usual, 3)
                    for workload in args.workload:
                        servers = {"bunny": bunny_command(args, folder, weights, slots)}
                        if args.llama and workload == "text":
                            servers["llama"] = llama_command(args, path, weights, slots, positions)
                        if args.mistralrs and workload == "text":
                            servers["mistral"] = mistralrs_command(args, folder, path, weights, slots)
                        for name, command in servers.items():
                            result = measure(command, log, workload, model, clients, requests, args.tokens)
                            about = {"model": model, "weights": weights, "workload": workload, "server": name}
                            results.append(about | {"clients": clients} | result)
                            show(results[-1])
    text = json.dumps({"machine": machine(), "runs": results})
    print(text)
    if args.json:
        pathlib.Path(args.json).write_text(text + "\n")


def show(run):
    print(
        "{model:7}  {weights:7}  {workload:8}  {server:7}  {clients:7}  {tokens_per_second:8.1f}  "
        "{first_token_p50:12.3f} ({first_token_p99:.3f})  ".format(**run)
        + f"{run['between_p50'] * 1e3:10.1f} ({run['between_p99'] * 1e3:.1f})  "
        + f"{run['second_question'] / run['first_question']:12.3f}"
        + ("  (busy machine)" if run["load_before"] > 1.5 + run["clients"] else ""),
        flush=True,
    )


def machine():
    with open("/proc/cpuinfo") as file:
        names = [line.split(": ")[1].strip() for line in file if line.startswith("model name")]
    return {"processor": names[0] if names else platform.processor(), "cpus": os.cpu_count()}


if __name__ == "__main__":
    main()
