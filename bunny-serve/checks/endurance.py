"""A server under load for minutes, beside connections that say nothing: no error, and memory that stays.

    python bunny-serve/checks/endurance.py --bunny target/release/bunny-cli --minutes 10 --clients 256 --idle 1000

Every third client goes away in mid-stream. Some answers are about photographs, which the built-in model does not know,
and end with its positions alone: keys and values have 24 MiB, less than half of what 16 of those take. A connection that
the server closes, since nothing came on it, is opened again. Prints requests and the server's memory every ten seconds,
and fails on an error, or when the memory grows by a tenth after the first minute. Linux; standard library alone.
"""

import argparse
import pathlib
import resource
import selectors
import socket
import sys
import threading
import time
import urllib.parse

import load
import running


def resident(process):
    """Megabytes that a process holds."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def leave(address, text):
    """Asks, and goes away at the first event."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=600) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode())
        connection.recv(100)


def stay_idle(address, count, end, errors):
    """Has so many connections open on which nothing is said."""
    host, port = address.split(":")
    with selectors.DefaultSelector() as selector:
        connect = lambda: selector.register(socket.create_connection((host, int(port))), selectors.EVENT_READ)
        for _ in range(count):
            connect()
        while time.monotonic() < end:
            for key, _ in selector.select(timeout=1):
                if key.fileobj.recv(1):
                    errors.append("something was said on an idle connection")
                selector.unregister(key.fileobj)
                key.fileobj.close()
                connect()
        for key in list(selector.get_map().values()):
            key.fileobj.close()


def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bunny", required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--idle", type=int, default=1000)
    args = parser.parse_args()
    pictures = sorted(load.PICTURES.glob("*.jpg"))
    bodies = [load.body(number, pictures, None) for number in range(16)]
    done, errors = [0], []
    with running.server(args.bunny, "--slots", "16", "--memory", "24MiB") as (url, process):
        address = urllib.parse.urlsplit(url).netloc
        end = time.monotonic() + 60 * args.minutes

        def client(number):
            try:
                if number == args.clients:
                    stay_idle(address, args.idle, end, errors)
                while time.monotonic() < end:
                    (leave if number % 3 == 0 else load.ask)(address, bodies[number % len(bodies)])
                    done[0] += 1
            except Exception as error:  # whatever it is, it is told at the end
                errors.append(repr(error))

        threads = [threading.Thread(target=client, args=(number,)) for number in range(args.clients + 1)]
        for thread in threads:
            thread.start()
        memory = []
        while time.monotonic() < end:
            time.sleep(10)
            memory.append(resident(process))
            print(f"{len(memory) * 10:5} s  {done[0]:8} requests  {memory[-1]:7.1f} MB", flush=True)
        for thread in threads:
            thread.join()
    after_a_minute = memory[min(5, len(memory) - 1) :]
    grown = after_a_minute[-1] / after_a_minute[0]
    print(f"{done[0]} requests, {len(errors)} errors, memory after a minute times {grown:.3f}", *errors[:3])
    sys.exit(bool(errors) or grown > 1.1)


if __name__ == "__main__":
    main()
