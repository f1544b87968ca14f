"""The app over HTTP: work gets done, and whatever no page of ours sends is refused and leaves nothing behind."""

import io
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from urllib.parse import quote

import anyio.to_thread
import pytest
from fastapi.routing import APIRoute
from PIL import Image
from sqlalchemy import func, select
from starlette.testclient import TestClient

from goodeye.ledger.asks import Ask, Item, Person
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import VerdictRow
from goodeye.ledger.schema import Comparison
from goodeye.review import standing
from goodeye.review.app import Settings, create_app
from goodeye.review.auth import Guard, Limit
from goodeye.review.find import Finder
from goodeye.review.items import catch_up, key_of, reading
from goodeye.review.serve import names_of
from review.conftest import ORIGIN, Browser, drawn, edits, fill, settle

Start = Callable[..., Browser]
PAGES = ("/label", "/compare", "/look", "/look/1", "/runs", "/runs/1", "/standing")
CALLS = {
    "/api/desk": {"kind": "label", "count": 1},
    "/api/answers": {"ask": 1, "outcome": "answered", "answer": "available"},
    "/api/undo": {"ask": 1},
    "/api/aside": {"person": "Ada", "aside": True},
}


def answered(ledger: Ledger) -> int:
    with reading(ledger) as connection:
        return connection.scalar(select(func.count()).select_from(Ask).where(Ask.outcome != "")) or 0


def test_labelling_over_http(ledger: Ledger, browser: Start) -> None:
    fill(ledger, [0.5, 0.6, 0.7])
    ada = browser("Ada")
    asks = ada.desk(count=2)
    assert asks[0]["title"] == "cup" and asks[0]["prompt"] == "on a table" and len(asks[0]["images"]) == 1
    picture = ada.client.get(f"/image/{asks[0]['images'][0]}")
    assert picture.headers["content-type"] == "image/png" and picture.content.startswith(b"\x89PNG")
    assert "immutable" in picture.headers["cache-control"]
    for _again in range(3):
        assert ada.answer(asks[0]["id"], "size_mismatch", seconds=1.5).json() == {"outcome": "answered"}
    assert [(vote.label, vote.seconds) for vote in ledger.votes()] == [("size_mismatch", 1.5)]
    again = ada.call("/api/undo", ask=asks[0]["id"]).json()["ask"]
    assert again["images"] == asks[0]["images"] and ledger.votes() == []


def test_comparing_over_http(ledger: Ledger, browser: Start) -> None:
    fill(ledger, [0.5, 0.6], runs=2)
    ada = browser("Ada")
    for _pair in range(4):
        (ask,) = ada.desk("compare")
        assert len(ask["images"]) == 2 and ask["axis"] == "overall"
        assert ada.answer(ask["id"], "similar").json() == {"outcome": "answered"}
    with reading(ledger) as connection:
        assert set(connection.scalars(select(Comparison.choice))) == {"similar"}


def test_scoring_an_edit_over_http(ledger: Ledger, browser: Start) -> None:
    edits(ledger, 1)
    ada = browser("Ada")
    (ask,) = ada.desk()
    assert ask["scale"] == ["following", "preserving", "quality"] and ask["product"]
    for nonsense in ("available", "5 5", "5 5 9", "5 5 5'; DROP TABLE votes"):
        assert ada.answer(ask["id"], nonsense).status_code == 400
    assert ledger.votes() == []
    assert ada.answer(ask["id"], "5 4 3").json() == {"outcome": "answered"}
    assert [vote.axes for vote in ledger.votes()] == [{"following": 5, "preserving": 4, "quality": 3}]
    page = ada.client.get("/look/1").text
    assert "preserving 4" in page and "scored" in page
    assert ada.call("/api/undo", ask=ask["id"]).json()["ask"]["scale"] and ledger.votes() == []


def test_standing_shows_scores_and_comparisons_of_judges_where_there_are_any(ledger: Ledger, browser: Start) -> None:
    first, second = fill(ledger, [0.9, 0.8])
    ada = browser("Ada")
    page = ada.client.get("/standing").text
    assert 'id="scores"' not in page and 'id="pairs"' not in page
    ledger.vote(first, "Ada", "scored", {"available": 1.4})
    ledger.compare(first, second, "Ada", "overall", "left")
    ledger.compare(second, first, "vlm", "accuracy", "right", version="7")
    catch_up(ledger)
    page = ada.client.get("/standing").text
    scores, pairs = (page[page.index(f'id="{name}"') :].partition("</table>")[0] for name in ("scores", "pairs"))
    assert "rfnet" in scores and "−0.50" in scores and "100 %" in scores
    assert "vlm" in pairs and "accuracy" in pairs and "overall" in pairs and "100 %" in pairs


def test_many_who_look_at_the_standing_are_told_one_and_nobody_who_votes_waits(
    folder: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the server has threads, while the reckoning goes on."""
    fill(folder, [0.5, 0.6])
    found, went_on, calls = standing.standing(folder), threading.Event(), []

    def slow(of: Ledger) -> standing.Standing:
        calls.append(of)
        assert went_on.wait(60)
        return found

    monkeypatch.setattr("goodeye.review.app.standing.standing", slow)
    ada = Browser(folder, "Ada", fresh=60.0)
    ada.client.app.state.review.standings = Limit(rate=0, burst=50)  # type: ignore[attr-defined]
    with ada.client, ThreadPoolExecutor(45) as pool:  # one event loop for all of them, as a server has
        pages = [pool.submit(ada.client.get, "/standing") for _ in range(45)]
        (ask,) = ada.desk()
        assert ada.answer(ask["id"], "available").status_code == 200
        assert not went_on.is_set() and not any(page.done() for page in pages)
        went_on.set()
        assert {page.result().status_code for page in pages} == {200} and len(calls) == 1
        assert ada.call("/api/aside", person="Ada", aside=True).status_code == 200
        ada.client.get("/standing")
        assert len(calls) == 2, "whose votes count has changed"
        said = [ada.client.get("/standing").status_code for _ in range(5)]
        assert said == [200] * 4 + [429] and len(calls) == 2


def test_nobody_waits_for_much_that_is_to_be_taken_in(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(ledger, [0.5, 0.6])
    ada = Browser(ledger, "Ada")
    monkeypatch.setattr("goodeye.review.items.PORTION", 2)
    monkeypatch.setattr("goodeye.review.app.PORTION", 2)
    paused, go_on = threading.Event(), threading.Event()

    def pause(_seconds: float) -> None:  # after each portion
        paused.set()
        assert go_on.wait(60)

    monkeypatch.setattr("goodeye.review.app.time", SimpleNamespace(sleep=pause, monotonic=time.monotonic))
    brief = ledger.briefs(1)[0].id
    for number in range(8):
        ledger.record_attempt(brief, 9, number, 0, Image.new("RGB", (8, 8), (9, number, 0)))
    assert len(ada.desk()) == 1 and len(ada.desk(count=2)) == 2 and paused.wait(60)
    with reading(ledger) as connection:
        assert connection.scalar(select(func.count()).select_from(Item)) == 4, "one portion is in"
    go_on.set()
    settle()
    with reading(ledger) as connection:
        assert connection.scalar(select(func.count()).select_from(Item)) == 10


def test_every_thread_of_the_app_has_a_connection(ledger: Ledger) -> None:
    threads = anyio.run(_threads)
    with ExitStack() as held:
        for _thread in range(threads + 1):  # and one for what is taken in beside them
            held.enter_context(ledger.reading())


async def _threads() -> int:
    return int(anyio.to_thread.current_default_thread_limiter().total_tokens)


def test_a_picture_file_is_served_as_what_it_is_and_a_missing_one_is_said(ledger: Ledger, browser: Start) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, format="JPEG")
    brief = ledger.add_brief(ledger.start_run("edit", {}, 0), "cup", {})
    ledger.record_attempt(brief, 0, 1, 0, file.getvalue())
    ledger.record_attempt(brief, 0, 2, 0, None, detail={"said": "<b>prose"})
    catch_up(ledger)
    ada = browser("Ada")
    picture = ada.client.get(f"/image/{ledger.attempt(1).image_sha}")
    assert picture.headers["content-type"] == "image/jpeg" and picture.content == file.getvalue()
    assert ada.client.get("/look").text.count("no picture") == 1
    page = ada.client.get("/look/2").text
    assert "no picture" in page and "<b>prose" not in page and ada.client.get("/runs/1").status_code == 200


def test_pictures_to_learn_from_are_shown_with_their_boxes_and_scores(ledger: Ledger, browser: Start) -> None:
    first, _second = drawn(ledger)
    other = ledger.add_brief(1, "odd", {})
    odd = ledger.record_attempt(other, 1, 1, 0, Image.new("RGB", (8, 8)), detail={"boxes": ["mug", {"bbox": 4}]})
    ada = browser("Ada")
    assert ada.desk() == ada.desk("compare") == []
    wall = ada.client.get("/look?job=synth&sort=best").text
    assert wall.count("/thumb/") == 3 and wall.count("50.00") == 2 and "mug, table" in wall
    assert ada.client.get("/look?job=synth&picked=kept&low=49").text.count("/thumb/") == 1
    page = ada.client.get(f"/look/{first}").text
    assert 'viewBox="0 0 64 48"' in page and 'x="4.0" y="6.5" width="20.0" height="16.0"' in page
    assert ">table</text>" in page and 'max="100" value="50.0"' in page and "1 of 2 things labelled" in page
    assert "/product" not in page and "The product" not in page and "bbox" not in page
    assert "<svg" not in ada.client.get(f"/look/{odd}").text
    assert "no label" in ada.client.get("/runs/1").text
    assert ada.client.get("/standing").status_code == ada.client.get("/runs").status_code == 200


@pytest.mark.parametrize("page", [*PAGES, "/sign-in"])
def test_every_page_opens_under_the_policy(ledger: Ledger, browser: Start, page: str) -> None:
    fill(ledger, [0.5], runs=2)
    ada = browser("Ada")
    ada.answer(ada.desk()[0]["id"], "available")
    ada.answer(ada.desk("compare")[0]["id"], "left")
    opened = ada.client.get(page)
    assert opened.status_code == 200
    policy = opened.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert opened.headers["x-content-type-options"] == "nosniff" and opened.headers["cache-control"] == "no-store"
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|<style|https?://", opened.text), "nothing inline"


def test_nothing_is_asked_from_outside(ledger: Ledger) -> None:
    from goodeye.review import app

    for file in sorted((app.HERE / "static").iterdir()):
        found = re.findall(r"https?://[^\s\"')]+|@import|url\(", file.read_text())
        assert set(found) <= {"http://www.w3.org/2000/svg"}, file.name


# Who may come in


@pytest.mark.parametrize("page", PAGES)
def test_without_a_session_a_page_leads_to_the_door(browser: Start, page: str) -> None:
    answer = browser("").client.get(page, follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"].startswith("/sign-in?to=")


def test_no_route_is_open_but_the_door(ledger: Ledger) -> None:
    """Whatever is added later: without a session a page leads to the door, a picture or call is refused."""
    attempts = fill(ledger, [0.5])
    app = create_app(ledger, Settings(finder=cast(Finder, object())))
    client = TestClient(app, base_url=ORIGIN)
    sha = ledger.attempt(attempts[0]).image_sha
    routes = [route for route in app.routes if isinstance(route, APIRoute) and route.path != "/sign-in"]
    assert len(routes) >= 20
    for route in routes:
        path = re.sub(r"\{\w+\}", sha if "sha" in route.path else "1", route.path)
        for method in route.methods:
            answer = client.request(method, path, follow_redirects=False)
            if method == "GET":
                assert answer.status_code == 401 or answer.headers["location"].startswith("/sign-in"), path
            else:
                assert answer.status_code in (401, 403, 415), path
    assert answered(ledger) == 0


@pytest.mark.parametrize("path", list(CALLS))
def test_without_a_session_nothing_can_be_called(ledger: Ledger, browser: Start, path: str) -> None:
    fill(ledger, [0.5])
    answer = browser("").call(path, **CALLS[path])
    assert answer.status_code == 401 and answered(ledger) == 0


@pytest.mark.parametrize("path", list(CALLS))
def test_a_stale_or_missing_token_is_refused(ledger: Ledger, browser: Start, path: str) -> None:
    fill(ledger, [0.5])
    ada, bo = browser("Ada"), browser("Bo")
    ada.desk()
    for token in ("", "0" * 64, bo.token, "ключ"):
        headers = {"x-form-token": token.encode()}
        answer = ada.client.post(path, json=CALLS[path], headers=headers)  # type: ignore[arg-type]
        assert answer.status_code == 403
    assert answered(ledger) == 0


def test_another_persons_ask_cannot_be_answered_or_undone(ledger: Ledger, browser: Start) -> None:
    fill(ledger, [0.5])
    ada, bo = browser("Ada"), browser("Bo")
    (ask,) = ada.desk()
    assert bo.answer(ask["id"], "available").status_code == 404
    assert bo.call("/api/undo", ask=ask["id"]).status_code == 404
    assert answered(ledger) == 0


def test_a_session_that_was_left_is_over(ledger: Ledger, browser: Start) -> None:
    ada = browser("Ada")
    cookie = ada.client.cookies["goodeye_session"]
    assert ada.client.post("/sign-out", data={"form_token": "0"}).status_code == 403
    ada.client.post("/sign-out", data={"form_token": ada.token})
    ada.client.cookies.set("goodeye_session", cookie)
    assert ada.call("/api/desk", kind="label").status_code == 401


def test_the_password_is_asked_for(ledger: Ledger, browser: Start) -> None:
    app = browser("", password="correct horse")
    assert app.sign_in("Ada").status_code == 400  # type: ignore[attr-defined]
    assert app.sign_in("Ada", password="correct hors").status_code == 400  # type: ignore[attr-defined]
    assert "goodeye_session" not in app.client.cookies
    assert app.sign_in("Ada", password="correct horse").status_code == 303  # type: ignore[attr-defined]


def test_a_new_password_ends_the_sessions_of_the_old_one(ledger: Ledger, browser: Start) -> None:
    before = browser("", password="the first one")
    before.sign_in("Ada", password="the first one")
    cookie = before.client.cookies["goodeye_session"]
    for password, status in (("the first one", 200), ("another one", 303), ("", 303)):
        client = TestClient(create_app(ledger, Settings(password=password)), base_url=ORIGIN)
        client.cookies.set("goodeye_session", cookie)
        assert client.get("/label", follow_redirects=False).status_code == status


def test_guessing_the_password_is_slowed(browser: Start) -> None:
    """Thirty at once and one each five seconds; here no time goes by, however slow the machine is. Right ones use up
    none: forty people of an office, which is one address, come in between; after too many wrong ones nobody does."""
    app = browser("", password="correct horse")
    tries = app.client.app.state.review.tries  # type: ignore[attr-defined]
    assert (tries.rate, tries.burst) == (0.2, 30)
    tries.rate = 0
    said = [app.sign_in("Ada", password=f"guess {number}").status_code for number in range(20)]  # type: ignore[attr-defined]
    said += [app.sign_in(f"Bo {number}", password="correct horse").status_code for number in range(40)]  # type: ignore[attr-defined]
    said += [app.sign_in("Ada", password=f"guess {number}").status_code for number in range(12)]  # type: ignore[attr-defined]
    assert said == [400] * 20 + [303] * 40 + [400] * 10 + [429] * 2
    assert app.sign_in("Ada", password="correct horse").status_code == 429  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("host", "password", "name", "status"),
    [
        ("127.0.0.2", "", "127.0.0.2:8060", 200),
        ("::1", "", "[::1]:8060", 200),
        ("127.0.0.1", "", "localhost:8060", 200),
        ("127.0.0.1", "", "evil.example:8060", 400),  # whose name was made to point here
        ("127.0.0.1", "correct horse", "review.example", 200),  # a proxy before it
        ("0.0.0.0", "correct horse", "192.168.1.4:8060", 200),
    ],
)
def test_names_by_which_the_app_goes(ledger: Ledger, host: str, password: str, name: str, status: int) -> None:
    app = create_app(ledger, Settings(password=password, hosts=names_of(host, password)))
    assert TestClient(app, base_url=f"http://{name}").get("/sign-in").status_code == status


def test_a_forged_sign_in_is_refused(browser: Start) -> None:
    app = browser("")
    answer = app.client.post("/sign-in", data={"name": "Eve", "form_token": "0" * 64})
    assert answer.status_code == 400 and "goodeye_session" not in app.client.cookies


@pytest.mark.parametrize("name", ["", " ", "x" * 41, "<b>", "a\0b", "\u202eevil", "-", "a" + "\n" * 3 + "{{7*7}}"])
def test_names_that_are_none_are_refused(browser: Start, name: str) -> None:
    app = browser("")
    assert app.sign_in(name).status_code == 400  # type: ignore[attr-defined]


def test_look_can_choose_every_class_that_is_given(ledger: Ledger, browser: Start) -> None:
    judged = []
    brief = ledger.add_brief(ledger.start_run("ads", {}, 0), "cup", {})
    for number, label in enumerate(("unsuitable", "stopped", "available")):
        said = VerdictRow(judge="rfnet", version="1", label=label, scores={}, failures=[])
        judged.append(ledger.record_attempt(brief, number, 1, 0, Image.new("RGB", (8, 8), (number, 0, 0)), [said]))
    ledger.vote(edits(ledger, 1)[0], "Ada", "scored", {"following": 5})
    catch_up(ledger)
    ada = browser("Ada")
    page = ada.client.get("/look").text
    for name, label in (("label", "unsuitable"), ("label", "stopped"), ("vote", "scored")):
        select = page[page.index(f'<select name="{name}"') :].partition("</select>")[0]
        assert f'<option value="{label}"' in select
        assert ada.client.get(f"/look?{name}={label}").text.count("/thumb/") == 1


@pytest.mark.parametrize(
    "to",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/%0d%0aX: 1",
        "/look?a\r\nX: 1",
        "/look?to=//evil",
    ],
)
def test_signing_in_leads_nowhere_else(browser: Start, to: str) -> None:
    assert browser("").sign_in("Ada", to=to).headers["location"] == "/"  # type: ignore[attr-defined]


def test_an_answer_to_another_ledgers_ask_is_refused(ledger: Ledger, browser: Start, tmp_path: Path) -> None:
    """Numbers of asks are alike in every ledger; a browser may have kept an answer of the one served here before."""
    fill(ledger, [0.5])
    with Ledger.open(tmp_path / "other") as other:
        elsewhere = key_of(other)
    assert elsewhere != key_of(ledger)
    ada = browser("Ada")
    (ask,) = ada.desk()
    assert ada.answer(ask["id"], "available", ledger=elsewhere).status_code == 409
    assert ada.call("/api/answers", ask=ask["id"], outcome="skipped", ledger="").status_code == 409
    assert ledger.votes() == [] and answered(ledger) == 0
    ada.answer(ask["id"], "available")
    assert ada.call("/api/undo", ask=ask["id"], ledger=elsewhere).status_code == 409
    assert len(ledger.votes()) == 1


def test_signing_in_leads_to_what_was_asked_for(ledger: Ledger, browser: Start) -> None:
    someone = browser("")
    asked = "/look?run=1&sort=best&label=size_mismatch&after=0.5~3"
    door = someone.client.get(asked, follow_redirects=False).headers["location"]
    hidden = re.search(r'name="to" value="([^"]+)"', someone.client.get(door).text)
    assert hidden and unescape(hidden[1]) == asked
    assert someone.sign_in("Ada", to=asked).headers["location"] == asked  # type: ignore[attr-defined]


def test_capitals_make_no_other_person(ledger: Ledger, browser: Start) -> None:
    """Whoever votes as ada after Ada is not asked again; one that came from elsewhere is known, too."""
    first, second = fill(ledger, [0.5, 0.6])
    ledger.vote(second, "Zoë", "available")
    catch_up(ledger)
    ada = browser("Ada")
    ada.answer(ada.desk(count=1)[0]["id"], "available")
    again = browser("ADA")
    assert [one["id"] for one in again.desk(count=2)] == [one["id"] for one in ada.desk(count=2)]
    (ask,) = browser("zoë").desk(count=2)
    assert ask["images"] == [ledger.attempt(first).image_sha]
    assert "<span>Ada</span>" in again.client.get("/label").text


# Hostile input


@pytest.mark.parametrize(
    "path",
    ["/image/../ledger.db", "/image/..%2f..%2fledger.db", "/image/%2e%2e%2fledger.db", "/image/" + "0" * 64,
     "/image/" + "A" * 64, "/image/" + "0" * 63 + "%00", "/thumb/../../ledger.db", "/thumb//etc/passwd",
     "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/auth.py", "/static//etc/passwd", "/static/.",
     "/look/../../etc", "/look/1e9", "/look/-1", "/look/99999999999999999999", "/runs/0", "/runs/x",
     "/openapi.json", "/docs"],
)  # fmt: skip
def test_no_path_reaches_the_file_system(ledger: Ledger, browser: Start, path: str) -> None:
    fill(ledger, [0.5])
    answer = browser("Ada").client.get(path)
    assert answer.status_code in (400, 404, 405, 422) and b"SQLite" not in answer.content


@pytest.mark.parametrize("title", ["<script>alert(1)</script>", '" onload="x', "{{ 7 * 7 }}", "</title><img src=x>"])
def test_a_hostile_title_is_only_text(ledger: Ledger, browser: Start, title: str) -> None:
    fill(ledger, [0.5], title=title)
    ada = browser("Ada")
    for page in ("/look", "/look/1", "/runs/1"):
        text = ada.client.get(page).text
        assert title not in text or title.startswith("{{")
        assert "<img src=x>" not in text and ">49<" not in text
    assert ada.desk()[0]["title"] == title  # as JSON, which the page sets as text


HOSTILE = "<img src=x onerror=alert(1)>\"' onload=y {{ 7 * 7 }}"


def test_whatever_is_on_record_is_only_text(ledger: Ledger, browser: Start) -> None:
    """Names of briefs, judges, axes and voters, reasons, failures and commands, as an import may bring them."""
    said = VerdictRow(judge=HOSTILE, version=HOSTILE, label=HOSTILE, scores={HOSTILE: 0.5}, failures=[HOSTILE])
    for run in range(2):
        run_id = ledger.start_run(HOSTILE, {HOSTILE: HOSTILE}, seed=run)
        brief = ledger.add_brief(run_id, HOSTILE, {"title": HOSTILE, "prompt": HOSTILE + "."})
        detail = {"path": HOSTILE, "boxes": [{"name": HOSTILE, "bbox": [0, 0, 1, 1]}, {"name": "x", "bbox": HOSTILE}]}
        attempt = ledger.record_attempt(brief, 0, 1, 0, Image.new("RGB", (8, 8), (run, 0, 0)), [said], detail=detail)
        ledger.pick(brief, 0, attempt, False, HOSTILE)
        ledger.vote(attempt, HOSTILE, HOSTILE, {HOSTILE: 1.0})
    ledger.compare(1, 2, HOSTILE, HOSTILE, "left")
    catch_up(ledger)
    ada = browser("Ada")
    (ask,) = ada.desk()
    ada.call("/api/answers", ask=ask["id"], outcome="flagged", note=HOSTILE)
    ada.call("/api/aside", person=HOSTILE, aside=True, why=HOSTILE)
    told = ""
    for page in ("/look", "/look/1", "/look/2", "/runs", "/runs/1", "/standing", f"/look?job={quote(HOSTILE)}"):
        opened = ada.client.get(page)
        assert opened.status_code == 200 and "<img src=x" not in opened.text and ">49<" not in opened.text, page
        assert not re.search(r"<[^>]*\s(onload|onerror)=", re.sub(r'"[^"]*"', '""', opened.text)), page
        told += opened.text
    assert told.count("&lt;img src=x") >= 20


def test_a_name_that_is_refused_is_only_text(browser: Start) -> None:
    answer = browser("", password="correct horse").sign_in('"><script>x</script>', password="wrong")
    assert answer.status_code == 400 and "<script>x" not in answer.text  # type: ignore[attr-defined]


def test_what_no_database_takes_is_written_out(ledger: Ledger, browser: Start) -> None:
    """PostgreSQL takes no NUL in a text."""
    fill(ledger, [0.5])
    ada = browser("Ada")
    (ask,) = ada.desk()
    assert ada.call("/api/answers", ask=ask["id"], outcome="flagged", note="a\0b").status_code == 200
    assert ada.call("/api/aside", person="Ada", aside=True, why="c\0d").status_code == 200
    assert ada.call("/api/aside", person="A\0da", aside=True).status_code == 400
    for field in ("job", "label", "vote", "picked", "sort", "run", "low", "after"):
        assert ada.client.get(f"/look?{field}=%00x").status_code == 200
    with reading(ledger) as connection:
        assert [*connection.scalars(select(Ask.note)), *connection.scalars(select(Person.why))] == ["a\\0b", "c\\0d"]


def test_half_a_character_on_record_stops_no_page(ledger: Ledger, browser: Start) -> None:
    """As a file name that is no text leaves it, or JSON that was cut."""
    said = VerdictRow(judge="eye", version="1", label="", scores={"eye": 0.5}, failures=["a\ud800"])
    brief = ledger.add_brief(ledger.start_run("ads", {"input": "a\udcff"}, 0), "x", {"title": "a\udcff"})
    ledger.record_attempt(brief, 0, 1, 0, Image.new("RGB", (8, 8)), [said], detail={"path": "a\udcff"})
    catch_up(ledger)
    ada = browser("Ada")
    for page in ("/look", "/look/1", "/runs", "/runs/1"):
        opened = ada.client.get(page)
        assert opened.status_code == 200 and "a\\udcff" in opened.text or page == "/runs"
    assert ada.desk()[0]["title"] == "a\\udcff"


def test_a_thumb_stands_as_its_picture_does(ledger: Ledger, browser: Start) -> None:
    """A photograph of 40 by 20 pixels that a camera says to turn by a quarter."""
    picture, file = Image.new("RGB", (40, 20)), io.BytesIO()
    turned = picture.getexif()
    turned[0x0112] = 6
    picture.save(file, format="JPEG", exif=turned)
    ledger.record_attempt(ledger.add_brief(ledger.start_run("edit", {}, 0), "cup", {}), 0, 1, 0, file.getvalue())
    answer = browser("Ada").client.get(f"/thumb/{ledger.attempt(1).image_sha}")
    assert Image.open(io.BytesIO(answer.content)).size == (20, 40)


def test_a_damaged_picture_of_the_ledger_is_said(ledger: Ledger, browser: Start) -> None:
    sha = ledger.attempt(fill(ledger, [0.5])[0]).image_sha
    ledger.image_path(sha).write_bytes(b"\x89PNG\r\n\x1a\n<script>")
    answer = browser("Ada").client.get(f"/thumb/{sha}")
    assert answer.status_code == 404 and answer.json() == {"detail": "That picture is damaged."}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/desk", {"kind": "people"}), ("/api/desk", {"kind": "label", "count": 0}),
        ("/api/desk", {"kind": "label", "count": 9}), ("/api/desk", {"kind": "label", "count": "1"}),
        ("/api/desk", {"kind": "label", "person": "Bo"}), ("/api/desk", {}), ("/api/undo", {"ask": 0}),
        ("/api/undo", {"ask": 2**63}), ("/api/undo", {"ask": True}), ("/api/undo", {"ask": None}),
        ("/api/aside", {"person": "Ada"}), ("/api/aside", {"person": "Ada", "aside": 1}),
        ("/api/aside", {"person": "x" * 201, "aside": True}),
        ("/api/aside", {"person": "Ada", "aside": True, "why": "x" * 501}),
        ("/api/aside", {"person": "Ada", "aside": True, "decided_by": "Bo"}),
    ],
)  # fmt: skip
def test_malformed_calls_are_refused_and_nothing_is_stored(
    ledger: Ledger, browser: Start, path: str, body: dict[str, object]
) -> None:
    fill(ledger, [0.5])
    ada = browser("Ada")
    answer = ada.call(path, **body)
    assert answer.status_code == 422 and answer.json() == {"detail": "That is not what this call takes."}
    with reading(ledger) as connection:
        assert [connection.scalar(select(func.count()).select_from(table)) for table in (Ask, Person)] == [0, 0]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"ask": "1", "outcome": "answered"}', b'{"ask": 1}', b'{"ask": 1, "outcome": "x"}',
     b'{"ask": 1, "outcome": "answered", "answer": "available", "person": "Bo"}',
     b'{"ask": 1e400, "outcome": "skipped"}',
     b'{"ask": 99999999999999999999, "outcome": "skipped"}', b'{"ask": -1, "outcome": "skipped"}', b"\xff\xfe",
     b'{"ask": 1, "outcome": "answered", "answer": "left"}',
     b'{"ask": 1, "outcome": "answered", "answer": "\'; DROP TABLE votes"}',
     b'{"ask": 1, "outcome": "answered", "answer": "available", "seconds": NaN}',
     b'{"ask": 1, "outcome": "flagged", "note": "' + b"x" * 501 + b'"}', b"[" * 5000],
)  # fmt: skip
def test_malformed_answers_are_refused_and_nothing_is_stored(ledger: Ledger, browser: Start, body: bytes) -> None:
    fill(ledger, [0.5])
    ada = browser("Ada")
    ada.desk()
    headers = {"x-form-token": ada.token, "content-type": "application/json"}
    body = body.replace(b'{"ask"', b'{"ledger": "%s", "ask"' % key_of(ledger).encode())
    assert ada.client.post("/api/answers", content=body, headers=headers).status_code in (400, 422)
    assert answered(ledger) == 0 and ledger.votes() == []


def test_what_is_too_long_is_refused(ledger: Ledger, browser: Start) -> None:
    fill(ledger, [0.5])
    ada = browser("Ada")
    headers = {"x-form-token": ada.token, "content-type": "application/json"}
    assert ada.client.post("/api/desk", content=b" " * 20_000, headers=headers).status_code == 413
    unannounced = iter([b" " * 9000, b" " * 9000])
    assert ada.client.post("/api/desk", content=unannounced, headers=headers).status_code in (400, 413)


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}]
)
def test_another_sites_requests_are_refused(browser: Start, headers: dict[str, str]) -> None:
    ada = browser("Ada")
    headers = {**headers, "x-form-token": ada.token}
    assert ada.client.post("/api/desk", json={"kind": "label"}, headers=headers).status_code == 403


def test_another_sites_name_is_refused(browser: Start) -> None:
    """DNS rebinding: a page of evil.example whose name now points at this machine."""
    ada = browser("Ada", hosts=frozenset({"127.0.0.1"}))
    assert ada.client.get("/label", headers={"host": "evil.example:8060"}).status_code == 400
    assert ada.client.get("/label", headers={"host": ORIGIN.partition("://")[2]}).status_code == 200


def test_too_many_requests_are_refused(ledger: Ledger, browser: Start) -> None:
    guarded = Guard(create_app(ledger), reads=Limit(rate=0, burst=3), writes=Limit(rate=0, burst=2))
    client = TestClient(guarded, base_url=ORIGIN)
    assert [client.get("/sign-in").status_code for _ in range(4)] == [200, 200, 200, 429]
    assert [client.post("/api/undo", json={"ask": 1}).status_code for _ in range(3)] == [401, 401, 429]
    client.cookies.set("goodeye_session", "another")
    assert client.get("/static/eye.svg").status_code == 200, "another session behind the same address has its own limit"


def test_forms_of_another_kind_are_refused(browser: Start, tmp_path: Path) -> None:
    client = browser("").client
    assert client.post("/sign-in", files={"name": b"x"}).status_code == 415
    long = "&".join(f"a{number}=1" for number in range(50))
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/sign-in", content=long, headers=form).status_code == 400
    assert client.post("/sign-in", content=b"name=%ff", headers=form).status_code == 400


def test_the_cookie_is_out_of_scripts_reach(browser: Start) -> None:
    answer = browser("").sign_in("Ada")
    cookie = next(one for one in answer.headers.get_list("set-cookie") if "goodeye_session" in one)  # type: ignore[attr-defined]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie


@pytest.mark.parametrize(("before", "secure"), [("https", True), ("HTTPS, http", True), ("http", False), (None, False)])
def test_a_proxy_tells_that_the_browser_came_by_https(browser: Start, before: str | None, secure: bool) -> None:
    answer = browser("").client.get("/sign-in", headers={"x-forwarded-proto": before} if before else {})
    assert ["Secure" in one for one in answer.headers.get_list("set-cookie")] == [secure]


def test_setting_aside_over_http(ledger: Ledger, browser: Start) -> None:
    fill(ledger, [0.5])
    ada = browser("Ada")
    ada.answer(ada.desk()[0]["id"], "available")
    assert ada.call("/api/aside", person="Ada", aside=True, why="<b>tired</b>").json() == {"aside": True}
    page = ada.client.get("/standing").text
    assert "&lt;b&gt;tired" in page and "<b>tired" not in page and ledger.votes() == []
    assert ada.call("/api/aside", person="nobody", aside=True).status_code == 400


def test_who_is_set_aside_does_not_count_themselves_again(ledger: Ledger, browser: Start) -> None:
    fill(ledger, [0.5])
    ada, eve = browser("Ada"), browser("Eve")
    eve.answer(eve.desk()[0]["id"], "available")
    ada.call("/api/aside", person="Eve", aside=True, why="did not look")
    answer = eve.call("/api/aside", person="Eve", aside=False)
    assert answer.status_code == 403 and "someone else" in answer.json()["detail"] and ledger.votes() == []
    assert ada.call("/api/aside", person="Eve", aside=False).json() == {"aside": False}
    assert [vote.person for vote in ledger.votes()] == ["Eve"]
