"""The demo, on the tiny model set: which products it takes, and where it leaves what it makes."""

from pathlib import Path

import pytest

from goodeye import demo
from goodeye.errors import BadInput


@pytest.fixture
def show(tiny_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(picture=None, **options):
        return demo.demo(picture, models=str(tiny_set), want=1, attempts=2, progress=False, **options)

    return call


def test_three_products_of_the_showroom(show):
    result = show()
    assert [brief.title for brief in result.briefs] == [title for _, title in demo.showroom_products()[:3]]
    assert result.problems == [] and result.report == Path("goodeye-demo/report.html")
    assert result.report.exists()
    assert sorted(path.name for path in Path().iterdir()) == ["goodeye-demo"], "nothing anywhere else"


def test_a_picture_of_ones_own_comes_first(show, products):
    result = show(products / "ring.png", out="mine")
    assert [brief.key for brief in result.briefs][0] == "ring" and len(result.briefs) == 3


def test_a_second_demo_takes_the_next_folder(show):
    assert [show().out.name for _ in range(3)] == ["goodeye-demo", "goodeye-demo-2", "goodeye-demo-3"]


def test_a_picture_that_cannot_be_used_is_said_and_the_others_run(show, tmp_path):
    with pytest.raises(BadInput, match=r"nothing\.png does not exist"):
        show("nothing.png")
    (tmp_path / "bad.png").write_bytes(b"")
    result = show("bad.png")
    assert len(result.briefs) == 2 and "bad.png is empty" in result.problems[0].message
