"""People's scores of edits as annotations: means by hand, what is missing stays so, no source mixed with another."""

import json
import shutil

import pytest
from PIL import Image
from sqlalchemy import insert

from goodeye.cli import main
from goodeye.edit.book import opened
from goodeye.edit.people import annotate_by_people
from goodeye.edit.rewards import Rewards
from goodeye.edit.triplets import read_triplets, source_of
from goodeye.errors import BadInput
from goodeye.ledger import schema
from goodeye.ledger.asks import Person
from goodeye.ledger.ledger import Ledger
from goodeye.runfolder import RunFolder


@pytest.fixture
def scored(tmp_path, ledger):
    """Two edits of one picture, judged by a model, the first scored by three people, and one of a second run."""
    said = Rewards((1, 2, None), ("not done", "", ""))
    for run, count in ((1, 2), (2, 1)):
        with opened(RunFolder(tmp_path / f"run{run}"), {"seed": run}, None, run, ("large", "m")) as book:
            brief = book.brief("shop/a", "make it night", Image.new("RGB", (8, 8), (run, 0, 0)))
            for number in range(1, count + 1):
                book.attempt(brief, number, 7, Image.new("RGB", (8, 8), (100 * run, number, 0)), said, 20, 1.5)
    with Ledger.open(ledger) as book:
        for attempt, person, axes in (
            (1, "ann", {"following": 0, "preserving": 0, "quality": 0}),  # she thought again
            (1, "ann", {"following": 5, "preserving": 4, "quality": 3}),
            (1, "ann", {}),  # a label alone takes no score back
            (1, "bo", {"following": 2, "preserving": 5}),
            (1, "eve", {"following": 0, "preserving": 0, "quality": 0}),  # set aside
            (2, "cy", {"preserving": 1}),
            (3, "cy", {"following": 4, "preserving": 4, "quality": 4}),
        ):
            book.vote(attempt, person, "scored", axes)
        with book.transaction() as connection:
            aside = {"name": "eve", "aside": True, "why": "", "decided_by": "x", "decided": schema.now()}
            connection.execute(insert(Person).values(**aside))
    return ledger


def test_means_over_voters_and_what_is_missing_stays_missing(scored, tmp_path):
    done = annotate_by_people(scored, tmp_path / "out", runs=[1])
    found = json.loads((tmp_path / "out" / "rewards.json").read_text())
    assert {key: [one["Score"] for one in rows] for key, rows in found.items()} == {
        "shop_a-1": [3.5, 4.5, 3.0], "shop_a-2": [None, 1.0, None]
    }  # fmt: skip
    assert all(one["Negative Prompt"] == "" for rows in found.values() for one in rows), "the model's words are its own"
    assert (done.edits, done.people) == (2, 3) and done.missing == {"following": 1, "preserving": 0, "quality": 1}
    assert done.means == {"following": 3.5, "preserving": 2.75, "quality": 3.0} and done.skipped == []
    first, second = read_triplets(tmp_path / "out")
    assert first.rewards.scores == (3.5, 4.5, 3.0) and second.rewards.scores == (None, 1.0, None)
    assert first.instruction == "make it night"
    assert (first.original.open().getpixel((0, 0)), first.edited.open().getpixel((0, 0))) == ((1, 0, 0), (100, 1, 0))


def test_the_models_scores_stand_beside_under_its_own_name(scored, tmp_path):
    annotate_by_people(scored, tmp_path / "out")
    beside = json.loads((tmp_path / "out" / "sources.json").read_text())
    assert sorted(beside) == ["shop_a-1", "shop_a-2", "shop_a-3"]
    assert beside["shop_a-1"] == {
        "people": {"following": 3.5, "preserving": 4.5, "quality": 3.0},
        "voters": {"following": 2, "preserving": 2, "quality": 1},
        "judges": {"large m": {"following": 1.0, "preserving": 2.0}},
        "chosen": "",
    }
    assert beside["shop_a-2"]["people"] == {"preserving": 1.0}
    assert source_of(tmp_path / "out" / "triplets.parquet") == "people"


def test_two_sources_in_one_folder_are_refused(scored, tmp_path):
    annotate_by_people(scored, tmp_path / "people")
    model = tmp_path / "model"
    with pytest.raises(BadInput, match="holds no scores of edits|was annotated with"):
        model.mkdir()
        (model / "config.json").write_text(json.dumps({"job": "edit annotate", "model": "large", "triplets": "x"}))
        annotate_by_people(scored, model)
    shutil.copy(tmp_path / "people" / "triplets.parquet", model / "people.parquet")
    assert len(list(read_triplets(model))) == 3
    from goodeye.edit.triplets import write_parquet

    write_parquet(read_triplets(tmp_path / "people"), model / "other.parquet", "large")
    with pytest.raises(BadInput, match="several judges: other.parquet by large, people.parquet by people"):
        read_triplets(model)


def test_votes_that_came_since_are_taken_in(scored, tmp_path):
    annotate_by_people(scored, tmp_path / "out")
    with Ledger.open(scored) as book:
        book.vote(2, "ann", "scored", {"following": 3, "preserving": 3, "quality": 5})
    annotate_by_people(scored, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "rewards.json").read_text())
    assert [one["Score"] for one in found["shop_a-2"]] == [3.0, 2.0, 5.0]


def test_ctrl_c_on_the_way_and_the_same_line_again(scored, tmp_path, capsys, monkeypatch):
    """From another folder, too: a ledger is the same by whichever path it is named."""
    monkeypatch.chdir(tmp_path)
    line = ["edit", "annotate", scored.name, "--out", str(tmp_path / "out"), "--run", "1", "2"]
    for stopped_in in ("write_rewards", "write_parquet", "write_bytes"):
        with monkeypatch.context() as now:
            now.setattr(f"goodeye.edit.people.{stopped_in}", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
            assert main(line) == 1
        assert "Go on with: goodeye edit annotate ledger --out" in capsys.readouterr().err
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main([*line[:2], "../ledger", *line[3:6], "2", "1"]) == 0
    assert "3 edits with scores by 3 people" in capsys.readouterr().out
    assert sorted(json.loads((tmp_path / "out" / "sources.json").read_text())) == ["shop_a-1", "shop_a-2", "shop_a-3"]
    assert len(list(read_triplets(tmp_path / "out"))) == 3


def test_published_rewards_are_not_written_over(scored, tmp_path):
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "rewards.json").write_text("{}")
    with pytest.raises(BadInput, match="rewards.json was not made by this command"):
        annotate_by_people(scored, tmp_path / "published")
    assert [one.name for one in (tmp_path / "published").iterdir()] == ["rewards.json"]


def test_only_people_who_are_set_aside_is_nobody(scored, tmp_path):
    with Ledger.open(scored) as book, book.transaction() as connection:
        for name in ("ann", "bo", "cy"):
            aside = {"name": name, "aside": True, "why": "", "decided_by": "x", "decided": schema.now()}
            connection.execute(insert(Person).values(**aside))
    with pytest.raises(BadInput, match="holds no scores of edits"):
        annotate_by_people(scored, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_score_that_is_none_is_named_and_left_out(scored, tmp_path, capsys):
    with Ledger.open(scored) as book:
        book.vote(3, "bo", "scored", {"following": 9})
    line = ["edit", "annotate", str(scored), "--out", str(tmp_path / "out"), "--run", "2"]
    assert main([*line, "--json", str(tmp_path / "done.json")]) == 2
    told = capsys.readouterr()
    assert "vote 8 on attempt 3 says 9" in told.err and "1 edits with scores by 1 people" in told.out
    assert json.loads((tmp_path / "done.json").read_text())["means"]["following"] == 4.0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--server", "http://x/v1", "--model", "m"], "whose edits people scored"),
        (["--run", "9"], "has no run 9"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line(scored, tmp_path, capsys, more, words):
    assert main(["edit", "annotate", str(scored), "--out", str(tmp_path / "out"), *more]) == 2
    assert words in capsys.readouterr().err


def test_a_ledger_without_scores_says_how_to_get_them(ledger, tmp_path, capsys):
    Ledger.open(ledger).close()
    assert main(["edit", "annotate", str(ledger), "--out", str(tmp_path / "out")]) == 2
    assert "holds no scores of edits. Ask with `goodeye review`" in capsys.readouterr().err
    assert main(["edit", "annotate", str(tmp_path), "--out", str(tmp_path / "out"), "--run", "1"]) == 2
    assert "--run is of a ledger's runs" in capsys.readouterr().err
    assert main(["edit", "annotate", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 2
    assert "There is no ledger in" in capsys.readouterr().err
