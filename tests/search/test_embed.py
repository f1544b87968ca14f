"""Pictures in folders, tables, shards and stored embeddings become an index; what is bad is named and skipped."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_clip import COLOURS, ColourClip, save_picture, units

from goodeye.errors import BadInput
from goodeye.modelset import Models, resolve
from goodeye.search.build import index_pictures, index_stored
from goodeye.search.embed import embed_image, embed_items, embed_text, prepare, split_text
from goodeye.search.index import Index
from goodeye.search.source import count_new, open_named


@pytest.fixture
def folder(tmp_path):
    """Five pictures of one colour each, one with a caption, and three files that are no pictures."""
    for name, colour in COLOURS.items():
        save_picture(tmp_path / "pictures" / "deep" / f"{name}.png", colour)
    (tmp_path / "pictures" / "deep" / "red.txt").write_text("a red\n picture\x00")
    (tmp_path / "pictures" / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    (tmp_path / "pictures" / "empty.png").write_bytes(b"")
    (tmp_path / "pictures" / "notes.md").write_text("no picture, and none that pretends")
    return tmp_path / "pictures"


def vector_of(colour):
    whole = np.array([*(value / 255 for value in colour), 0.2])
    return whole / np.linalg.norm(whole)


def test_a_folder_with_bad_pictures(folder, tmp_path):
    (folder / "gone.png").symlink_to(tmp_path / "was.png")
    built = index_pictures(folder, tmp_path / "i", ColourClip(), "showroom", batch=2)
    assert (built.added, built.known, built.rows) == (5, 0, 5)
    assert [Path(one.name).name for one in built.skipped] == ["broken.jpg", "empty.png", "was.png"]
    assert "3 could not be read" in built.summary()
    index = Index(tmp_path / "i")
    for row in range(5):
        name, caption = index.row(row)
        colour = Path(name).stem
        assert np.allclose(index.vectors[row], vector_of(COLOURS[colour]), atol=1e-5)
        assert caption == ("a red picture" if colour == "red" else "")
        assert open_named(name).getpixel((0, 0)) == COLOURS[colour]


def test_how_many_pictures_are_left_is_known_where_nothing_need_be_read_for_it(folder, tmp_path):
    index_pictures(folder, tmp_path / "i", ColourClip(), "showroom")
    save_picture(folder / "z.png", (1, 200, 1))
    assert count_new(folder, ()) == 8
    assert count_new(folder, set(Index(tmp_path / "i").names())) == 3  # the new one, and two that cannot be read
    assert count_new(tmp_path / "a.csv", ()) is None
    (folder / "a.tar").write_bytes(b"")
    assert count_new(folder, ()) is None


def test_again_adds_only_what_is_new(folder, tmp_path):
    clip = ColourClip()
    index_pictures(folder, tmp_path / "i", clip, "showroom")
    save_picture(folder / "z.png", (1, 200, 1))
    built = index_pictures(folder, tmp_path / "i", clip, "showroom")
    assert (built.added, built.known, built.rows, clip.seen) == (1, 5, 6, 6)  # none embedded twice


def test_stopped_in_the_middle_it_goes_on(folder, tmp_path, monkeypatch):
    clip = ColourClip()
    real, calls = clip.features, []

    def features(pixel_values):
        calls.append(len(pixel_values))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(pixel_values)

    monkeypatch.setattr(clip.model, "get_image_features", features)
    with pytest.raises(KeyboardInterrupt):
        index_pictures(folder, tmp_path / "i", clip, "showroom", batch=2)
    assert len(Index(tmp_path / "i")) == 2
    built = index_pictures(folder, tmp_path / "i", clip, "showroom", batch=2)
    assert (built.added, built.known, built.rows, clip.seen) == (3, 2, 5, 5)


def test_an_index_of_another_model_is_refused(folder, tmp_path):
    index_pictures(folder, tmp_path / "i", ColourClip(), "showroom")
    other = ColourClip()
    other.version = "colour-2"
    with pytest.raises(BadInput, match="made by the CLIP of showroom \\(colour-1\\)"):
        index_pictures(folder, tmp_path / "i", other, "mine.toml")


def png(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_tables_with_paths_and_with_bytes(folder, tmp_path):
    (folder / "list.csv").write_text("image,caption\ndeep/red.png,so red\ndeep/none.png,gone\n,\n")
    built = index_pictures(folder / "list.csv", tmp_path / "csv", ColourClip(), "showroom")
    assert built.rows == 1 and len(built.skipped) == 2
    assert Index(tmp_path / "csv").row(0) == (str(folder / "deep" / "red.png"), "so red")
    table = pa.table({"image": [{"bytes": png("red"), "path": None}, {"bytes": png("blue"), "path": "b.png"}]})
    pq.write_table(table, tmp_path / "two.parquet")
    index_pictures(tmp_path / "two.parquet", tmp_path / "pq", ColourClip(), "showroom")
    index = Index(tmp_path / "pq")
    assert [open_named(index.row(row)[0]).getpixel((0, 0)) for row in range(2)] == [(255, 0, 0), (0, 0, 255)]


def test_webdataset_shards(tmp_path):
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for name, data in {"1.png": png("red"), "1.json": b"{}", "1.txt": b"a red cup", "2.png": png("lime")}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    built = index_pictures(tmp_path / "00000.tar", tmp_path / "i", ColourClip(), "showroom")
    index = Index(tmp_path / "i")
    assert built.rows == 2 and [index.row(row)[1] for row in range(2)] == ["a red cup", ""]
    assert open_named(index.row(1)[0]).getpixel((0, 0)) == (0, 255, 0)
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "1.tar").write_bytes((tmp_path / "00000.tar").read_bytes()[:700])
    assert "not a whole tar" in index_pictures(cut, tmp_path / "j", ColourClip(), "showroom").skipped[0].message


def spoil(path, start, stop):
    """Overwrites a part of a file, which looks as if nothing had happened to it."""
    state, data = path.stat(), bytearray(path.read_bytes())
    data[start:stop] = b"\xff" * (stop - start)
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_a_picture_in_a_table_is_opened_without_what_lies_before_it(tmp_path):
    path, shades = tmp_path / "many.parquet", [(7 * row, 0, 0) for row in range(30)]
    cells = [{"bytes": png(shade), "path": None} for shade in shades]
    pq.write_table(pa.table({"image": cells, "caption": ["x"] * 30}), path, row_group_size=10)
    first = pq.ParquetFile(path).metadata.row_group(0)
    spoil(path, 4, 4 + sum(first.column(number).total_compressed_size for number in range(first.num_columns)))
    for row in (29, 10, 20, 19):
        assert open_named(f"{path}#{row + 1}").getpixel((0, 0)) == shades[row]
    for gone in ("0", "31", "x", "5"):  # the fifth row is damaged
        with pytest.raises(BadInput, match=f"#{gone} is no longer there"):
            open_named(f"{path}#{gone}")
    pq.write_table(pa.table({"caption": ["x"] * 30}), path)
    with pytest.raises(BadInput, match="is no longer there"):
        open_named(f"{path}#1")
    pq.write_table(pa.table({"file_name": [png("lime")] * 2}), path)
    assert open_named(f"{path}#2").getpixel((0, 0)) == (0, 255, 0)  # another table now


def test_a_row_group_too_large_to_be_kept_is_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("goodeye.search.source.KEPT", 0)
    shades = [(2 * row, 0, 0) for row in range(100)]
    pq.write_table(pa.table({"image": [png(shade) for shade in shades]}), tmp_path / "p.parquet", row_group_size=90)
    for row in (0, 63, 64, 89, 90, 99):
        assert open_named(f"{tmp_path / 'p.parquet'}#{row + 1}").getpixel((0, 0)) == shades[row]


def test_a_picture_in_a_tar_is_opened_where_it_lies(tmp_path):
    path = tmp_path / "1.tar"

    def write(mode, colours):
        with tarfile.open(path, mode) as tar:
            for name, colour in colours.items():
                info = tarfile.TarInfo(name)
                info.size = len(png(colour))
                tar.addfile(info, io.BytesIO(png(colour)))

    write("w", {"1.png": "red", "2.png": "lime"})
    assert open_named(f"{path}#1.png").getpixel((0, 0)) == (255, 0, 0)
    spoil(path, 0, 512)  # the first header: from the beginning nothing can be read any more
    assert open_named(f"{path}#2.png").getpixel((0, 0)) == (0, 255, 0)
    write("w:gz", {"2.png": "blue", "3.png": "red"})  # compressed, whatever its name says
    assert open_named(f"{path}#2.png").getpixel((0, 0)) == (0, 0, 255)
    with pytest.raises(BadInput, match="no longer holds 1.png"):
        open_named(f"{path}#1.png")
    path.unlink()
    with pytest.raises(BadInput, match="no longer holds 2.png"):
        open_named(f"{path}#2.png")


def test_sources_that_hold_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.md").write_text("x")
    for source, words in {"none": "does not exist", "empty": "holds no pictures", "notes.md": "no source of"}.items():
        with pytest.raises(BadInput, match=words):
            index_pictures(tmp_path / source, tmp_path / "i", ColourClip(), "showroom")


# Embeddings that are stored already


def stored(tmp_path, vectors, names=None):
    np.save(tmp_path / "e.npy", vectors)
    if names:
        (tmp_path / "names.txt").write_text("\n".join(names) + "\n")
    return tmp_path / "e.npy", tmp_path / "names.txt" if names else None


def test_stored_embeddings_are_taken_as_they_are(tmp_path):
    vectors = units(20, 4)
    path, names = stored(tmp_path, vectors.astype(np.float16), [f"http://x/{row}.jpg" for row in range(20)])
    clip = ColourClip()
    built = index_stored(path, tmp_path / "i", clip, "showroom", names=names)
    assert (built.rows, clip.seen) == (20, 0)
    index = Index(tmp_path / "i")
    assert np.allclose(index.vectors, vectors, atol=1e-3) and index.row(3)[0] == "http://x/3.jpg"
    assert np.allclose(np.linalg.norm(index.vectors, axis=1), 1, atol=1e-6)
    assert index_stored(path, tmp_path / "i", clip, "showroom", names=names).known == 20


def test_stored_embeddings_in_parquet(tmp_path):
    vectors = units(6, 4)
    table = pa.table({"embedding": vectors.tolist(), "url": [f"u{row}" for row in range(6)], "caption": ["c"] * 6})
    pq.write_table(table, tmp_path / "e.parquet")
    index_stored(tmp_path / "e.parquet", tmp_path / "i", ColourClip(), "showroom")
    index = Index(tmp_path / "i")
    assert np.allclose(index.vectors, vectors, atol=1e-6) and index.row(5) == ("u5", "c")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda v: v * 20, "not of length 1"),
        (lambda v: np.where(np.arange(9)[:, None] == 7, np.nan, v), "NaN or infinity in row 7"),
        (lambda v: v[:, :3], "embeddings of 3 numbers, and the index's model gives 4"),
        (lambda v: (v * 100).astype(np.int64), "where embeddings are numbers"),
        (lambda v: v[0], "where embeddings are numbers"),
        (lambda v: v[:8], "names 9 rows, and .* holds 8"),
        (lambda v: v[:0], "holds no embeddings"),
    ],
)
def test_stored_embeddings_that_are_not_right_write_nothing(tmp_path, spoil, words):
    path, names = stored(tmp_path, spoil(units(9, 4)), [str(row) for row in range(9)])
    with pytest.raises(BadInput, match=words):
        index_stored(path, tmp_path / "i", ColourClip(), "showroom", names=names)
    assert not (tmp_path / "i").exists()


def test_names_that_come_twice_and_files_that_are_none(tmp_path):
    path, names = stored(tmp_path, units(2, 4), ["same", "same"])
    with pytest.raises(BadInput, match="names same twice"):
        index_stored(path, tmp_path / "i", ColourClip(), "showroom", names=names)
    (tmp_path / "bad.npy").write_bytes(b"no array")
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    for name in ("bad.npy", "bad.parquet", "names.txt", "none.npy"):
        with pytest.raises(BadInput, match=name):
            index_stored(tmp_path / name, tmp_path / "i", ColourClip(), "showroom")


def test_embeddings_of_another_model_of_the_same_size_are_noticed(folder, tmp_path):
    pictures = sorted((folder / "deep").glob("*.png"))
    names = [str(path) for path in pictures]
    right = np.stack([vector_of(COLOURS[path.stem]) for path in pictures]).astype(np.float32)
    path, listed = stored(tmp_path, right, names)
    assert index_stored(path, tmp_path / "i", ColourClip(), "showroom", names=listed).rows == 5
    path, listed = stored(tmp_path, units(5, 4), names)
    with pytest.raises(BadInput, match="is not what the CLIP of showroom gives"):
        index_stored(path, tmp_path / "j", ColourClip(), "showroom", names=listed)


# Texts


def test_a_long_text_is_read_whole_as_the_mean_of_its_parts():
    clip = ColourClip(limit=5)  # three words at once
    assert split_text("a red cup, a blue cup, a green cup", clip) == ["a red cup", "a blue cup", "a green cup"]
    assert split_text("red red red blue blue blue", clip) == ["red red red", "blue blue blue"]
    vector, parts = embed_text("red red red blue blue blue", clip)
    both = clip.embed_texts(["red", "blue"]).mean(0)
    assert parts == 2 and np.allclose(vector, both / both.norm(), atol=1e-6)
    assert embed_text("a red  cup", clip).parts == 1


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_of_no_pictures_is_refused_and_leaves_no_index(folder, tmp_path, batch):
    with pytest.raises(BadInput, match=f"batch is {batch}"):
        index_pictures(folder, tmp_path / "i", ColourClip(), "showroom", batch=batch)
    with pytest.raises(BadInput, match=f"batch is {batch}"):
        next(embed_items([], ColourClip(), batch=batch))
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize(
    ("text", "words"), [("", "is empty"), (" \n", "is empty"), ("x" * 10_000, "10,000 characters")]
)
def test_queries_that_are_none(text, words):
    with pytest.raises(BadInput, match=words):
        embed_text(text, ColourClip())


def test_the_showrooms_own_clip_embeds_as_its_judge_does(tmp_path):
    """The pipeline's embedding of a picture is the one that `goodeye judge` compares with."""
    clip = Models(resolve("showroom")).clip
    picture = save_picture(tmp_path / "p.png", (200, 40, 40), (128, 128))
    import torch

    from goodeye.images import to_tensor

    judged = clip.embed_images(to_tensor(Image.open(picture))[None])[0].detach().numpy()
    assert np.allclose(embed_image(Image.open(picture), clip), judged, atol=1e-5)
    hidden = Image.new("RGBA", (128, 128), (200, 40, 40, 0))  # transparent: white, whatever colour is under it
    assert torch.allclose(prepare(hidden, clip), prepare(Image.new("RGB", (128, 128), "white"), clip))
    assert json.loads((Path(resolve("showroom").roles["clip"]) / "config.json").read_text())["projection_dim"] == 96


@pytest.mark.parametrize("kind", ["names", "parquet"])
@pytest.mark.parametrize("beside", [True, False])
def test_stored_embeddings_of_pictures_named_from_a_folder_are_not_embedded_again(tmp_path, monkeypatch, kind, beside):
    """Relative names, from the names' own folder or from the working folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    clip = ColourClip()
    names = [
        str(save_picture(tmp_path / "pics" / f"{name}.png", colour).relative_to(tmp_path))
        for name, colour in COLOURS.items()
    ]
    index_pictures(tmp_path / "pics", tmp_path / "first", clip, "showroom", duplicates=0)
    vectors = np.asarray(Index(tmp_path / "first").vectors)[np.argsort(np.argsort(names))]
    where = tmp_path if beside else tmp_path / "elsewhere"
    where.mkdir(exist_ok=True)
    if not beside:
        monkeypatch.chdir(tmp_path)
    if kind == "parquet":
        pq.write_table(pa.table({"image": names, "embedding": list(vectors)}), where / "e.parquet")
        index_stored(where / "e.parquet", tmp_path / "i", clip, "showroom")
    else:
        np.save(where / "e.npy", vectors)
        (where / "names.txt").write_text("\n".join(names))
        index_stored(where / "e.npy", tmp_path / "i", clip, "showroom", names=where / "names.txt")
    built = index_pictures(tmp_path / "pics", tmp_path / "i", clip, "showroom")
    assert (built.added, built.known) == (0, 5)


def test_a_source_that_is_none_leaves_no_index_behind(tmp_path):
    (tmp_path / "empty").mkdir()
    for source in ("nothing", "empty"):
        with pytest.raises(BadInput, match=source):
            index_pictures(tmp_path / source, tmp_path / "i", ColourClip(), "showroom")
    assert not (tmp_path / "i").exists()


def test_of_a_shard_that_is_cut_short_the_whole_pictures_are_taken(tmp_path):
    for number in range(8):
        save_picture(tmp_path / "p" / f"{number}.bmp", (30 * number, 0, 0))
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted((tmp_path / "p").iterdir()):
            tar.add(path, path.name)
    data = (tmp_path / "a.tar").read_bytes()
    each = (tmp_path / "p" / "0.bmp").stat().st_size
    (tmp_path / "cut.tar").write_bytes(data[: 6 * (512 + -(-each // 512) * 512) + 512 + each // 2])
    built = index_pictures(tmp_path / "cut.tar", tmp_path / "i", ColourClip(), "showroom", duplicates=0)
    assert built.added == len(Index(tmp_path / "i")) == 6
    assert [one.name for one in built.skipped] == [str(tmp_path / "cut.tar")]
    assert "not a whole tar" in built.skipped[0].message


@pytest.mark.parametrize("data", [b"no tar at all" * 200, b"\0" * 10240], ids=["junk", "empty"])
def test_a_shard_without_pictures_makes_no_index(data, tmp_path):
    (tmp_path / "1.tar").write_bytes(data)
    with pytest.raises(BadInput, match=r"1\.tar (is not a whole tar|holds no pictures)"):
        index_pictures(tmp_path / "1.tar", tmp_path / "i", ColourClip(), "showroom")
    assert not (tmp_path / "i").exists()
