"""The demo's local teacher: a server that speaks the OpenAI chat API over loopback and describes what it measures.

    python -m sgv_data.demo.teacher --port 0

prints its base URL (`http://127.0.0.1:PORT/v1`) and serves `POST /v1/chat/completions`, `GET /v1/models` and
`GET /health`. It knows one model, `pixel-reader`, which looks at the one picture of a request, a `data:` URI. Equal
requests get equal captions. It ends when its standard input closes or its parent is gone, so it cannot be left behind;
`--stay` lets it go on without either.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

from sgv_data.demo.chat_api import ChatHandler
from sgv_data.errors import ProviderError

_HOST = "127.0.0.1"
_KEY_VARIABLE = "SGV_DEMO_TEACHER_API_KEY"
_WATCH_EVERY_S = 0.5
_END_WITHIN_S = 5.0


class TeacherServer(ThreadingHTTPServer):
    """A thread per connection; `api_key` is the key that requests must carry, None for any or none."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, api_key: str | None = None) -> None:
        self.api_key = api_key
        super().__init__((_HOST, port), ChatHandler)

    @property
    def base_url(self) -> str:
        return f"http://{_HOST}:{self.server_address[1]}/v1"


@contextlib.contextmanager
def running_teacher(api_key: str | None = None) -> Iterator[str]:
    """Run the teacher as a child process; gives its base URL. The child ends with the block, or with this process."""
    command = [sys.executable, "-m", "sgv_data.demo.teacher", "--port", "0"]
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **os.environ}  # its arrays are small
    if api_key is not None:
        environment[_KEY_VARIABLE] = api_key
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert child.stdout is not None
        base_url = child.stdout.readline().strip()
        if not base_url:
            raise ProviderError(f"the demo's teacher did not start (exit code {child.wait()})")
        yield base_url
    finally:
        _end(child)


def _end(child: subprocess.Popen[str]) -> None:
    """Close the child's standard input, upon which it ends by itself; kill it when it does not."""
    with contextlib.suppress(BrokenPipeError):
        if child.stdin:
            child.stdin.close()
    try:
        child.wait(_END_WITHIN_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout:
        child.stdout.close()


def _wait_for_end(parent_pid: int) -> None:
    """Return once standard input is closed or the parent process is gone.

    Both are watched: a process forked by the parent may hold the pipe's other end open longer than the parent lives.
    """
    closed = threading.Event()

    def read_to_end() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        closed.set()

    threading.Thread(target=read_to_end, daemon=True).start()
    while os.getppid() == parent_pid and not closed.wait(_WATCH_EVERY_S):
        pass


def main(arguments: list[str] | None = None) -> None:
    """Serve until standard input closes, the parent ends or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="sgv_data.demo.teacher", description="The demo's local teacher.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--api-key", default=os.environ.get(_KEY_VARIABLE), help="refuse requests without this key")
    parser.add_argument("--stay", action="store_true", help="go on without standard input and parent")
    options = parser.parse_args(arguments)
    parent_pid = os.getppid()
    with TeacherServer(options.port, options.api_key) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdout.write(f"{server.base_url}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            if options.stay:
                threading.Event().wait()
            _wait_for_end(parent_pid)
        server.shutdown()


if __name__ == "__main__":
    main()
