"""`goodeye search`: training the model itself, and the proof of what each method gains."""

from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from goodeye.cli.common import (
    BAD_INPUT,
    DONE,
    Images,
    Json,
    ModelSet,
    command,
    complain,
    complain_of,
    optional,
    row_of,
    say,
    write_json,
)
from goodeye.cli.search import Head, IndexFolder, ModelName, OwnModels, Rephrase, ServerUrl, search, server_named

Aligning = Literal["dpo", "ipo", "rrhf"]


@command(search, "search align", resume="--resume")
def search_align(
    index: IndexFolder,
    /,
    *,
    out: Path = Path("runs/search-align"),
    captions: Annotated[Path | None, optional("INDEX")] = None,
    queries: Annotated[Path | None, optional("FILE")] = None,
    votes: Annotated[str | None, optional("LEDGER")] = None,
    run: Annotated[tuple[int, ...], arg(metavar="RUN...")] = (),
    images: Images = None,
    count: int = 1000,
    rephrase: Annotated[Rephrase | Literal["none"], arg(metavar="METHOD")] = "lexicon",
    method: Aligning = "dpo",
    train: Literal["full", "lora", "projection"] = "full",
    rows: int = 5,
    columns: int = 5,
    stride: int = 10,
    taste: float = 1.0,
    gain: float = 5.0,
    beta: float = 0.05,
    pretrain: float = 1.0,
    pairs: int = 64,
    queue: int = 1024,
    batch: int = 16,
    accumulate: int = 8,
    steps: int = 650,
    warmup: int = 200,
    lr: float = 5e-5,
    decay: float = 0.9,
    rank: int = 16,
    precision: Literal["fp32", "bf16"] = "fp32",
    evaluate_every: int = 50,
    watched: int = 128,
    guard: bool = True,
    head: Head = None,
    models: OwnModels = None,
    server: ServerUrl = None,
    model: ModelName = None,
    seed: int = 0,
    device: str = "cpu",
    resume: bool = False,
    json: Json = None,
) -> int:
    """Trains an index's model so that it ranks by itself as rephrasing and re-ranking by taste would, or as people do.

    Args:
        index: the folder of the index, with captions and a taste
        out: folder for the model (clip/), checkpoints, metrics.jsonl and samples
        captions: another index of the same model, for the contrastive loss and the guard: of captioned pictures such as
            the model was pretrained on
        queries: a text file with one query a line; without it queries are made, by the large model if one is named
        votes: a ledger: learn which of two answers people chose in `goodeye review`, in the place of queries and grids
        run: of a ledger, only choices between answers of these runs
        count: how many queries are made
        rephrase: how a query is rewritten before its list is searched; none leaves it
        method: ranked DPO, or one of its controls
        train: every weight, low-rank additions, or the projections alone
        rows: of the grid, sequences by beauty
        columns: of the grid, sequences by relevance
        stride: ranks between the pictures of a grid
        taste: beauty's weight in the re-ranker, in standard deviations
        gain: beta / tau of the loss
        beta: for ipo, whose target is 1 / (2 beta)
        pretrain: weight of the contrastive loss on the index's captions; 0 goes without
        pairs: captioned pictures of a batch, for that loss
        queue: past embeddings that enlarge it
        batch: queries at once
        accumulate: batches to a step
        steps: gradient steps in all
        warmup: steps over which the rate rises, a third of all at most
        lr: learning rate
        decay: of the rate from layer to layer towards the input, with --train full; 1 learns at one rate everywhere
        rank: of LoRA
        precision: bf16 for accelerators that have it
        evaluate_every: steps between two looks at the watched captions
        watched: captioned pictures that are looked at and not learned from
        guard: do not look for, nor stop at, recall that falls while beauty rises
        seed: of queries, batches and steps
        device: cpu, cuda, cuda:1, mps
        resume: go on with the run in --out, under the same settings
    """
    from goodeye.errors import BadInput
    from goodeye.judging.large import LargeModel, cache_folder
    from goodeye.search.align import Align, align
    from goodeye.search.ask import Searcher
    from goodeye.search.index import open_index
    from goodeye.search.pseudo import read_queries
    from goodeye.search.voted import read_preferences
    from goodeye.training.processes import own_device

    if votes and queries or run and not votes:
        raise BadInput(
            "--votes bring their own queries, and --run is of a ledger's runs. Give --votes alone, or --run with it."
        )
    config = Align(
        method=method,
        train=train,
        rows=rows,
        columns=columns,
        stride=stride,
        taste=taste,
        gain=gain,
        beta=beta,
        pretrain=pretrain,
        pairs=pairs,
        queue=queue,
        batch=batch,
        accumulate=accumulate,
        steps=steps,
        warmup=warmup,
        lr=lr,
        decay=decay,
        rank=rank,
        precision=precision,
        evaluate_every=evaluate_every,
        watched=watched,
        guard=guard,
        seed=seed,
    )
    config.check()
    named = server_named(server, model)
    searcher = Searcher(index, models=models, head=head, server=named, device=own_device(device))
    notes: list[str] = []
    preferred = read_preferences(votes, images, run) if votes else None
    done = align(
        searcher.index,
        searcher.clip,
        None if votes and searcher.head is None else searcher.weight,
        out,
        captioned=open_index(captions) if captions else None,
        queries=read_queries(queries) if queries else None,
        preferred=preferred.said if preferred else None,
        count=count,
        model=LargeModel(named, cache_folder()) if named else None,
        rewrite=None if rephrase == "none" else lambda query: searcher.rewrite(query, rephrase, None, notes).text,
        config=config,
        resume=resume,
        cpu=device.startswith("cpu"),
    )
    for note in dict.fromkeys(notes):
        complain("goodeye search align", f"{notes.count(note)} queries: {note}")
    if done.left_out:
        why = "of pictures that the index does not have" if preferred else "twice there"
        complain("goodeye search align", f"{done.left_out} {done.learned_from} are {why} or too long for the model.")
    if preferred and preferred.similar:
        say(f"{preferred.similar} times someone found both similar, of which nothing is learned.")
    say(done.summary())
    write_json(json, done.to_json())
    return DONE


@command(search, "search pretrain", resume="--resume")
def search_pretrain(
    sources: Annotated[Positional[tuple[Path, ...]], arg(metavar="FOLDER|TABLE|TAR...")],
    /,
    *,
    out: Path = Path("runs/search-pretrain"),
    models: ModelSet = "showroom",
    fresh: bool = False,
    steps: int = 2000,
    batch: int = 64,
    accumulate: int = 1,
    queue: int = 4096,
    settled: Annotated[int | None, optional("STEP")] = None,
    lr: Annotated[float | None, optional("RATE")] = None,
    warmup: int = 100,
    held: int = 256,
    evaluate_every: int = 100,
    precision: Literal["fp32", "bf16"] = "fp32",
    workers: int = 4,
    seed: int = 0,
    device: str = "cpu",
    resume: bool = False,
    json: Json = None,
) -> int:
    """Trains a model set's CLIP on captioned pictures, by the contrastive loss with a queue.

    Args:
        sources: folders, tables or WebDataset .tars of pictures with captions, as for `goodeye search index`
        out: folder for the model (clip/), checkpoints and metrics.jsonl
        fresh: begin with random weights
        steps: gradient steps in all
        batch: pictures at once
        accumulate: batches to a step
        queue: past embeddings that enlarge the contrast
        settled: the step from which the queue is used; 400 with --fresh, else 0, if not given
        lr: learning rate; 5e-4 with --fresh, else 1e-5, if not given
        warmup: steps over which the rate rises, a third of all at most
        held: pictures kept back to measure recall on, a fifth of all at most
        evaluate_every: steps between two measurements
        precision: bf16 for accelerators that have it
        workers: threads that open pictures
        seed: of batches and of fresh weights
        device: cpu, cuda, cuda:1, mps
        resume: go on with the run in --out, under the same settings
    """
    from goodeye.search.ask import load_clip
    from goodeye.search.pretrain import Pretrain, pretrain
    from goodeye.training.processes import own_device

    config = Pretrain(
        fresh=fresh,
        steps=steps,
        batch=batch,
        accumulate=accumulate,
        queue=queue,
        settled=settled,
        lr=lr,
        warmup=warmup,
        held=held,
        evaluate_every=evaluate_every,
        precision=precision,
        seed=seed,
    )
    config.check()
    clip = load_clip(models, own_device(device))
    done = pretrain(sources, clip, out, config=config, workers=workers, resume=resume, cpu=device.startswith("cpu"))
    complain_of("goodeye search pretrain", done.skipped, "--json FILE names all of them")
    say(done.summary())
    write_json(json, done.to_json())
    return BAD_INPUT if done.skipped else DONE


@command(search, "search prove", resume=" ")
def search_prove(
    *,
    n: int = 320,
    seed: int = 0,
    models: ModelSet = "showroom",
    row: Annotated[UseAppendAction[tuple[str, ...]], optional("NAME=FOLDER")] = (),
    retrain: bool = False,
    rows: Annotated[tuple[Aligning, ...], optional("METHOD...")] = ("rrhf", "ipo", "dpo"),
    steps: Annotated[int | None, optional("STEPS")] = None,
    lr: Annotated[float | None, optional("RATE")] = None,
    gain: Annotated[float | None, optional("GAIN")] = None,
    pretrain: Annotated[float | None, optional("WEIGHT")] = None,
    taste: float = 0.5,
    taught: int = 240,
    plain: int = 16000,
    captions: int = 1600,
    server: ServerUrl = None,
    model: ModelName = None,
    out: Path = Path("goodeye-search-proof"),
    device: str = "cpu",
    json: Json = None,
) -> int:
    """Measures every way to rank on unseen pictures of the showroom, side by side, by people who vote on rows of five.

    Args:
        n: how many queries
        seed: another seed, other pictures and people
        row: a row more, of what `goodeye search align` trained; or in place of the shipped model of that name
        retrain: train the aligned rows first, on pictures that are not proved on
        rows: with --retrain, which of them
        steps: with --retrain, gradient steps of each, if not as the shipped rows are trained
        lr: with --retrain, their learning rate, likewise
        gain: with --retrain, beta / tau of their loss, likewise
        pretrain: with --retrain, weight of the contrastive loss, likewise
        taste: beauty's weight in the rows that have one
        taught: contents that taste and rows learn from, ten pictures each
        plain: with --retrain, captioned scenes for the contrastive loss
        captions: captioned scenes on which recall is measured
        server: an OpenAI-compatible server that rephrases; fixed rules stand in for one if not given
        out: folder for pictures, indexes, results.json and report.html; what is there already is not made again
        device: cpu, cuda, cuda:1, mps
    """
    from dataclasses import replace

    from goodeye.judging.large import LargeModel, cache_folder
    from goodeye.modelset import SHOWROOM
    from goodeye.search.ask import load_clip
    from goodeye.search.prove import ALIGNED, Prove, prove
    from goodeye.search.prove_report import table
    from goodeye.showroom.search_world import ground

    shipped = {name: SHOWROOM / "search" / name for name in ALIGNED if models == "showroom" and not retrain}
    rows_there = {name: folder for name, folder in shipped.items() if folder.is_dir()} | dict(map(row_of, row))
    config = Prove(seed=seed, taste=taste)
    asked: dict[str, Any] = {"steps": steps, "lr": lr, "gain": gain, "pretrain": pretrain}
    train = replace(config.train, **{name: value for name, value in asked.items() if value is not None})
    config = replace(config, train=train)
    config.check()
    made = ground(out / "world", seed=seed, queries=n, taught=taught, recall=captions, plain=plain if retrain else 0)
    named = server_named(server, model)
    proof = prove(
        replace(made, answers=LargeModel(named, cache_folder())) if named else made,
        clip=load_clip(models, device),
        aligned=rows_there,
        retrain=rows if retrain else (),
        config=config,
        models=models,
        out=out,
    )
    say(table(proof.numbers))
    say(f"Report: {proof.report}")
    write_json(json, proof.numbers)
    return DONE
