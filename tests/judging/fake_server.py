"""A small OpenAI-compatible server on loopback whose answers, faults and delays a test writes."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """status other than 200: an error. text: what the model says; raw: the whole body instead; slow: seconds; finish:
    why the model stopped."""

    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    slow: float = 0.0
    finish: str = "stop"


@dataclass
class Fake:
    """script: replies in order, the last one for ever; or a function of the request's JSON."""

    script: list[Reply] | Callable[[dict[str, Any]], Reply]
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def reply(self, request: dict[str, Any]) -> Reply:
        self.requests.append(request)
        if callable(self.script):
            return self.script(request)
        return self.script[min(len(self.requests), len(self.script)) - 1]


def said(data: Any) -> Reply:
    """The model says this as JSON."""
    return Reply(json.dumps(data))


@contextmanager
def serving(script: list[Reply] | Callable[[dict[str, Any]], Reply]) -> Iterator[Fake]:
    """Serves until the end of the block."""
    fake = Fake(script)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply = fake.reply(request)
            time.sleep(reply.slow)
            choice = {
                "index": 0,
                "finish_reason": reply.finish,
                "message": {"role": "assistant", "content": reply.text},
            }
            whole = {"id": "1", "object": "chat.completion", "created": 0, "model": "fake", "choices": [choice]}
            body = reply.raw if reply.raw is not None else json.dumps(whole).encode()
            try:
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # whoever asked did not wait

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
