"""A `bunny-cli serve` of one's own on a free port, for as long as a `with` lasts."""

import contextlib
import signal
import subprocess


@contextlib.contextmanager
def server(bunny, *arguments):
    """Yields the address of a server on this machine, and its process."""
    command = [bunny, "serve", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            # It says where it listens once it does: "http://127.0.0.1:43210 (Ctrl-C ends it)".
            yield process.stdout.readline().split()[0], process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
