"""Serving the web app from this process."""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress

import uvicorn

from goodeye.errors import BadInput
from goodeye.ledger.ledger import Ledger
from goodeye.review.app import Settings, create_app
from goodeye.review.auth import check_exposure
from goodeye.review.find import Finder
from goodeye.review.queue import Rules

PASSWORD = "GOODEYE_REVIEW_PASSWORD"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def listening(host: str, port: int, rules: Rules) -> socket.socket:
    """Where to serve, before anything is loaded. Raises BadInput for a host that others can reach without
    GOODEYE_REVIEW_PASSWORD, for a port that is taken, and for rules that make no sense."""
    check_exposure(host, os.environ.get(PASSWORD, ""))
    check_rules(rules)
    return _listening(host, port)


def serve(
    ledger: Ledger,
    host: str,
    listener: socket.socket,
    rules: Rules,
    on_ready: Callable[[str], None] = lambda url: None,
    finder: Finder | None = None,
) -> None:
    """Serves until Ctrl-C. on_ready: called with the address when requests are taken. finder: an index to search in."""
    password = os.environ.get(PASSWORD, "")
    settings = Settings(password=password, rules=rules, hosts=names_of(host, password), finder=finder)
    name = f"[{host}]" if ":" in host else host
    on_ready(f"http://{name}:{listener.getsockname()[1]}/")
    app = create_app(ledger, settings)
    config = uvicorn.Config(app, log_level="warning", proxy_headers=False, server_header=False, access_log=False)
    with suppress(KeyboardInterrupt):  # Ctrl-C is how it is meant to end; open requests are finished first
        uvicorn.Server(config).run(sockets=[listener])


def names_of(host: str, password: str) -> frozenset[str]:
    """By which names the app may be called; empty: by any. Without a password another site could have its own name
    point at this machine, and its page ask as ours does; with one, a name alone lets nobody in."""
    return frozenset() if password else LOOPBACK_NAMES | {host.strip("[]").lower()}


def check_rules(rules: Rules) -> None:
    """Raises BadInput for numbers that cannot be."""
    if rules.votes < 1:
        raise BadInput(f"--votes is {rules.votes}, so nobody would be asked. Ask at least one person.")
    if not (0 <= rules.random_share <= 1 and 0 <= rules.repeat_share <= 1):
        raise BadInput("--random-share and --repeat-share are parts of the work. Give each as a number from 0 to 1.")


def _listening(host: str, port: int) -> socket.socket:
    if not 0 <= port < 65536:  # getaddrinfo takes the rest by 65536
        raise BadInput(f"--port is {port}, and ports go from 0 to 65535. Name one of these.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as unless_it_listens:
            # By its protocol asyncio knows that it may send small parts at once: else each answer on a kept connection
            # waits 40 ms for the last one to be acknowledged.
            listener = unless_it_listens.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
            unless_it_listens.pop_all()
    except (OSError, OverflowError) as error:
        raise BadInput(f"{host}:{port} cannot be served at: {error}. Name another --host or --port.") from error
    return listener
