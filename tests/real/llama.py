"""llama.cpp's own server with one model, on a free port of loopback: run as a script, it is the server.

It is a process of its own, so that it can be killed, and it ends when its input does: it outlives no test.
"""

import os
import select
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 120  # seconds for the model to be loaded


def serve(model: str) -> None:
    """Says the server's address in one line when it is ready."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx, params.n_parallel = 4096, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # two wait for each other where a core is taken
    params.fit_params = params.warmup = params.ui = False
    params.cache_prompt, params.cache_ram_mib = (
        False,
        0,
    )  # else what was asked before changes the last digits of an answer
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)


@contextmanager
def served(model: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """The URL of the server's API, and its process."""
    with tempfile.TemporaryFile("w+") as log:
        line = [sys.executable, __file__, str(model)]
        process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
            address = process.stdout.readline().strip() if ready else ""
            if not address:
                log.seek(0)
                raise RuntimeError(f"llama.cpp's server did not start: {log.read()[-1000:]}")
            urllib.request.urlopen(f"{address}/health", timeout=PATIENCE).close()
            yield f"{address}/v1", process
        finally:
            process.kill()
            process.communicate()


if __name__ == "__main__":
    serve(sys.argv[1])
