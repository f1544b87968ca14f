"""Large models behind any OpenAI-compatible server: typed answers, checked, cached by everything that went in.

Settings come from `Server`, or from the environment: GOODEYE_SERVER (base URL), GOODEYE_MODEL, GOODEYE_API_KEY,
GOODEYE_MAX_TOKENS, GOODEYE_CACHE (a folder).
"""

import base64
import hashlib
import io
import json
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput

LONGEST_WAIT = 60.0  # seconds that a rate limit is waited for, whatever the server asks


class Answer(BaseModel):
    """What a large model is to answer: a subclass says the fields. Fields beyond them are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


A = TypeVar("A", bound=Answer)


class BadAnswer(RuntimeError):
    """The model answered, and what it said cannot be used. `said` is its answer. Record it as missing: no number."""

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.said = said


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where the model is, and how patiently it is asked."""

    url: str  # of the API, as in http://localhost:8000/v1
    model: str
    key: str = field(default="none", repr=False)
    timeout: float = 120.0  # seconds a request
    tries: int = 5  # requests before a server that fails is given up
    asks: int = 3  # times that the model is asked before an answer that cannot be used is given up
    temperature: float = 0.0
    max_tokens: int = 2048  # of an answer: a model that repeats itself without end is cut there, and has failed


def server_from(url: str | None = None, model: str | None = None, **settings: Any) -> Server:
    """The server of these settings or of the environment. Raises BadInput where neither names one."""
    url, model = url or os.environ.get("GOODEYE_SERVER"), model or os.environ.get("GOODEYE_MODEL")
    if not url or not model:
        raise BadInput(
            "no large model is named. Give --server URL and --model NAME of an OpenAI-compatible server, or set "
            "GOODEYE_SERVER and GOODEYE_MODEL."
        )
    if not _is_url(url):
        raise BadInput(f"{url} is no URL of a server. Give one as http://localhost:8000/v1.")
    if tokens := os.environ.get("GOODEYE_MAX_TOKENS"):
        if not (tokens.isdecimal() and int(tokens)):
            raise BadInput(f"GOODEYE_MAX_TOKENS is {tokens}. Set it to a whole number above 0, or to nothing.")
        settings.setdefault("max_tokens", int(tokens))
    return Server(url=url, model=model, key=os.environ.get("GOODEYE_API_KEY") or "none", **settings)


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half a bracket, or a port that is no number
        return False


def cache_folder() -> Path:
    """GOODEYE_CACHE, or goodeye/large in the user's own folder for caches."""
    named = os.environ.get("GOODEYE_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "goodeye/large"


@dataclass(frozen=True)
class Asked:
    """One question: words, and pictures that go with them."""

    text: str
    images: Sequence[Image.Image] = ()
    system: str = ""

    def messages(self) -> list[dict[str, Any]]:
        """As the chat API takes them; pictures as PNG data URIs."""
        pictures = [{"type": "image_url", "image_url": {"url": _data_uri(img)}} for img in self.images]
        content: Any = [{"type": "text", "text": self.text}, *pictures] if pictures else self.text
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": content}]


class LargeModel:
    """Asks a model and gives what it says as a checked `Answer`. Equal questions are asked once: answers are cached.

    cache: a folder; None keeps nothing. sleep: waits, in seconds.
    """

    def __init__(
        self, server: Server, cache: str | Path | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        import openai

        self.server, self.sleep = server, sleep
        self.cache = None if cache is None else Path(cache)
        self.requests = 0  # sent so far; a cached answer sends none
        self.read = self.written = 0  # tokens of those, as the server counts them
        self._plain = False  # the server does not know response_format
        self._client = openai.OpenAI(base_url=server.url, api_key=server.key, timeout=server.timeout, max_retries=0)

    def ask(self, asked: Asked, kind: type[A]) -> A:
        """The model's answer as `kind`, whose JSON schema it is held to.

        An answer that does not fit is shown to the model with what is wrong, and asked for again. Raises BadAnswer
        where it never fits, and BadInput where the server cannot be reached, refuses, or stays too busy. Only answers
        that fit are cached.
        """
        path = self._path(asked, kind)
        if path is not None and (known := _cached(path, kind)) is not None:
            return known
        messages = asked.messages()
        said, wrong = "", ""
        for _ in range(self.server.asks):
            said, whole = self._complete(messages, kind)
            try:
                answer = _parse(said, kind)
            except ValueError as error:
                wrong = _wrong(error) if whole else f"it does not end within {self.server.max_tokens} tokens"
                messages = [
                    *asked.messages(),
                    {"role": "assistant", "content": said[: 4000 if whole else 200]},
                    {"role": "user", "content": f"That cannot be used: {wrong}. {_in_words(kind)}"},
                ]
                continue
            if path is not None:
                write_bytes(path, answer.model_dump_json().encode())
            return answer
        raise BadAnswer(f"{self.server.model} gave no usable answer in {self.server.asks} tries: {wrong}", said)

    def _path(self, asked: Asked, kind: type[Answer]) -> Path | None:
        if self.cache is None:
            return None
        everything = {
            "url": self.server.url,
            "model": self.server.model,
            "temperature": self.server.temperature,
            "messages": asked.messages(),
            "schema": schema(kind),
        }
        digest = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
        return self.cache / digest[:2] / f"{digest}.json"

    def _complete(self, messages: list[dict[str, Any]], kind: type[Answer]) -> tuple[str, bool]:
        """What the model says, and whether it came to an end.

        A busy or failing server is asked again, each time after twice the wait.
        """
        import openai

        why, wait = "", 0.0
        for tried in range(self.server.tries):
            if tried:
                self.sleep(wait)
            wait = 2.0**tried * (1 + random.random() / 4)
            try:
                return self._request(messages, kind)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if self._plain:
                    raise BadInput(self._refused(error)) from error
                self._plain, why, wait = True, _one_line(error), 0.0
            except openai.APITimeoutError as error:
                why = f"gave no answer within {self.server.timeout:g} seconds ({type(error).__name__})"
            except openai.APIConnectionError as error:
                why = f"cannot be reached ({_one_line(error.__cause__ or error)})"
            except openai.APIStatusError as error:
                if error.status_code not in (408, 409, 429) and error.status_code < 500:
                    raise BadInput(self._refused(error)) from error
                status = error.status_code
                why = "is too busy (429)" if status == 429 else f"failed with status {status} ({_words(error)})"
                wait = max(wait, _asked_to_wait(error.response.headers.get("retry-after", "")))
            except (openai.APIError, ValueError) as error:  # the latter where a body is no JSON
                why = f"does not speak the protocol ({_one_line(error)})"
        raise BadInput(
            f"the server {self.server.url} {why}, {self.server.tries} times. Start it, correct its URL, or try later: "
            "what was answered so far is kept."
        )

    def _request(self, messages: list[dict[str, Any]], kind: type[Answer]) -> tuple[str, bool]:
        self.requests += 1
        form: dict[str, Any] = {}
        if self._plain:
            messages = [*messages, {"role": "user", "content": _in_words(kind)}]
        else:
            described = {"name": kind.__name__, "strict": True, "schema": schema(kind)}
            form = {"response_format": {"type": "json_schema", "json_schema": described}}
        made = self._client.chat.completions.create(
            model=self.server.model,
            messages=messages,
            temperature=self.server.temperature,
            max_tokens=self.server.max_tokens,  # the name that every server knows
            **form,
        )
        usage = getattr(made, "usage", None)
        self.read += _counted(usage, "prompt_tokens")
        self.written += _counted(usage, "completion_tokens")
        try:
            said, ended = made.choices[0].message.content, made.choices[0].finish_reason
        except (AttributeError, LookupError, TypeError):  # what answers something else than a completion has no such
            said, ended = None, None
        return (said if isinstance(said, str) else f"(no completion: {str(made)[:200]})"), ended != "length"

    def _refused(self, error: Any) -> str:
        return (
            f"the server {self.server.url} refuses the request ({error.status_code}: {_words(error)}). "
            "Check the model's name and GOODEYE_API_KEY."
        )


def schema(kind: type[Answer]) -> dict[str, Any]:
    """The JSON schema of an answer."""
    return kind.model_json_schema()


def _in_words(kind: type[Answer]) -> str:
    """For servers that do not know response_format, and those that take no notice of it."""
    return f"Answer with JSON alone, of this schema: {json.dumps(schema(kind))}"


def _counted(usage: Any, name: str) -> int:
    """Tokens, where the server counts them."""
    count = getattr(usage, name, None)
    return count if isinstance(count, int) else 0


def _parse(said: str, kind: type[A]) -> A:
    """JSON as it is, or the one object in a text around it. Raises ValueError or pydantic's ValidationError."""
    start, end = said.find("{"), said.rfind("}")
    if start < 0 or end < start:
        raise ValueError("there is no JSON object in it")
    return kind.model_validate_json(said[start : end + 1])


def _cached(path: Path, kind: type[A]) -> A | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _asked_to_wait(header: str) -> float:
    """The Retry-After header's seconds, at most a minute; 0 where it says none."""
    return min(float(header), LONGEST_WAIT) if re.fullmatch(r"\d+(\.\d+)?", header) else 0.0


def _data_uri(img: Image.Image) -> str:
    buffer = io.BytesIO()
    img.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _wrong(error: ValueError) -> str:
    """What is wrong with an answer, for the model and the record: each fault by its place."""
    if not isinstance(error, ValidationError):
        return _one_line(error)
    found = [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in error.errors()]
    return "; ".join(f"{place}: {words}" if place else words for place, words in found)[:300].rstrip(".")


def _words(error: Any) -> str:
    """A server's own words for why it failed or refuses."""
    body = error.body if isinstance(error.body, dict) else {}
    words = " ".join(str(body.get("message") or error.response.text).split())
    return words[:300].rstrip(".") or "no reason given"


def _one_line(error: BaseException) -> str:
    return (" ".join(str(error).split())[:300] or type(error).__name__).rstrip(".")
