"""Files that grow by lines: what a kill tears off is left out, and what cannot be written is said in one line."""

import json

import pytest

from goodeye.atomic import append, mend, read_rows, require_writable, whole_folder
from goodeye.errors import BadInput


def test_rows_come_back_in_order_whatever_is_in_them(tmp_path):
    file = tmp_path / "new" / "rows.jsonl"
    rows = [{"n": 0.1}, {"text": "two\nlines \u2028 and é"}, {"none": None}]
    append(file, rows[0])
    append(file, *rows[1:])
    assert read_rows(file) == rows and [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]] == rows
    assert read_rows(tmp_path / "absent.jsonl") == []


def test_a_torn_last_line_is_left_out_and_cut_off(tmp_path):
    file = tmp_path / "rows.jsonl"
    append(file, {"n": 1}, {"n": 2})
    whole = file.read_bytes()
    for torn in (b'{"n": 3', b"{"):
        file.write_bytes(whole + torn)
        assert read_rows(file) == [{"n": 1}, {"n": 2}]
    mend(file)
    append(file, {"n": 3})
    assert read_rows(file) == [{"n": 1}, {"n": 2}, {"n": 3}]
    before = file.stat().st_mtime_ns
    mend(file)
    mend(tmp_path / "absent.jsonl")
    assert file.stat().st_mtime_ns == before and not (tmp_path / "absent.jsonl").exists()
    file.write_bytes(b"no json\n")
    with pytest.raises(ValueError, match="Expecting value"):
        read_rows(file)


def test_what_cannot_be_written_is_said_before_and_what_can_is_left_as_it_was(tmp_path):
    require_writable(tmp_path / "new" / "scores.json")
    assert list(tmp_path.rglob("*")) == [tmp_path / "new"]
    (tmp_path / "file").write_text("kept")
    require_writable(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
    for place in (tmp_path, tmp_path / "file" / "below.json", "/proc/scores.json"):
        with pytest.raises(BadInput, match=f"^{place} cannot be written: .+\\. Choose a folder"):
            require_writable(place)


def test_a_full_disk_is_said_in_one_line():
    with pytest.raises(BadInput, match=r"^/dev/full cannot be written: No space left on device\. Make room"):
        append("/dev/full", {"n": 1})


def test_a_folder_is_whole_or_as_it_was(tmp_path):
    place = tmp_path / "new" / "best"
    for words in ("one", "two"):
        with whole_folder(place) as partial:
            assert partial != place and list(partial.iterdir()) == []
            (partial / words).write_text(words)
    assert [file.name for file in place.iterdir()] == ["two"] and list(place.parent.iterdir()) == [place]
    with pytest.raises(KeyboardInterrupt), whole_folder(place) as partial:
        (partial / "three").write_text("half")
        raise KeyboardInterrupt
    assert [file.name for file in place.iterdir()] == ["two"]
    (tmp_path / "file").write_text("")
    message = r"below cannot be written: Not a directory\. Make room or choose another folder, then go on with --resume"
    with pytest.raises(BadInput, match=message), whole_folder(tmp_path / "file" / "below"):
        pass
