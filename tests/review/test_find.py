"""Search in the web app: words are words and never files, and what is sent is a picture made anew or refused."""

import io
import re
import struct
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from goodeye.ledger.ledger import Ledger
from goodeye.review.auth import LARGEST_BODY
from goodeye.review.find import AT_ONCE, KEPT, LARGEST, Finding, checked, encoded, read
from goodeye.review.items import catch_up
from goodeye.search.ask import Searcher
from goodeye.search.box import Box
from goodeye.search.build import index_pictures
from review.conftest import Browser
from search.tiny_clip import COLOURS, ColourClip, save_picture

Start = Callable[..., Browser]


@pytest.fixture
def ledger(folder: Ledger) -> Ledger:
    """In a folder, which is named here."""
    return folder


@pytest.fixture
def box(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    """An index of five pictures in a folder and of one on the ledger, by a CLIP that knows colours."""
    monkeypatch.setattr("goodeye.search.ask.load_clip", lambda models, device="cpu": ColourClip())
    monkeypatch.chdir(tmp_path)
    for name, colour in COLOURS.items():
        save_picture(tmp_path / "shop" / f"{name}.png", colour)
    (tmp_path / "shop" / "red.txt").write_text("a <b>red</b> one")
    brief = ledger.add_brief(ledger.start_run("ads", {}, 0), "cup", {"title": "cup"})
    ledger.record_attempt(brief, 0, 1, 0, Image.new("RGB", (16, 16), (250, 10, 10)))
    catch_up(ledger)
    for folder in (tmp_path / "shop", tmp_path / "ledger" / "images"):
        index_pictures(folder, tmp_path / "index", ColourClip(), "showroom", duplicates=0)
    return Box(Searcher(tmp_path / "index"))


def picture(colour: str, kind: str = "PNG", size: tuple[int, int] = (40, 30), **more: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, COLOURS[colour]).save(buffer, format=kind, **more)
    return buffer.getvalue()


def send(who: Browser, data: bytes, **headers: str):  # type: ignore[no-untyped-def]
    return who.client.post("/api/picture", content=data, headers={"x-form-token": who.token, **headers})


def titles(page: str) -> list[str]:
    return re.findall(r'<span class="name">(.*?)</span>', page)


def test_words_find_as_the_command_does(box: Box, browser: Start) -> None:
    ada = browser("Ada", finder=box)
    assert 'action="/look/search"' in ada.client.get("/look").text
    page = ada.client.get("/look/search", params={"q": "a red picture"}).text
    by_command = [Path(hit.name).name for hit in box.searcher.ask("a red picture", k=60).found.hits]
    assert len(titles(page)) == len(by_command) >= 2 and "green.png" not in page
    assert titles(page)[0] == "a &lt;b&gt;red&lt;/b&gt; one" and "<b>red" not in page
    assert "white.png" not in ada.client.get("/look/search?q=blue+light&not=white").text


def test_a_picture_of_the_ledger_leads_to_its_attempt(box: Box, browser: Start) -> None:
    ada = browser("Ada", finder=box)
    page = ada.client.get("/look/search?q=red").text
    assert 'href="/look/1"' in page and "cup" in titles(page) and len(re.findall("/thumb/[0-9a-f]{64}", page)) == 1
    (key,) = re.findall(r'href="/look/found/([0-9a-f]{32})"', page)
    for path in (f"/found/{key}", f"/found/{key}/large"):
        found = ada.client.get(path)
        assert found.headers["content-type"] == "image/webp" and found.content[8:12] == b"WEBP"
    assert f'src="/found/{key}/large"' in ada.client.get(f"/look/found/{key}").text


def test_the_same_by_a_picture_that_is_sent(box: Box, browser: Start) -> None:
    ada = browser("Ada", finder=box)
    like = send(ada, picture("blue", "JPEG")).json()["like"]
    page = ada.client.get("/look/search", params={"like": like}).text
    assert titles(page)[0] == "blue.png" and f'src="/sent/{like}"' in page
    with Image.open(io.BytesIO(ada.client.get(f"/sent/{like}").content)) as kept:
        assert kept.format == "WEBP" and kept.size == (40, 30)
    assert browser("Bo", finder=box).client.get(f"/sent/{like}").status_code == 404


def test_another_persons_picture_is_not_shown(box: Box, ledger: Ledger) -> None:
    ada = Browser(ledger, "Ada", finder=box)
    bo = Browser(ledger)
    bo.client = type(ada.client)(ada.client.app, base_url=str(ada.client.base_url))
    bo.sign_in("Bo")
    like = send(ada, picture("blue")).json()["like"]
    assert ada.client.get(f"/sent/{like}").status_code == 200
    assert bo.client.get(f"/sent/{like}").status_code == 404
    page = bo.client.get("/look/search", params={"like": like})
    assert page.status_code == 400 and "no longer here" in page.text and titles(page.text) == []


def test_without_an_index_there_is_no_search(ledger: Ledger, browser: Start) -> None:
    ada = browser("Ada")
    assert "/look/search" not in ada.client.get("/look").text
    assert ada.client.get("/look/search?q=red").status_code == 404 and send(ada, picture("red")).status_code in (
        404,
        405,
    )


@pytest.mark.parametrize("words", ["shop/green.png", "./shop/green.png", "{tmp}/shop/green.png", "../../etc/passwd"])
def test_words_that_name_a_file_are_words(
    box: Box, browser: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    opened: list[object] = []
    monkeypatch.setattr("goodeye.search.box.embed_image", lambda *given: opened.append(given))
    ada = browser("Ada", finder=box)
    for field in ("q", "not"):
        given = {"q": "red", field: words.format(tmp=tmp_path)}
        assert ada.client.get("/look/search", params=given).status_code == 200
    assert opened == []


@pytest.mark.parametrize(
    "path",
    ["/found/../../ledger.db", "/found/..%2f..%2fledger.db", "/found/" + "0" * 32, "/found/shop%2fgreen.png",
     "/found/" + "0" * 32 + "/large", "/found/%00/large", "/sent/../../../etc/passwd", "/sent/x",
     "/found/green.png/large", "/look/found/" + "0" * 32, "/look/found/..%2f..%2fledger.db",
     "/look/search/../../../etc/passwd"],
)  # fmt: skip
def test_no_path_reaches_the_file_system(box: Box, browser: Start, path: str) -> None:
    answer = browser("Ada", finder=box).client.get(path)
    assert answer.status_code in (400, 404) and b"root:" not in answer.content and b"SQLite" not in answer.content


def test_a_picture_that_is_gone_says_nothing_of_where_it_lay(box: Box, browser: Start, tmp_path: Path) -> None:
    ada = browser("Ada", finder=box)
    (key,) = re.findall(r'href="/look/found/([0-9a-f]{32})"', ada.client.get("/look/search?q=red").text)
    (tmp_path / "shop" / "red.png").unlink()
    answer = ada.client.get(f"/found/{key}")
    assert answer.status_code == 404 and str(tmp_path) not in answer.text


def test_hostile_words_are_only_text(box: Box, browser: Start) -> None:
    ada = browser("Ada", finder=box)
    for words in ("<script>alert(1)</script>", '" onfocus="x', "{{ 7 * 7 }}", "x" * 5000, "\0\u202e"):
        page = ada.client.get("/look/search", params={"q": words, "not": words, "taste": words, "like": ""})
        assert page.status_code in (200, 400)
        assert "<script>alert" not in page.text and 'onfocus="x' not in page.text and ">49<" not in page.text
    assert read({"q": " a\n b ", "taste": "inf"}).taste is None and read({"taste": "1e9"}).taste == 3


def test_a_hostile_file_name_is_only_text(ledger: Ledger, browser: Start) -> None:
    name = '/shop/<img src=x onerror=alert(1)>"onload=y.png'
    hit = SimpleNamespace(name=name, caption="", similarity=0.5, beauty=None, alike=1)
    ada = browser("Ada", finder=SimpleNamespace(has_taste=False, words=lambda *given: [hit]))
    page = ada.client.get("/look/search?q=x").text
    (key,) = re.findall(r'href="/look/found/([0-9a-f]{32})"', page)
    for text in (page, ada.client.get(f"/look/found/{key}").text):
        assert "<img src=x" not in text and '"onload=y' not in text and "&lt;img src=x" in text


# What is sent


def png_of(width: int, height: int) -> bytes:
    """A PNG that promises many pixels and brings none."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


HOSTILE = {
    "nothing": b"",
    "text": b"hello",
    "html": b"<html><script>alert(1)</script>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
    "gif": picture("red", "GIF"),
    "tiff": picture("red", "TIFF"),
    "bmp": picture("red", "BMP"),
    "cut short": picture("red", size=(200, 200))[:90],
    "only a head": b"\x89PNG\r\n\x1a\n",
    "half a jpeg": picture("red", "JPEG")[:300],
    "broken": picture("red").replace(b"IDAT", b"IDAX"),
    "webp of nothing": b"RIFF\x10\0\0\0WEBPVP8 \0\0\0\0",
    "bomb": png_of(20_000, 20_000),
    "larger than counted": png_of(2**31 - 1, 2**31 - 1),
    "just too large": png_of(8001, 8000),
    "pickle": b"\x80\x04\x95cos\nsystem\n(S'id'\ntR.",
}


@pytest.mark.parametrize("kind", list(HOSTILE))
def test_hostile_pictures_are_refused_in_one_line(box: Box, browser: Start, kind: str) -> None:
    ada = browser("Ada", finder=box)
    answer = send(ada, HOSTILE[kind], **{"content-type": "image/png"})
    assert answer.status_code == 400 and answer.headers["content-type"] == "application/json"
    words = answer.json()["detail"]
    assert "\n" not in words and words.endswith(".") and "/" not in words and "<" not in words
    assert not ada.client.app.state.review.finding.sent  # type: ignore[attr-defined]


def test_what_is_too_long_is_refused_before_it_is_read(box: Box, browser: Start) -> None:
    ada = browser("Ada", finder=box)
    assert send(ada, b"\0" * (LARGEST + 1)).status_code == 413
    unannounced = iter([b"\0" * 2**20] * (LARGEST // 2**20 + 1))
    headers = {"x-form-token": ada.token}
    assert ada.client.post("/api/picture", content=unannounced, headers=headers).status_code == 413
    big = picture("red", size=(300, 300), compress_level=0)
    assert len(big) > LARGEST_BODY and send(ada, big).status_code == 200
    call = ada.client.post("/api/desk", content=big, headers=headers | {"content-type": "application/json"})
    assert call.status_code == 413, "only a picture may be that long"


def test_nobody_sends_without_a_session_its_token_or_from_another_site(
    box: Box, ledger: Ledger, browser: Start
) -> None:
    ada = browser("Ada", finder=box)
    for token in ("", "0" * 64):
        assert send(ada, picture("red"), **{"x-form-token": token}).status_code == 403
    assert send(ada, picture("red"), origin="https://evil.example").status_code == 403
    assert send(browser("", finder=box), picture("red")).status_code == 401
    assert browser("", finder=box).client.get("/look/search", follow_redirects=False).status_code == 303


def test_too_many_questions_are_slowed(box: Box, browser: Start) -> None:
    ada = browser("Ada", finder=box)
    said = [send(ada, b"x").status_code for _ in range(22)]
    assert said[:20] == [400] * 20 and said[-1] == 429


def test_what_is_kept_is_pixels_and_nothing_else() -> None:
    secret = PngInfo()
    secret.add_text("Comment", "SECRET PLACE")
    exif = Image.Exif()
    exif[0x010E] = "SECRET PLACE"
    wide = Image.new("RGBA", (3000, 1000), (255, 0, 0, 0))
    buffer = io.BytesIO()
    wide.save(buffer, format="PNG", pnginfo=secret, exif=exif, icc_profile=b"SECRET PLACE" * 20)
    kept = encoded(checked(buffer.getvalue() + b"<script>SECRET PLACE"), 1024)
    assert b"SECRET" in buffer.getvalue() and b"SECRET" not in kept and b"script" not in kept
    with Image.open(io.BytesIO(kept)) as opened:
        assert opened.size == (1024, 341) and opened.mode == "RGB" and not opened.getexif()
        assert min(opened.getpixel((9, 9))) > 250, "transparency is white"  # type: ignore[type-var, arg-type]


def test_only_two_are_decoded_at_a_time(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    now, most, meeting = [0], [0], threading.Barrier(2)

    def slow(data: bytes) -> Image.Image:
        now[0] += 1
        most[0] = max(most[0], now[0])
        meeting.wait(timeout=60)
        now[0] -= 1
        return checked(data)

    monkeypatch.setattr("goodeye.review.find.checked", slow)
    finding = Finding(box)
    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(lambda _: finding.take("Ada", picture("red")), range(6)))) == 6
    assert most == [AT_ONCE] == [2]


def test_only_so_many_are_kept(box: Box) -> None:
    finding = Finding(box)
    keys = [finding.take("Ada", picture("red", size=(4, 4))) for _ in range(KEPT + 1)]
    assert len(finding.sent) == KEPT and ("Ada", keys[0]) not in finding.sent


def test_nothing_that_is_sent_reaches_the_disk(box: Box, ledger: Ledger, browser: Start, tmp_path: Path) -> None:
    before = {file for file in tmp_path.rglob("*") if not file.name.startswith("ledger.db")}
    send(browser("Ada", finder=box), picture("red"))
    assert {file for file in tmp_path.rglob("*") if not file.name.startswith("ledger.db")} == before
