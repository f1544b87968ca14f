"""Briefs from what people really have: files, folders and tables, some of them broken."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from goodeye.ads.brief import SETTINGS, Brief, choose_prompt, clean, read_briefs, slug, unique_keys, with_title


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with two pictures and another with one of the same name."""
    for name in ("shoe.png", "Cup of Tea.PNG", "more/shoe.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_files_and_folders_in_the_order_given_with_distinct_keys(shop):
    briefs, problems = read_briefs(
        [shop / "more" / "shoe.png", shop], Path("unused"), title="A thing", prompt="on a table"
    )
    assert [(b.key, b.image) for b in briefs] == [
        ("shoe", shop / "more" / "shoe.png"),
        ("cup-of-tea", shop / "Cup of Tea.PNG"),
        ("shoe-2", shop / "shoe.png"),
    ]
    assert {(b.title, b.prompt) for b in briefs} == {("A thing", "on a table")}
    assert problems == []


def test_a_folder_takes_its_titles_from_titles_json(shop):
    (shop / "titles.json").write_text(json.dumps([{"file": "shoe.png", "title": "running shoe"}]))
    briefs, _ = read_briefs([shop], Path("unused"), title="anything")
    assert {b.key: b.title for b in briefs} == {"shoe": "running shoe", "cup-of-tea": "anything"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_paths_are_relative_to_the_table_and_its_words_win(shop, monkeypatch, delimiter, encoding):
    monkeypatch.chdir("/")
    rows = [["Image ", "Title", "prompt"], ["shoe.png", "Shoe 👟 für alle", ""], ["more/shoe.png", "", "in snow"]]
    table = write(shop / "briefs.csv", "\r\n".join(delimiter.join(row) for row in rows), encoding)
    briefs, problems = read_briefs([table], Path("unused"), title="default", prompt="on sand")
    assert problems == []
    assert briefs == [
        Brief(key="shoe", image=shop / "shoe.png", title="Shoe 👟 für alle", prompt="on sand"),
        Brief(key="shoe-2", image=shop / "more" / "shoe.png", title="default", prompt="in snow"),
    ]


def test_parquet_with_and_without_titles(shop):
    pq.write_table(pa.table({"image": ["shoe.png", None], "title": [None, "x"]}), shop / "plain.parquet")
    pq.write_table(
        pa.table({"image": [{"bytes": None, "path": "shoe.png"}], "prompt": ["on ice"]}), shop / "struct.parquet"
    )
    briefs, problems = read_briefs([shop / "plain.parquet", shop / "struct.parquet"], Path("unused"))
    assert [(b.key, b.title, b.prompt) for b in briefs] == [("shoe", "", ""), ("shoe-2", "", "on ice")]
    assert [p.name for p in problems] == ["plain.parquet row 2"]


def test_pictures_that_a_parquet_file_holds_become_files_of_the_run(shop):
    """As datasets writes them, and as bare bytes; a second reading, as in a resumed run, finds the same files."""
    red, blue = shop / "red.png", shop / "blue.png"
    Image.new("RGBA", (4, 4), (255, 0, 0, 9)).save(red)
    Image.new("RGB", (5, 4), (0, 0, 255)).save(blue)
    rows = [
        {"image": {"path": "Red Shoe.png", "bytes": red.read_bytes()}, "title": "shoe"},
        {"image": None, "title": "no"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), shop / "train.parquet")
    pq.write_table(pa.table({"IMAGE": [blue.read_bytes()]}), shop / "bare.parquet")
    briefs, problems = read_briefs([shop / "train.parquet", shop / "bare.parquet"], shop / "run")
    assert [(b.key, b.title, b.image.read_bytes()) for b in briefs] == [
        ("red-shoe", "shoe", red.read_bytes()),
        ("bare", "", blue.read_bytes()),
    ]
    assert [p.name for p in problems] == ["train.parquet row 2"]
    kept = {file: file.stat().st_mtime_ns for file in (shop / "run").iterdir()}
    assert read_briefs([shop / "train.parquet", shop / "bare.parquet"], shop / "run") == (briefs, problems)
    assert {file: file.stat().st_mtime_ns for file in (shop / "run").iterdir()} == kept and len(kept) == 2


def test_an_unusable_row_is_a_problem_and_the_others_stay(shop):
    long = "x" * 5000
    table = write(shop / "briefs.csv", f"image,title\nmissing.png,a\n,b\n{long},c\nshoe.png,d\n")
    briefs, problems = read_briefs([table], Path("unused"))
    assert [b.title for b in briefs] == ["d"]
    assert [p.name for p in problems] == ["missing.png", "briefs.csv row 2", long]
    assert all("\n" not in p.message and p.message.endswith(".") for p in problems)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.csv", b"picture,title\na.png,b\n", "no column named image"),
        ("empty.csv", b"", "no column named image"),
        ("latin.csv", "image,title\na.png,Schön\n".encode("latin-1"), "not UTF-8"),
        ("broken.parquet", b"PAR1 but not really", "not a readable Parquet"),
        ("huge.csv", b"image\n" + b'"' + b"x" * 200_000 + b'"', "not a readable CSV"),
    ],
)
def test_a_broken_table_is_one_plain_line(shop, name, content, says):
    (shop / name).write_bytes(content)
    briefs, problems = read_briefs([shop / name, shop / "shoe.png"], Path("unused"))
    assert [b.key for b in briefs] == ["shoe"]
    assert len(problems) == 1
    assert name in problems[0].message and says in problems[0].message and "\n" not in problems[0].message


def test_missing_files_and_empty_folders_are_said(shop):
    (shop / "nothing").mkdir()
    briefs, problems = read_briefs([shop / "gone.png", shop / "nothing", "n" * 6000], Path("unused"))
    assert briefs == []
    assert "does not exist" in problems[0].message and "holds no pictures" in problems[1].message
    assert len(problems) == 3


def test_ten_thousand_rows_are_read_quickly_and_keep_distinct_keys(shop):
    table = write(shop / "many.csv", "image\n" + "shoe.png\n" * 10_000)
    briefs, problems = read_briefs([table], Path("unused"))
    assert len({b.key for b in briefs}) == len(briefs) == 10_000
    assert problems == []


@given(st.lists(st.text(max_size=80)))
def test_keys_are_distinct_safe_and_stay_when_others_follow(stems):
    keys = unique_keys(stems)
    assert len({key.casefold() for key in keys}) == len(stems)
    assert all(key and "/" not in key and "\0" not in key and not key.startswith(".") for key in keys)
    assert all(len(key.encode()) <= 70 for key in keys)
    for cut in range(len(stems)):
        assert unique_keys(stems[:cut]) == keys[:cut]


def test_a_key_that_looks_like_another_ones_number():
    assert unique_keys(["shoe", "shoe", "shoe-2", "Shoe"]) == ["shoe", "shoe-2", "shoe-2-2", "shoe-3"]
    assert slug("👟") == "product"
    assert slug("../..//etc/passwd") == "etc-passwd"


@given(st.text())
def test_clean_text_is_one_line_of_utf8(text):
    line = clean(text)
    assert line == " ".join(line.split())
    line.encode("utf-8")


def test_emoji_stay_and_none_is_empty():
    assert clean("Tea 🫖\n for\ttwo") == "Tea 🫖 for two"
    assert clean(None) == ""


def test_a_prompt_is_chosen_by_key_and_seed_alone():
    cup = Brief(key="cup", image=Path("cup.png"), title="blue cup")
    assert choose_prompt(cup, ["a {title} on ice"]) == "a blue cup on ice"
    assert choose_prompt(cup, seed=3) == choose_prompt(cup, seed=3)
    assert choose_prompt(Brief(key="c", image=Path("c.png"), prompt="mine"), ["other"]) == "mine"
    untitled = [choose_prompt(Brief(key=f"k{i}", image=Path("k.png"))) for i in range(100)]
    assert set(untitled) == {setting.replace("{title}", "product") for setting in SETTINGS}


@pytest.mark.parametrize(
    ("title", "says"),
    [
        ("", "a product on ice"),
        ("orange cup", "an orange cup on ice"),
        ("a cup", "a cup on ice"),
        ("The Cup", "a Cup on ice"),
        ("🫖", "a 🫖 on ice"),
        ("an", "an an on ice"),
    ],
)
def test_titles_read_well_in_a_setting(title, says):
    assert with_title("a {title} on ice", title) == says
