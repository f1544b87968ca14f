"""Triplets from InsPix2Pix's folders and Parquet, RewardEdit's JSON and our Parquet."""

import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_editor import save_triplets

from goodeye.edit.rewards import Rewards
from goodeye.edit.triplets import Triplet, check_instruction, read_triplets, usable, write_parquet, write_rewards
from goodeye.errors import BadInput
from goodeye.tables import Skipped


@pytest.fixture
def folder(tmp_path):
    """Three triplets: shard-0/a, b with two pairs, c."""
    return save_triplets(tmp_path / "data", {"shard-0/a": [11], "b": [9, 7], "c": [3]})


def read(source):
    skipped = []
    return list(usable(read_triplets(source), skipped)), skipped


def level(img):
    return int(np.asarray(img)[0, 0, 0])


def test_inspix2pix_folders(folder):
    found, skipped = read(folder)
    assert not skipped and [one.key for one in found] == ["b", "c", "shard-0/a"]
    assert found[0].instruction == "make b blue"
    assert [level(one.original.open()) for one in found] == [7, 3, 11]  # of b's pairs the first by name
    assert [level(one.edited.open()) for one in found] == [107, 103, 111]


def test_seeds_json_says_which_and_in_which_order(folder):
    (folder / "seeds.json").write_text(json.dumps([["shard-0/a", ["11"]], ["b", ["9", "7"]]]))
    found, _ = read(folder)
    assert [(one.key, level(one.original.open())) for one in found] == [("shard-0/a", 11), ("b", 9)]


def test_reward_edits_json_with_missing_entries(folder):
    row = {"Score": 4, "Negative Prompt": "too blue"}
    given = {"b": [row, row, {"Score": None}], "gone": [row] * 3, "c": [row, row], "shard-0/a": [row] * 3}
    (folder / "RewardEdit_20K.json").write_text(json.dumps(given))
    found, skipped = read(folder / "RewardEdit_20K.json")
    assert {one.key: one.rewards.scores for one in found} == {"b": (4, 4, None), "shard-0/a": (4, 4, 4)}
    assert [one.name for one in skipped] == ["gone", "c"]
    assert "there is no folder" in skipped[0].message and "not three rewards" in skipped[1].message


def test_files_that_are_gone_are_named_and_the_rest_goes_on(folder):
    (folder / "b" / "7_1.png").unlink()
    (folder / "b" / "9_0.png").unlink()
    (folder / "c" / "prompt.json").write_text("{")
    found, skipped = read(folder)
    assert [one.key for one in found] == ["shard-0/a"]
    assert skipped[0] == Skipped(
        "b", f"b: {folder / 'b'} has no pair of pictures SEED_0 and SEED_1. Download it again."
    )
    assert "prompt.json is not JSON" in skipped[1].message
    (folder / "c" / "prompt.json").write_text("[]")
    assert "prompt.json is no object of an instruction" in read(folder)[1][1].message


def test_the_clip_filtered_parquet(tmp_path):
    def data(shade):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    (tmp_path / "data").mkdir()
    for part in range(2):
        rows = [
            {
                "original_prompt": "a house",
                "original_image": data(10 * part + at),
                "edit_prompt": f"instruction {part}{at}" if at != 1 else "",
                "edited_prompt": "a house",
                "edited_image": data(100 + 10 * part + at),
            }
            for at in range(3)
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / f"train-{part}.parquet", row_group_size=2)
    found, skipped = read(tmp_path / "data")
    assert [one.instruction for one in found] == [
        "instruction 00",
        "instruction 02",
        "instruction 10",
        "instruction 12",
    ]
    assert [level(one.original.open()) for one in found] == [0, 2, 10, 12]
    assert [level(one.edited.open()) for one in found] == [100, 102, 110, 112]
    assert len({one.key for one in found}) == 4 and len(skipped) == 2
    assert "the instruction is empty" in skipped[0].message
    assert [one.key for one in read(tmp_path)[0]] == [one.key for one in found]  # the folder as the hub has it


def test_our_parquet_keeps_bytes_rewards_and_what_is_missing(folder, tmp_path):
    found, _ = read(folder)
    rewards = [Rewards((4.5, None, 2.0), ("a", "", "b")), Rewards((None,) * 3), Rewards((5.0, 5.0, 0.0))]
    given = [Triplet(**{**vars(one), "rewards": said}) for one, said in zip(found, rewards, strict=True)]
    assert write_parquet(given, tmp_path / "ours.parquet") == []
    again, skipped = read(tmp_path / "ours.parquet")
    assert not skipped and [one.rewards for one in again] == rewards
    assert [(one.key, one.instruction) for one in again] == [(one.key, one.instruction) for one in found]
    assert [one.edited.read() for one in again] == [one.edited.read() for one in found]
    write_rewards(again, folder / "rewards.json")
    assert [one.rewards for one in read(folder)[0]] == rewards  # and rewards.json beside folders is read with them
    shutil.rmtree(folder / "b")
    (lost,) = write_parquet(given, tmp_path / "less.parquet")
    assert lost.name == "b" and "cannot be read" in lost.message
    assert [one.key for one in read(tmp_path / "less.parquet")[0]] == ["c", "shard-0/a"]


def test_transparent_pictures_are_on_white(folder):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(folder / "c" / "3_0.png")
    assert next(one for one in read(folder)[0] if one.key == "c").original.open().getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda at: at / "none", "no folder, Parquet or JSON"),
        (lambda at: at.mkdir() or at, "no folder in it has a prompt.json"),
        (lambda at: at.with_suffix(".json").write_text("[]") and at.with_suffix(".json"), "no object of triplets"),
        (
            lambda at: at.with_suffix(".parquet").write_text("x") and at.with_suffix(".parquet"),
            "not a readable Parquet",
        ),
    ],
)
def test_what_is_no_source_is_told(tmp_path, make, message):
    with pytest.raises(BadInput, match=message):
        read(make(tmp_path / "given"))


def test_a_parquet_without_the_columns_is_told(tmp_path):
    pq.write_table(pa.table({"edit_prompt": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(BadInput, match="no column original_image"):
        read(tmp_path / "a.parquet")


def test_instructions():
    assert check_instruction("  make it \n blue ") == "make it blue"
    with pytest.raises(BadInput, match="the instruction is empty"):
        check_instruction(" \n ")
    with pytest.raises(BadInput, match="has 2000 words"):
        check_instruction("blue " * 2000)


def test_one_triplets_own_folder(folder):
    (found,), _ = read(folder / "c")
    assert found.key == "c" and level(found.original.open()) == 3


def test_names_that_lead_elsewhere_are_refused(folder):
    (folder / "seeds.json").write_text(json.dumps([["../data/b", ["7"]], ["c", ["3"]]]))
    found, skipped = read(folder)
    assert [one.key for one in found] == ["c"] and "leads out of the folder" in skipped[0].message
    write_parquet([Triplet(**{**vars(found[0]), "key": "/tmp/c"})], folder / "bad.parquet")
    assert "leads out of the folder" in read(folder / "bad.parquet")[1][0].message
