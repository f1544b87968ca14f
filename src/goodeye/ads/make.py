"""Product cut-outs in, checked advertising images out: the whole job (`goodeye ads make`).

Every attempt goes to the ledger as it is made. What is in the ledger and in the run's config.json is all that a resumed
run needs, so the process may be killed at any moment.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic

import goodeye
from goodeye.ads.brief import PRODUCTS, read_briefs
from goodeye.ads.calibrate import PROMISE, Calibration
from goodeye.ads.cutout import Remover
from goodeye.ads.early import Rule, Setting
from goodeye.ads.folder import BRIEFS, Begun, Command
from goodeye.ads.maker import Maker, difference, maker_of, retrying, strided
from goodeye.ads.report import grid, write_contact_sheets, write_report
from goodeye.ads.results import AttemptResult, BriefResult, Result, SlotResult, slot_results, why
from goodeye.ads.workshop import Made, Workshop
from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.images import save_png
from goodeye.judging.protocol import Inspector
from goodeye.ledger.begun import place_of, run_of, where_it_goes_on
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import AttemptRow
from goodeye.modelset import GENERATOR, Models, Settings, opened, reference
from goodeye.progress import Advance
from goodeye.progress import progress as show_progress
from goodeye.runfolder import RESULTS, RunFolder, going_on
from goodeye.scheduler import grouped_batches, open_slots, send
from goodeye.tables import Skipped

JOB = "ads"


def make(
    inputs: Sequence[str | Path] = (),
    *,
    title: str | None = None,
    prompt: str | None = None,
    want: int = 4,
    attempts: int = 5,
    models: str | Path | Models = "showroom",
    out: str | Path = "goodeye-ads",
    ledger: str | Path | None = None,
    seed: int = 0,
    batch: int = 16,
    threshold: float | None = None,
    resume: bool = False,
    device: str = "cpu",
    remover: Remover = "saliency",
    inspector: Inspector | None = None,
    early: str | Path | None = None,
    restart: float | None = None,
    restart_times: int = 1,
    restart_stopped: bool = False,
    stride: int | None = None,
    promise: float | None = None,
    promise_file: str | Path = PROMISE,
    retry_models: str | Path | Models | None = None,
    progress: bool = False,
) -> Result:
    """Makes `want` pictures of each product, each with at most `attempts` tries, until the inspector lets them pass.

    inputs: picture files, folders, CSV or Parquet tables (image, title, prompt). models: a model set by name, a TOML
    file, or models already loaded. ledger: a folder or URL (default GOODEYE_LEDGER, else ./goodeye-ledger).
    threshold: the p(available) from which a picture passes (default: the model set's). inspector: instead of the model
    set's RFNet. resume: go on with the run in `out`; nothing else need be given.

    early: the file (or its folder) of a rule by `goodeye.ads.trajectories.calibrate_early`: attempts that will fail are
    stopped on the way. restart: the part of the steps that is run again from a failed picture instead of from noise, at
    most `restart_times` in a row; with restart_stopped also after an attempt that was stopped. stride: so many of the
    sampler's steps at once, until the last 40 % of them (default: the model set's).

    promise: at most this share of the pictures that pass is bad; the threshold is that of `promise_file`, which
    `goodeye.ads.calibrate.calibrate` wrote for the same share, judge and models.

    retry_models: a model set of the same size that makes all but the first attempt of each picture, as one that was
    aligned: what `models` makes well stays as various as it is, and only what fails is made by the surer generator.

    What can't be used is in `Result.problems`, and the others still run. Raises BadInput where nothing can run at all:
    no inputs, a folder that can't be written or holds another run, models that can't be loaded.
    """
    command = Command(
        inputs=tuple(str(Path(item).resolve()) for item in inputs),
        title=title,
        prompt=prompt,
        want=want,
        attempts=attempts,
        models=reference(models),
        seed=seed,
        threshold=threshold,
        remover=remover,
        batch=batch,
        device=device,
        early=None if early is None else str(Path(early).resolve()),
        restart=restart,
        restart_times=restart_times,
        restart_stopped=restart_stopped,
        stride=stride,
        promise=promise,
        promise_file=None if promise is None else str(Path(promise_file).resolve()),
        retry_models=None if retry_models is None else reference(retry_models),
    )
    command.check()
    folder = RunFolder(Path(out))
    if resume and folder.holds_a_run():
        begun = Begun.load(folder)
        begun = replace(begun, command=going_on(begun.command, command))
        studio = _studio(models, begun.command, inspector, retry_models)
        _require_same(folder, studio, begun)
        _require_promise_for(studio, begun.promise, begun.command.promise)
        _require_rule_for(studio, begun.early, begun.threshold)
        config = folder.config()
        with Ledger.open(where_it_goes_on(folder.path, config, ledger), create=False) as book:
            book.resume_run(run_of(book, folder.path, config, JOB).id)
            with book.on_record(begun.run):
                folder.mend_metrics()
                return _run(begun, studio, folder, book, progress)
    if not inputs:
        raise BadInput(f"{out} holds no run to resume. Name the product pictures to make a new one.")
    briefs, problems = read_briefs(inputs, folder.path / PRODUCTS, title, prompt)
    if not briefs:
        return Result(out=folder.path, ledger="", run=None, command=asdict(command), threshold=0.0, problems=problems)
    rule = None if early is None else Rule.load(early)
    made = None if promise is None else Calibration.load(promise_file)
    folder.require_free()
    studio = _studio(models, command, inspector, retry_models)
    _require_promise_for(studio, made, promise)
    passing = made.threshold if made else studio.settings.threshold if threshold is None else threshold
    _require_rule_for(studio, rule, passing)
    with Ledger.open(ledger) as book:
        run = book.start_run(JOB, {**asdict(command), "maker": asdict(studio.maker)}, seed)
        with book.on_record(run):
            begun = Begun(
                run=run,
                ledger=place_of(book),
                command=command,
                threshold=passing,
                briefs=briefs,
                problems=problems,
                early=rule,
                promise=made,
                maker=studio.maker,
                settings=asdict(studio.settings),
            )
            begun.save(folder, goodeye.__version__)
            return _run(begun, studio, folder, book, progress)


@dataclass(frozen=True, kw_only=True)
class _Studio:
    """What makes and what inspects."""

    models: Models
    settings: Settings
    inspector: Inspector
    maker: Maker
    retry_models: Models | None = None


def _studio(
    models: str | Path | Models,
    command: Command,
    inspector: Inspector | None,
    retry_models: str | Path | Models | None,
) -> _Studio:
    """Loads what the run needs now, so that what cannot be loaded is said before the run begins."""
    loaded = opened(command.models if isinstance(models, str | Path) else models, command.device)
    loaded.require(*GENERATOR)
    settings, judge = strided(loaded.model_set.settings, command.stride), inspector or loaded.rfnet
    retry = retrying(loaded, retry_models if isinstance(retry_models, Models) else command.retry_models, command.device)
    maker = maker_of(loaded, settings, judge, retry)
    return _Studio(models=loaded, settings=settings, inspector=judge, maker=maker, retry_models=retry)


def _require_same(folder: RunFolder, studio: _Studio, begun: Begun) -> None:
    """Raises BadInput where the run was begun with another judge, other weights or other settings: one brief would get
    attempts of two generators."""
    if other := difference(begun.maker, studio.maker):
        what, before, now = other
        raise BadInput(
            f"{folder.path} was begun with {what} {before}, and it is {now} now. "
            "Put that back to go on, or name another folder with --out."
        )
    before, now = (json.loads(json.dumps(settings)) for settings in (begun.settings, asdict(studio.settings)))
    if changed := [name for name in now if before.get(name) != now[name]]:
        name = changed[0]
        raise BadInput(
            f"{folder.path} was begun with the setting {name} = {before.get(name)}, and it is {now[name]} now. "
            "Put that back in the model set to go on, or name another folder with --out."
        )


def _require_rule_for(studio: _Studio, rule: Rule | None, threshold: float) -> None:
    """Raises BadInput where the rule was calibrated for another judge, generator or threshold."""
    if rule is not None:
        rule.require(Setting(**asdict(studio.maker), threshold=threshold))


def _require_promise_for(studio: _Studio, made: Calibration | None, share: float | None) -> None:
    """Raises BadInput where the promise is of another share, or for another judge or generator."""
    if made is not None and share is not None:
        made.require(studio.maker, share)


def _run(begun: Begun, studio: _Studio, folder: RunFolder, ledger: Ledger, progress: bool) -> Result:
    """Makes what is left to make, then shows what came of it. However it ends, it can be resumed."""
    shop = Workshop(
        models=studio.models,
        settings=studio.settings,
        inspector=studio.inspector,
        ledger=ledger,
        run=begun.run,
        out=folder.path,
        seed=begun.command.seed,
        threshold=begun.threshold,
        briefs={brief.key: brief for brief in begun.briefs},
        batch=begun.command.batch,
        remover=begun.command.remover,
        early=begun.early,
        restart=begun.command.restart_plan(),
        retry_models=studio.retry_models,
    )
    _produce(shop, begun, folder, progress)
    return _conclude(begun, shop.problems, folder, ledger)


def _produce(shop: Workshop, begun: Begun, folder: RunFolder, progress: bool) -> None:
    made = shop.remember(shop.ledger.attempts(begun.run))
    want, attempts, size = begun.command.want, begun.command.attempts, begun.command.batch
    slots = list(open_slots(shop.briefs, want=want, attempts=attempts, made=made))
    tried, passed, stopped = len(made), sum(one.passed for one in made), sum(one.stopped for one in made)
    with _progress(len(slots), progress) as advance:
        batches = grouped_batches((shop.first(one) for one in shop.ready(slots)), size=size)
        batch, number = next(batches, None), 0
        while batch:
            started, readings = monotonic(), shop.reading_seconds
            done = shop.work(batch)
            answers = [shop.again(one, attempts) if isinstance(one, Made) else one for one in done]
            ended = [one for one in done if isinstance(one, Made)]
            tried, passed = tried + len(ended), passed + sum(one.passed for one in ended)
            stopped += sum(one.outcome.stopped for one in ended)
            number += bool(ended)
            if ended and number & (number - 1) == 0:  # the 1st, 2nd, 4th, 8th, … to look at while it runs
                save_png(grid([one.image for one in ended]), folder.path / "samples" / f"after-{tried:06}-attempts.png")
            seconds = monotonic() - started
            folder.metric(
                attempts=tried,
                passed=passed,
                batch=len(batch),
                seconds=round(seconds, 3),
                attempts_per_second=round(len(ended) / seconds, 3),
                evals=sum(leg.stop - leg.start for leg in batch),
                reading_seconds=round(shop.reading_seconds - readings, 3),
            )
            early = f", {stopped} stopped early" if shop.early else ""
            advance(sum(leg is None for leg in answers), f"{tried} attempts, {passed} passed{early}")
            batch = send(batches, answers)


def _progress(total: int, shown: bool) -> AbstractContextManager[Advance]:
    return show_progress("making ads", total, "pictures") if shown else nullcontext(lambda count=1, note=None: None)


def _conclude(begun: Begun, refused: Mapping[str, Skipped], folder: RunFolder, ledger: Ledger) -> Result:
    """Completes picks and pictures (a kill may have come between), and writes results, sheets and report."""

    def in_full(sha: str) -> Path:
        """Where a picture is: the results are read from anywhere, and a run may end elsewhere than it began."""
        return ledger.image_path(sha).resolve()

    rows: dict[str, list[AttemptRow]] = defaultdict(list)
    for row in ledger.attempts(begun.run):
        rows[row.brief_key].append(row)
    known = {brief.key: brief for brief in ledger.briefs(begun.run)}
    picks = {(pick.brief_id, pick.slot, pick.attempt_id): (pick.kept, pick.why) for pick in ledger.picks(begun.run)}
    briefs = []
    for brief in begun.briefs:
        if not rows[brief.key]:
            continue
        kept = known[brief.key]
        found = BriefResult(
            key=brief.key,
            title=brief.title,
            prompt=kept.content["prompt"],
            source=str(brief.image),
            product=in_full(kept.product_sha) if kept.product_sha else None,
            slots=slot_results(rows[brief.key], begun.threshold, in_full),
        )
        for slot in found.slots:
            for one, reason in _reasons(slot, begun.threshold):
                if picks.get((kept.id, slot.slot, one.id)) != (one is slot.best, reason):
                    ledger.pick(kept.id, slot.slot, one.id, one is slot.best, reason)
            picture = folder.path / found.picture(slot)
            if not picture.exists():
                write_bytes(picture, slot.best.image.read_bytes())
        briefs.append(found)
    result = Result(
        out=folder.path,
        ledger=begun.ledger,
        run=begun.run,
        command=asdict(begun.command),
        threshold=begun.threshold,
        briefs=briefs,
        problems=[*begun.problems, *refused.values()],
        promise=begun.promise,
    )
    if not briefs:  # nothing could be used: the folder is free for the next command
        folder.forget(BRIEFS)
        return result
    folder.write_json(RESULTS, result.as_json())
    write_contact_sheets(result)
    write_report(result)
    return result


def _reasons(slot: SlotResult, threshold: float) -> Iterator[tuple[AttemptResult, str]]:
    for one in slot.attempts:
        best_of = len(slot.attempts) if one is slot.best and not one.passed else 0
        yield one, why(one.passed, one.label, one.available, threshold, best_of)
