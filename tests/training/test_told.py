"""What a run learns from is known by its digest; runs that were begun without one go on."""

import json

from goodeye.training.told import told_data


def begun(folder, about):
    (folder / "checkpoints" / "5").mkdir(parents=True)
    (folder / "checkpoints" / "5" / "state.json").write_text("{}")
    (folder / "config.json").write_text(json.dumps({"about": about}))
    return folder


def test_other_rows_or_pixels_are_another_digest(tmp_path):
    told = [told_data(tmp_path, *rows) for rows in ((["a"],), (["b"],), (["a"], b"1"), (["a"], b"2"), (["a"],))]
    assert all(len(one["data"]) == 12 for one in told) and told[0] == told[4]
    assert len({one["data"] for one in told}) == 4


def test_only_a_run_that_was_begun_without_is_told_nothing(tmp_path):
    before = begun(tmp_path / "before", {"job": "x"})
    assert told_data(before, ["a"]) == {}
    since = begun(tmp_path / "since", {"job": "x", "data": "0"})
    (before / "checkpoints" / "5" / "state.json").unlink()  # no checkpoint: whatever is begun here begins anew
    damaged = begun(tmp_path / "damaged", {})
    (damaged / "config.json").write_text("{")
    assert all("data" in told_data(folder, ["a"]) for folder in (since, before, damaged, tmp_path / "new"))
