"""Clients at once beside clients one after another, on one server in one run.

    python bunny-serve/checks/load.py --bunny target/release/bunny-cli --clients 1 8 64 256

Every client asks about a picture, streamed, at temperature 0; its answer has to be the one that the first
client got alone. Prints, for each number of clients, requests and tokens a second, and the time to the first
token and between tokens (median and 99th of a hundred). The last line is JSON. Standard library alone.
"""

import argparse
import base64
import http.client
import json
import os
import pathlib
import statistics
import threading
import time
import urllib.parse

import running

PICTURES = pathlib.Path(__file__).resolve().parents[2] / "examples" / "pictures"
QUESTIONS = [
    "What is in the picture?",
    "What number is written in the picture?",
    "Where is the black diamond?",
    "How many shapes are there?",
]


def body(number, pictures, tokens):
    url = "data:;base64," + base64.b64encode(pictures[number % len(pictures)].read_bytes()).decode()
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": QUESTIONS[number // len(pictures) % len(QUESTIONS)]},
    ]
    wanted = {"messages": [{"role": "user", "content": content}], "temperature": 0, "stream": True}
    wanted["stream_options"] = {"include_usage": True}
    if tokens:
        wanted |= {"max_tokens": tokens, "ignore_eos": True}
    return json.dumps(wanted)


def ask(address, text):
    """The answer, its tokens, and when each event came, from the request on."""
    connection = http.client.HTTPConnection(address, timeout=600)
    started = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", text, {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200, response.read()
    said, times, tokens = "", [], 0
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        assert "error" not in event, event
        tokens = (event["usage"] or {}).get("completion_tokens", tokens)
        delta = event["choices"][0]["delta"].get("content") if event["choices"] else None
        if delta:
            said += delta
            times.append(time.perf_counter() - started)
    connection.close()
    return said, tokens, times


def measure(address, clients, bodies, expected):
    """All requests by so many clients, each asking the next one as soon as it has its answer."""
    left = list(enumerate(bodies))[::-1]
    first, between, tokens, wrong = [], [], [], []

    def client():
        while True:
            try:
                number, text = left.pop()
            except IndexError:
                return
            said, count, times = ask(address, text)
            first.append(times[0])
            between.extend(b - a for a, b in zip(times, times[1:]))
            tokens.append(count)
            if expected.setdefault(text, said) != said:
                wrong.append(number)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    assert len(tokens) == len(bodies), "a client failed"
    of_hundred = lambda times: statistics.quantiles(times, n=100)
    first, between = of_hundred(first), of_hundred(between)
    return {
        "clients": clients,
        "requests": len(bodies),
        "requests_per_second": len(bodies) / seconds,
        "tokens_per_second": sum(tokens) / seconds,
        "first_token_p50": first[49],
        "first_token_p99": first[98],
        "between_p50": between[49],
        "between_p99": between[98],
        "other_answers": len(wrong),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bunny", required=True)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--tokens", type=int, help="the length of every answer; its own unless given")
    parser.add_argument("--pictures", type=int, default=2, help="how many different ones")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--bunny-args", default="--dtype f32")
    args = parser.parse_args()
    pictures = sorted(PICTURES.glob("*.jpg"), reverse=True)[: args.pictures]
    bodies = [body(number, pictures, args.tokens) for number in range(args.requests)]
    results, expected = [], {}
    with running.server(args.bunny, "--slots", str(args.slots), *args.bunny_args.split()) as (url, _):
        address = urllib.parse.urlsplit(url).netloc
        # One after another, before all else: what is answered alone.
        for text in dict.fromkeys(bodies):
            expected[text] = ask(address, text)[0]
        print("clients  requests/s  tokens/s  first token, s (p99)  between, ms (p99)  other answers")
        for clients in args.clients:
            load = os.getloadavg()[0]
            result = measure(address, clients, bodies, expected) | {"load_before": load}
            results.append(result)
            print(
                "{clients:7}  {requests_per_second:10.1f}  {tokens_per_second:8.0f}  "
                "{first_token_p50:8.3f} ({first_token_p99:.3f})  ".format(**result)
                + f"{result['between_p50'] * 1e3:12.1f} ({result['between_p99'] * 1e3:.1f})  "
                + f"{result['other_answers']:13}"
            )
    print(json.dumps(results))


if __name__ == "__main__":
    main()
