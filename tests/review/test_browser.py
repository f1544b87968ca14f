"""The pages in a real browser: Debian's Chromium, driven by Playwright. Skipped, saying why, where there is none."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from goodeye.cli import main
from goodeye.ledger.ledger import Ledger
from required import absent
from review.conftest import edits, fill
from review.test_queue import draw
from review.test_serve import Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def ledger(folder: Ledger) -> Ledger:
    """In a folder, which is named here."""
    return folder


@pytest.fixture
def options() -> list[str]:
    """What the server is started with, besides the ledger. What is shown again makes no vote, so nothing is."""
    return ["--repeat-share", "0"]


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complains of; a test that means it to takes it out."""
    return []


@pytest.fixture
def server(ledger: Ledger, options: list[str]) -> Iterator[Server]:
    """A real server of a ledger with something to label and to compare."""
    fill(ledger, [number / 30 for number in range(12)], runs=2)
    server = Server(ledger.where, *options)
    yield server
    server.stop(signal.SIGINT)


@pytest.fixture
def page(request: pytest.FixtureRequest, complaints: list[str]) -> Iterator[Any]:
    """A signed-in page on a real server; whatever the browser complains of fails the test."""
    try:
        import playwright.sync_api as playwright
    except ImportError:
        absent("browser", "Playwright is not installed (pip install playwright)")
    if CHROMIUM is None:
        absent("browser", "there is no Chromium here (Debian: apt-get install chromium)")
    server: Server = request.getfixturevalue("server")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(base_url=server.url)
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        sign_in(page)
        yield page
        browser.close()
    assert complaints == []


def sign_in(page: Any) -> None:
    page.goto("/")
    page.fill("[name=name]", "Ada")
    page.keyboard.press("Enter")
    page.wait_for_url("**/label")


def test_an_answer_that_waits_is_stored_in_the_ledger_that_asked_and_in_no_other(
    page: Any, server: Server, ledger: Ledger, options: list[str], complaints: list[str], tmp_path: Path
) -> None:
    """The second ledger has asked her something of the same number."""
    page.wait_for_selector(".frame img")
    server.process.kill()
    server.process.wait()
    page.keyboard.press("3")
    page.wait_for_selector("#desk[data-unsent='1']")
    port = ["--port", server.url.rpartition(":")[2]]
    with Ledger.open(tmp_path / "other") as other:
        fill(other, [number / 30 for number in range(12)])
        draw(other, "Ada", count=5)
        second = Server(other.where, *options, *port)
        sign_in(page)
        page.wait_for_selector(".frame img")
        page.keyboard.press("2")
        page.wait_for_selector("#tally:text-is('1 today')")
        page.wait_for_selector("#desk[data-unsent='0']")
        second.stop(signal.SIGKILL)
        assert [vote.label for vote in other.votes()] == ["space_mismatch"]
    third = Server(ledger.where, *options, *port)
    sign_in(page)
    page.wait_for_selector("#desk[data-unsent='0']")
    page.close()  # else it asks on, of a server that is gone
    third.stop(signal.SIGINT)
    assert [vote.label for vote in ledger.votes()] == ["size_mismatch"]
    complaints.clear()  # of connections that failed, and of sessions that another ledger does not know


def cut_off(page: Any, path: str, **answer: Any) -> None:
    """Requests to it fail from now on, or get this answer. A busy browser lets one or two through at first."""
    page.route(f"**{path}", lambda route: route.fulfill(**answer) if answer else route.abort())
    probe = (
        f"fetch('{path}', {{method: 'POST'}}).then((found) => found.status === {answer.get('status', 0)}, () => true)"
    )
    page.wait_for_function(probe, polling=50)


def test_what_was_taken_back_while_the_server_was_away_stays_taken_back(
    page: Any, ledger: Ledger, complaints: list[str]
) -> None:
    """Of three answers the first was sent and not confirmed, the others never: all three are taken back, the page is
    closed before the server is there again, and only what is said then is stored."""
    page.wait_for_selector(".frame img")
    first = page.locator(".frame img").get_attribute("src")
    cut_off(page, "/api/answers")
    for number in (1, 2, 3):
        page.keyboard.press("3")
        page.wait_for_selector(f"#tally:text-is('{number} today')")
    for number in (2, 1, 0):
        page.keyboard.press("z")
        page.wait_for_selector(f"#tally:text-is('{number} today')")
    page.wait_for_selector(f".frame img[src='{first}']")
    assert page.get_attribute("#desk", "data-unsent") == "2"  # the first answer, and that it was taken back
    page.unroute("**/api/answers")
    page.reload()
    page.wait_for_selector(f".frame img[src='{first}']")
    page.wait_for_selector("#desk[data-unsent='0']")
    assert ledger.votes() == []
    page.keyboard.press("2")
    page.wait_for_selector("#tally:text-is('1 today')")
    page.wait_for_selector("#desk[data-unsent='0']")
    assert [vote.label for vote in ledger.votes()] == ["space_mismatch"]
    complaints.clear()


def test_an_answer_given_anew_before_the_undo_arrived_is_the_one_that_counts(
    page: Any, ledger: Ledger, complaints: list[str]
) -> None:
    page.wait_for_selector(".frame img")
    page.keyboard.press("1")
    page.wait_for_selector("#tally:text-is('1 today')")
    page.wait_for_selector("#desk[data-unsent='0']")
    cut_off(page, "/api/undo")
    page.keyboard.press("z")
    page.wait_for_selector("#sync:text('Taken back.'), #sync.problem")
    page.keyboard.press("3")
    page.wait_for_selector("#desk[data-unsent='2']")
    page.unroute("**/api/undo")
    page.wait_for_selector("#desk[data-unsent='0']")
    assert [vote.label for vote in ledger.votes()] == ["size_mismatch"]
    complaints.clear()


def test_a_desk_that_was_refused_is_asked_for_again(page: Any, complaints: list[str]) -> None:
    page.wait_for_selector(".frame img")
    cut_off(page, "/api/desk", status=503, json={"detail": "away"})
    page.reload()
    page.wait_for_selector("#sync.problem:text('Trying again')")
    assert not page.locator(".frame img").count()
    page.unroute("**/api/desk")
    page.wait_for_selector(".frame img")
    page.wait_for_selector("#sync:not(.problem)", state="attached")
    complaints.clear()


def test_a_refused_decision_is_said_and_can_be_sent_again(page: Any, ledger: Ledger, complaints: list[str]) -> None:
    page.wait_for_selector(".frame img")
    page.keyboard.press("1")
    page.wait_for_selector("#tally:text-is('1 today')")
    page.wait_for_selector("#desk[data-unsent='0']")
    page.goto("/standing")
    cut_off(page, "/api/aside", status=503, json={"detail": "Away for lunch."})
    page.click("[data-person=Ada]")
    page.click("dialog [value=yes]")
    page.wait_for_selector("#problem:text('Nothing was changed for Ada. Away for lunch.')")
    assert len(ledger.votes()) == 1
    page.unroute("**/api/aside")
    page.click("text=Try again")
    page.wait_for_selector("tr.aside")
    assert ledger.votes() == []
    complaints.clear()


def test_a_small_phone_shows_every_label_and_nothing_is_too_wide(page: Any, ledger: Ledger) -> None:
    ledger.vote(1, "Bartholomew Longname the Third of Everywhere", "available")
    page.set_viewport_size({"width": 360, "height": 640})
    page.reload()
    page.wait_for_selector(".frame img")
    ends = [box.bounding_box() for box in page.locator("#choices button").all()]
    assert len(ends) == 5 and max(one["y"] + one["height"] for one in ends) <= 640
    for path in ("/label", "/compare", "/look", "/look/1", "/runs", "/runs/1", "/standing"):
        page.goto(path)
        page.wait_for_selector("main")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


PALEST = """() => {
  const parts = (css) => { const n = css.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const found = parts(getComputedStyle(one).backgroundColor);
      if (found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const one = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !one.checkVisibility({ opacityProperty: true })) continue;
    const [low, high] = [light(parts(getComputedStyle(one).color)), light(behind(one))].sort((a, b) => a - b);
    found.push([(high + 0.05) / (low + 0.05), walk.currentNode.data.trim().slice(0, 40)]);
  }
  return found.sort((a, b) => a[0] - b[0])[0];
}"""


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_every_word_can_be_read_by_day_and_by_night(page: Any, ledger: Ledger, scheme: str, is_dark: bool) -> None:
    """Against what is behind it each text has the contrast that WCAG 2 asks for (AA, 4.5 to 1)."""
    ledger.vote(1, "Bo", "available")
    page.emulate_media(color_scheme=scheme)
    for path in ("/label", "/compare", "/look", "/look/1", "/runs", "/runs/1", "/standing"):
        page.goto(path)
        page.wait_for_selector("main")
        contrast, text = page.evaluate(PALEST)
        assert contrast >= 4.5, (path, text, contrast)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (max(paper) < 60) is is_dark, path


def test_twenty_labels_by_keyboard_with_an_undo(page: Any, ledger: Ledger) -> None:
    for number in range(20):
        page.wait_for_selector(".frame img")
        page.keyboard.press(str(1 + number % 5))
        page.wait_for_selector(f"#tally:text-is('{number + 1} today')")
    page.keyboard.press("z")
    page.wait_for_selector("#tally:text-is('19 today')")
    page.wait_for_selector(".frame img")
    page.wait_for_selector("#desk[data-unsent='0']")
    assert len(ledger.votes()) == 19
    page.keyboard.press("1")
    page.wait_for_selector("#tally:text-is('20 today')")
    page.wait_for_selector("#desk[data-unsent='0']")
    votes = ledger.votes()
    assert len(votes) == 20 and votes[-1].label == "available" and all(vote.seconds >= 0 for vote in votes)


def test_ten_pairs_by_keyboard_then_look_and_standing(page: Any, ledger: Ledger) -> None:
    page.goto("/compare")
    for number in range(10):
        page.wait_for_selector(".frame + .frame img")
        page.keyboard.press(("ArrowLeft", "ArrowRight", "ArrowDown")[number % 3])
        page.wait_for_selector(f"#tally:text-is('{number + 1} today')")
    page.wait_for_selector("#desk[data-unsent='0']")
    page.goto("/look")
    assert page.locator(".wall li").count() == 24
    page.select_option("[name=run]", "2")
    page.wait_for_url("**/look?*run=2*")
    assert page.locator(".wall li").count() == 12
    page.goto("/runs")
    page.click("text=Run 2")
    page.wait_for_url("**/runs/2")
    assert "12 attempts" in page.inner_text(".figures") and page.locator(".strip img").count() == 24
    page.goto("/standing")
    assert "Ada" in page.inner_text("table")


def test_four_at_once_and_the_chosen_one_gets_the_label(page: Any, ledger: Ledger) -> None:
    page.wait_for_selector(".frame img")
    page.keyboard.press("g")
    page.wait_for_selector(".stage.four .frame:nth-child(4) img")
    third = page.locator(".frame img").nth(2).get_attribute("src")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(".frame:nth-child(3)[aria-current='true']")
    page.keyboard.press("3")
    page.wait_for_selector("#tally:text-is('1 today')")
    page.wait_for_selector("#desk[data-unsent='0']")
    (vote,) = ledger.votes()
    assert vote.label == "size_mismatch" and third == f"/image/{ledger.attempt(vote.attempt_id).image_sha}"


def skip_to_an_edit(page: Any) -> None:
    """Skips single pictures until before and after stand there; the server looks for what is new every five seconds."""
    for _skipped in range(200):
        page.wait_for_selector(".frame img")
        if page.locator(".stage.before").count():
            return
        page.keyboard.press("s")
        page.wait_for_timeout(100)


def test_an_edit_is_scored_by_keys_and_by_pointer(page: Any, ledger: Ledger, options: list[str]) -> None:
    first, second = edits(ledger)
    skip_to_an_edit(page)
    assert page.locator(".stage.before .frame img").count() == 2 and not page.is_visible("#choices")
    assert page.locator(".before .when").all_inner_texts() == ["Before", "After"]
    assert page.locator("#scales .scale").count() == 3
    before, after = (page.locator(".frame").nth(place).bounding_box() for place in (0, 1))
    assert before["x"] + before["width"] <= after["x"] + 1
    for key in ("5", "9", "1", "Backspace", "4", "0"):  # 9 is no score
        page.keyboard.press(key)
    page.wait_for_selector("#desk[data-unsent='0']")
    skip_to_an_edit(page)  # what is asked next need not be the other one
    page.wait_for_selector("#scales button[aria-pressed='true']", state="detached")
    page.locator("[data-axis=quality] button").nth(2).click()
    page.locator("[data-axis=following] button").nth(1).click()
    assert page.locator("#scales button[aria-pressed='true']").count() == 2
    page.locator("[data-axis=preserving] button").nth(3).click()
    page.wait_for_selector("#choices:visible, .wait")
    page.wait_for_selector("#desk[data-unsent='0']")
    said = {vote.attempt_id: vote.axes for vote in ledger.votes()}
    assert sorted(said) == [first, second]
    assert sorted(list(axes.values()) for axes in said.values()) == [[1, 3, 2], [5, 4, 0]]


def test_rows_of_pictures_stand_above_each_other_and_a_key_chooses_one(page: Any, ledger: Ledger) -> None:
    for run in range(2):
        brief = ledger.add_brief(ledger.start_run("search", {}, run), "a red shoe", {"prompt": "a red shoe"})
        shown = [Image.new("RGB", (16, 16), (80 * run, 40 * place, 9)) for place in range(5)]
        ledger.record_attempt(brief, 0, 1, run, None, shown=shown)
    page.goto("/compare")
    for _skipped in range(100):  # the server looks for what is new every five seconds
        page.wait_for_selector(".frame + .frame img")
        if page.locator(".frame").first.locator("img").count() == 5:
            break
        page.keyboard.press("s")
        page.wait_for_timeout(200)
    above, below = (page.locator(".frame").nth(place).bounding_box() for place in (0, 1))
    assert above["y"] + above["height"] <= below["y"] + 1
    assert page.inner_text("#choices").split() == ["↑", "Above", "Space", "Similar", "↓", "Below"]
    shown = page.locator(".frame").nth(1).locator("img").first.get_attribute("src")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("#desk[data-unsent='0']")
    (said,) = [one for one in ledger.comparisons() if one.axis != "overall"]
    chosen = ledger.attempt(said.left_attempt if said.choice == "left" else said.right_attempt)
    assert said.axis == "accuracy" and shown == f"/image/{chosen.shown[0]}"


@pytest.fixture
def index(ledger: Ledger, tmp_path: Path, options: list[str]) -> Path:
    """An index of the ledger's pictures and of two more, in which the server searches."""
    fill(ledger, [0.5])
    for colour in ("red", "blue"):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{colour}.png")
    for source in (tmp_path / "red.png", tmp_path / "blue.png"):
        (tmp_path / source.stem).mkdir()
        source.rename(tmp_path / source.stem / source.name)
        assert main(["search", "index", str(tmp_path / source.stem), "--out", str(tmp_path / "index")]) == 0
    assert main(["search", "index", f"{ledger.where}/images", "--out", str(tmp_path / "index")]) == 0
    options += ["--index", str(tmp_path / "index")]
    return tmp_path


def pictures_are_there(page):
    """Every picture of the page is loaded. Asked from here: the page's policy lets no text become a script."""
    loaded = "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    for _ in range(100):
        if page.evaluate(loaded):
            return
        page.wait_for_timeout(100)
    raise AssertionError("a picture of the page did not load within 10 s")


def test_search_by_words_and_by_a_picture(index: Path, page: Any) -> None:
    page.goto("/look")
    page.fill("[name=q]", "a red shoe")
    page.keyboard.press("Enter")
    page.wait_for_url("**/look/search?q=a+red+shoe*")
    assert page.locator(".wall li").count() >= 1
    page.set_input_files("#picture", index / "blue" / "blue.png")
    page.wait_for_url("**/look/search?like=*")
    assert page.inner_text(".wall li >> nth=0").startswith("blue.png")
    pictures_are_there(page)
    page.click(".wall li >> nth=0")
    page.wait_for_url("**/look/found/*")
    pictures_are_there(page)
