"""`goodeye search`: pictures that are right and beautiful."""

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from goodeye.cli.common import (
    BAD_INPUT,
    DONE,
    FAILED,
    Images,
    Json,
    ModelSet,
    app,
    command,
    complain,
    complain_of,
    optional,
    say,
    write_json,
)

if TYPE_CHECKING:
    from goodeye.judging.large import Server

search = SubcommandApp()
app.command(search, name="search", help="Pictures that are right and beautiful.")

IndexFolder = Annotated[Positional[Path], arg(metavar="INDEX")]
OwnModels = Annotated[str | None, optional("SET", "the model set, if not the one that the index was made by")]
Head = Annotated[Path | None, optional("FILE", "an aesthetic head, if not the index's own")]
ServerUrl = Annotated[str | None, optional("URL", "an OpenAI-compatible server; GOODEYE_SERVER if not given")]
JudgeUrl = Annotated[
    str | None,
    optional("URL", "an OpenAI-compatible server: its large model chooses, in both orders, and no model set"),
]
ModelName = Annotated[str | None, optional("NAME", "its large model; GOODEYE_MODEL if not given")]
Rephrase = Literal["detail", "k_list", "kw_dict", "reorg", "repeat", "lexicon"]
Lexicon = Annotated[Path | None, optional("FILE", "phrases for the method lexicon, one a line")]


@command(search, "search index", resume=" ")
def search_index(
    source: Annotated[Positional[Path], arg(metavar="FOLDER|TABLE|TAR|NPY")],
    /,
    *,
    out: Annotated[Path, arg(metavar="INDEX")],
    models: ModelSet = "showroom",
    embeddings: bool = False,
    names: Annotated[Path | None, optional("FILE")] = None,
    duplicates: Annotated[float | None, optional("COSINE")] = None,
    batch: int = 64,
    workers: int = 4,
    device: str = "cpu",
    json: Json = None,
) -> int:
    """Makes an index of pictures, or adds to it those that it lacks; the same line goes on where it was stopped.

    Args:
        source: a folder of pictures, a CSV or Parquet table, a WebDataset .tar, or stored embeddings
        out: the folder of the index
        embeddings: the source holds embeddings that the model set's CLIP has made: .npy, or Parquet
        names: the pictures of stored embeddings: a text file with one a line, or a table
        duplicates: cosine from which two pictures are near-duplicates, 0 for none; the index's own, or 0.97 for a new
            one, if not given
        batch: pictures embedded at once
        workers: threads that open pictures
        device: cpu, cuda, cuda:1, mps
    """
    from goodeye.search.ask import load_clip, set_name
    from goodeye.search.build import index_pictures, index_stored

    clip, name = load_clip(models, device), set_name(models)
    if embeddings or source.suffix.lower() == ".npy":
        built = index_stored(source, out, clip, name, names=names, duplicates=duplicates)
    else:
        built = index_pictures(source, out, clip, name, batch=batch, workers=workers, duplicates=duplicates)
    complain_of("goodeye search index", built.skipped, "--json FILE names all of them")
    say(built.summary())
    write_json(json, {**vars(built), "folder": str(built.folder), "skipped": list(map(vars, built.skipped))})
    return BAD_INPUT if built.skipped else DONE


@command(search, "search remove")
def search_remove(
    index: IndexFolder,
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME...")],
    /,
) -> int:
    """Takes pictures out of an index, without making it anew.

    Args:
        index: the folder of the index
        names: the pictures' names, as the index gives them, or their paths
    """
    from goodeye.search.build import remove

    count, missing = remove(index, names)
    for name in missing:
        complain("goodeye search remove", f"{name} is not in {index}. Name it as `goodeye search query` does.")
    say(f"{count} pictures removed.")
    return BAD_INPUT if missing else DONE


@command(search, "search query")
def search_query(
    index: IndexFolder,
    query: Annotated[Positional[str], arg(metavar="TEXT|IMAGE")],
    /,
    *,
    k: Annotated[int, arg(aliases=["-k"])] = 20,
    taste: Annotated[float | None, optional("T")] = None,
    avoid: Annotated[tuple[str, ...], arg(name="not", metavar="TEXT...", help_behavior_hint="")] = (),
    rephrase: Annotated[Rephrase | None, optional("METHOD")] = None,
    lexicon: Lexicon = None,
    cutoff: float = 0.6,
    all: bool = False,
    head: Head = None,
    models: OwnModels = None,
    server: ServerUrl = None,
    model: ModelName = None,
    sheet: Annotated[Path | None, optional("FILE")] = None,
    device: str = "cpu",
    json: Json = None,
) -> int:
    """Finds the pictures that fit a text or look like a picture, weighed by taste.

    Args:
        index: the folder of the index
        query: what the pictures shall show, or a picture file
        k: at most so many pictures
        taste: weight of beauty, 0 or negative if you like; .3 if the index has a taste, else 0
        avoid: texts to keep away from
        rephrase: rewrite the text first: detail, k_list, kw_dict, reorg (by a large model), repeat, lexicon
        cutoff: how much of the best picture's lead over the middle of the index a picture needs; 0 keeps all
        all: show near-duplicates, too, not only the best of each group
        sheet: write a contact sheet there, as PNG
        device: cpu, cuda, cuda:1, mps
    """
    from goodeye.search.ask import Searcher
    from goodeye.search.query import Weights
    from goodeye.search.sheet import write_sheet

    searcher = Searcher(index, models=models, head=head, server=server_named(server, model), device=device)
    answer = searcher.ask(
        query,
        k=k,
        weights=Weights(taste=searcher.usual_taste if taste is None else taste, cutoff=cutoff),
        avoid=avoid,
        method=rephrase,
        lexicon=lexicon,
        groups=not all,
    )
    for note in answer.notes:
        complain("goodeye search query", note)
    if answer.rephrased:
        say(f"Rewritten by {rephrase}: {answer.read}")
    for place, hit in enumerate(answer.found.hits, start=1):
        beauty = f"  beauty {hit.beauty:.2f}" if hit.beauty is not None else ""
        alike = f"  best of {hit.alike} alike" if hit.alike > 1 and not all else ""
        say(f"{place:3}  {hit.similarity:.3f}{beauty}  {hit.name}{alike}")
    if not answer.found.hits:
        complain("goodeye search query", f"nothing in {index} is relevant enough. Ask for more with a lower --cutoff.")
    if sheet is not None:
        write_sheet(answer.found.hits, answer.read, sheet)
    write_json(json, answer.to_json())
    return FAILED if answer.failure else DONE


@command(search, "search rephrase")
def search_rephrase(
    index: IndexFolder,
    query: Annotated[Positional[str], arg(metavar="TEXT")],
    /,
    *,
    method: Annotated[Rephrase, arg(metavar="METHOD")] = "lexicon",
    lexicon: Lexicon = None,
    head: Head = None,
    models: OwnModels = None,
    server: ServerUrl = None,
    model: ModelName = None,
    device: str = "cpu",
) -> int:
    """Rewrites a query for an index and prints it, to look at, change and search with.

    Args:
        index: the folder of the index
        query: what the pictures shall show
        method: detail, k_list, kw_dict, reorg (by a large model), repeat, lexicon
        device: cpu, cuda, cuda:1, mps
    """
    from goodeye.search.ask import Searcher

    searcher = Searcher(index, models=models, head=head, server=server_named(server, model), device=device)
    notes: list[str] = []
    made = searcher.rewrite(query, method, lexicon, notes)
    say(made.text)
    for note in notes:
        complain("goodeye search rephrase", note)
    return FAILED if made.failure else DONE


@command(search, "search fit-taste")
def search_fit_taste(
    index: IndexFolder,
    table: Annotated[Positional[str], arg(metavar="TABLE")],
    /,
    *,
    column: Annotated[str, optional("NAME")] = "",
    images: Images = None,
    out: Annotated[Path | None, optional("FILE")] = None,
    json: Json = None,
) -> int:
    """Learns what is beautiful from scores or votes of pictures in an index, for whatever model made it.

    Args:
        index: the folder of the index
        table: CSV or Parquet with image and score, or image, up and down; or a ledger with comparisons
        column: the column of the scores, if it is not score
        out: write the head to this .safetensors file rather than into the index
    """
    from goodeye.search.taste import fit_taste

    fitted = fit_taste(index, table, column=column, out=out, images=images)
    say(
        f"{fitted.path}: learned from {fitted.count} pictures; rank correlation with those left out {fitted.rank}, "
        f"{100 * fitted.explained:.0f} % of the variance."
    )
    if fitted.missing:
        complain("goodeye search fit-taste", f"{len(fitted.missing)} pictures of {table} are not in {index}.")
    if fitted.unvoted:
        complain("goodeye search fit-taste", f"{fitted.unvoted} pictures have no vote, so nothing is learned of them.")
    write_json(json, fitted.to_json())
    return BAD_INPUT if fitted.missing else DONE


@command(search, "search hpir")
def search_hpir(
    benchmark: Annotated[Positional[Path], arg(metavar="FILE")],
    /,
    *,
    models: ModelSet = "showroom",
    head: Annotated[Path | None, optional("FILE")] = None,
    taste: float = 0.0,
    server: JudgeUrl = None,
    model: ModelName = None,
    device: str = "cpu",
    json: Json = None,
) -> int:
    """Measures how a model's choices between rows of pictures agree with people's votes.

    Args:
        benchmark: JSON list of queries with two groups of pictures and the votes on both
        head: an aesthetic head
        taste: its weight, as in `goodeye search query`
        device: cpu, cuda, cuda:1, mps
    """
    from goodeye.errors import BadInput
    from goodeye.search.ask import load_clip
    from goodeye.search.benchmark import measure_hpir

    if named := server_named(server, model):
        if head is not None or taste:
            raise BadInput("a large model takes no head and no taste. Leave --head and --taste away, or --server.")
        return _hpir_by_large(benchmark, named, json)
    found = measure_hpir(benchmark, load_clip(models, device), head=head, taste=taste)
    complain_of("goodeye search hpir", found.skipped, "--json FILE names all of them")
    for axis, interval in found.agreement.measured.items():
        say(f"{axis}: {interval}, {found.agreement.count} queries, {found.agreement.even[axis]} of them even")
    write_json(json, {**found.agreement.to_json(), "skipped": list(map(vars, found.skipped))})
    return BAD_INPUT if found.skipped else DONE


def _hpir_by_large(benchmark: Path, server: "Server", json: Path | None) -> int:
    from goodeye.judging.large import LargeModel, cache_folder
    from goodeye.search.benchmark import judge_hpir

    found = judge_hpir(benchmark, LargeModel(server, cache_folder()))
    complain_of("goodeye search hpir", found.skipped, "--json FILE names all of them")
    for one in found.failures:
        complain("goodeye search hpir", one)
    for axis, told in found.accuracy.items():
        say(f"{axis}: right {told.consistent} where both orders agree, which covers {told.coverage}")
        say(f"  on all {told.on_all}; weighed by people's votes, as a model set's CLIP is, {told.weighted}")
        say(f"  {told.answered} queries, {told.missing} without an answer, {found.even[axis]} with even votes left out")
    write_json(json, found.to_json())
    return BAD_INPUT if found.skipped or found.failures else DONE


@command(search, "search recall")
def search_recall(
    captions: Annotated[Positional[Path], arg(metavar="FILE")],
    /,
    *,
    images: Annotated[Path | None, optional("FOLDER")] = None,
    split: Annotated[str, optional("NAME")] = "",
    models: ModelSet = "showroom",
    batch: int = 64,
    workers: int = 4,
    device: str = "cpu",
    json: Json = None,
) -> int:
    """Measures retrieval recall on captioned pictures, both ways.

    Args:
        captions: COCO's captions JSON, Karpathy's JSON, Flickr30K's .token file, or a table with image and caption
        images: the folder of the pictures, if not the file's own
        split: of a file with splits, the one to use
        batch: pictures embedded at once
        workers: threads that open pictures
        device: cpu, cuda, cuda:1, mps
    """
    from goodeye.search.ask import load_clip
    from goodeye.search.recall import load_captions, measure

    found = measure(load_captions(captions, images, split), load_clip(models, device), batch=batch, workers=workers)
    complain_of("goodeye search recall", found.skipped, "--json FILE names all of them")
    for way, at in (("text to image", found.text_to_image), ("image to text", found.image_to_text)):
        say(f"{way}: " + ", ".join(f"recall@{k} {interval}" for k, interval in at.items()))
    say(f"{found.images} pictures, {found.texts} captions")
    write_json(json, found.to_json())
    return BAD_INPUT if found.skipped else DONE


@command(search, "search compare", resume=" ")
def search_compare(
    ours: Annotated[Positional[Path], arg(metavar="OURS")],
    theirs: Annotated[Positional[Path], arg(metavar="THEIRS")],
    /,
    *,
    method: Literal["ranker", "scorer", "cp-scorer"] = "ranker",
    shown: int = 5,
    server: ServerUrl = None,
    model: ModelName = None,
    json: Json = None,
) -> int:
    """Has a large model compare two systems' answers to the same queries, in both orders.

    Args:
        ours: answers of `goodeye search query --json`: one, or a JSON list of them
        theirs: the other system's, to the same queries
        method: ranker chooses a row; scorer marks each row alone; cp-scorer marks both side by side
        shown: pictures of each answer that are shown
    """
    from goodeye.judging.large import LargeModel, cache_folder, server_from
    from goodeye.search.benchmark import compare_answers

    found = compare_answers(ours, theirs, LargeModel(server_from(server, model), cache_folder()), method, shown)
    complain_of("goodeye search compare", found.skipped, "--json FILE names all of them")
    for one in found.failures:
        complain("goodeye search compare", one)
    for axis, wins in found.wins.items():
        counts = ", ".join(f"{name} {count}" for name, count in wins.counts.items())
        rates = f"win {wins.win}, win and similar {wins.win_and_similar}"
        orders = "" if isnan(wins.consistent.mean) else f", consistent {wins.consistent}"
        say(f"{axis}: {counts}; {rates}{orders}")
    write_json(json, found.to_json())
    return BAD_INPUT if found.skipped or found.failures else DONE


def server_named(url: str | None, model: str | None) -> "Server | None":
    """The server named on the line; None leaves it to the environment, if one is needed at all."""
    if url is None and model is None:
        return None
    from goodeye.judging.large import server_from

    return server_from(url, model)
