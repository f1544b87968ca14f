"""The generator learns from its inspector: the whole job (`goodeye ads align`).

Reward feedback fine-tuning (ads paper, section 3.3) and its baselines ReFL and DPO, on the ControlNet or by LoRA. A run
folder holds config.json, metrics.jsonl, checkpoints/, samples/, report.html, and what was trained: controlnet/ or
lora/, which load with diffusers and peft alone.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from goodeye.ads.adapt import Trained, adapt
from goodeye.ads.align_report import write_report
from goodeye.ads.brief import PRODUCTS, Brief, choose_prompt, read_briefs
from goodeye.ads.canvas import place
from goodeye.ads.cutout import Remover, cut_out
from goodeye.ads.pairs import PreferenceStep, batches_of, make_pairs
from goodeye.ads.rfft import Draws, RewardStep, Vanished, require_reward
from goodeye.ads.rollout import Placed, Reward, Studio
from goodeye.ads.settings import Align, AuxGrad
from goodeye.ads.watch import Watch
from goodeye.errors import BadInput
from goodeye.images import open_image
from goodeye.judging.protocol import Judge, fingerprint
from goodeye.modelset import GENERATOR, Models, opened, reference
from goodeye.progress import track
from goodeye.tables import Skipped
from goodeye.training.guard import Guard, Limits
from goodeye.training.loop import Data, Modules, Result, StepFn, fit, read_metrics, shuffled
from goodeye.training.processes import is_cpu, is_main, main_process_first, of_processes, own_device

PLACED = 256  # briefs of files that stay placed; others are placed again
SMALL = 10_000_000  # parameters; below, a network learns at the larger of the two rates
RATES = {"controlnet": 1e-5, "lora": 1e-4}  # 1e-5: a third party's reading of the paper; LoRA's is diffusers' usual one
SMALL_RATE = 3e-4


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """What came of it. weights: the folder that was trained. best: the step that the guard found best. stopped: why
    the run ended before its steps were done, "" if it did not. failed: whether that is a reason to distrust it."""

    out: Path
    weights: Path
    report: Path
    steps: int
    seconds: float
    last: dict[str, float]
    best: int | None = None
    stopped: str = ""
    failed: bool = False
    problems: list[Skipped] = field(default_factory=list)

    def summary(self) -> str:
        """What a terminal shows."""
        lines = [f"{self.steps} steps in {self.seconds:.0f} s"]
        if self.stopped:
            lines.append(f"stopped: {self.stopped}")
        for name in ("trained", "held_out", "diversity", "fidelity", "available", "preferred"):
            if name in self.last:
                lines.append(f"{name.replace('_', ' ')}: {self.last[name]:.3f}")
        return "\n".join([*lines, f"weights: {self.weights}", f"report: {self.report}"])

    def as_json(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        places = {name: str(getattr(self, name)) for name in ("out", "weights", "report")}
        plain = {name: getattr(self, name) for name in ("steps", "seconds", "last", "best", "stopped", "failed")}
        return places | plain | {"problems": [asdict(one) for one in self.problems]}


def align(
    inputs: Sequence[str | Path] = (),
    *,
    briefs: Sequence[Placed] = (),
    config: Align | None = None,
    models: str | Path | Models = "showroom",
    out: str | Path = "runs/align",
    title: str | None = None,
    prompt: str | None = None,
    remover: Remover = "saliency",
    reward: Reward | None = None,
    held_out: Judge | str | Path | None = None,
    limits: Limits | None = None,
    device: str = "cpu",
    resume: bool = False,
) -> Aligned:
    """Trains the model set's generator so that the inspector passes more of what it makes.

    inputs: picture files, folders, CSV or Parquet tables (image, title, prompt), as for `make`; or briefs: products on
    their canvas, of the model set's size. reward: the judge to train against, instead of the model set's RFNet.
    held_out: the guard's judge, by its main axis, or the folder of an RFNet; the model set's CLIP if not given. limits:
    when the guard stops. Models that are given loaded are trained in place.

    Several processes (accelerate launch) each take batches of their own. Raises BadInput where nothing can be trained,
    NoReward where the judge gives no number or DPO finds no pair, Diverged where the loss is not finite; the run folder
    then goes on with `resume`.
    """
    config = config or Align()
    config.check()
    where, cpu = own_device(device), is_cpu(device)
    loaded = _models(models, where)
    settings = loaded.model_set.settings
    if config.method == "dpo":
        config.dpo().check()
    else:
        config.rfft().check(settings.steps, settings.guidance_scale)
    problems: list[Skipped] = []
    if not briefs:
        briefs, problems = _placed(inputs, loaded, title, prompt, remover, config.seed, Path(out) / PRODUCTS)
    if (side := briefs[0].canvas.product.shape[-1]) != settings.size:
        raise BadInput(f"the briefs' canvas has {side} pixels, and {loaded.model_set.name} has {settings.size}.")
    if config.guard and len(briefs) < 2:
        raise BadInput("there is one brief, and the guard compares two or more. Give more products, or --no-guard.")
    judge = reward or _inspector(loaded, config.aux_grad)
    if not judge.differentiable and config.method != "dpo":
        raise BadInput("the judge gives no gradient, so it can only choose between pictures. Use the method dpo.")
    studio = Studio(loaded, settings)
    other = _rfnet(Path(held_out), loaded) if isinstance(held_out, str | Path) else held_out
    run = _Run(config=config, out=Path(out), studio=studio, judge=judge, held_out=other, briefs=briefs, cpu=cpu)
    result, stopped = run.fit(limits, resume, reference(models))
    return run.conclude(result, stopped, problems)


@dataclass(kw_only=True)
class _Run:
    """One call of `align`: what it works with."""

    config: Align
    out: Path
    studio: Studio
    judge: Reward
    held_out: Judge | None
    briefs: Sequence[Placed]
    cpu: bool
    trained: Trained = field(init=False)

    def __post_init__(self) -> None:
        models = self.studio.models
        learns = models.controlnet if self.config.train == "controlnet" else models.unet
        self.generator = fingerprint(models.unet, models.controlnet, models.vae)
        weights = sum(one.numel() for one in learns.parameters())
        self.lr = self.config.lr or (SMALL_RATE if weights < SMALL else RATES[self.config.train])
        self.trained = adapt(models, self.config.train, self.config.rank)
        frozen = (models.unet, models.vae, *([models.controlnet] if self.config.train == "lora" else []))
        for network in frozen:
            network.to(memory_format=torch.channels_last)  # convolutions on a CPU take about two thirds of the time so
        count = len(self.briefs)
        apart = count >= 4 * self.config.watched  # enough for the guard to have briefs of its own
        self.seen = [self.briefs[number] for number in range(max(0, count - self.config.watched), count)]
        self.learnt = count - len(self.seen) if apart else count
        self.watch = Watch(self.studio, self.judge, self.seen, seed=self.config.seed, held_out=self.held_out)

    def fit(self, limits: Limits | None, resume: bool, models: str) -> tuple[Result | None, Vanished | None]:
        """Trains; gives the loop's result, or why the reward vanished."""
        watch = self.watch
        guard = Guard(watch.look, self.out / "samples", limits) if self.config.guard else None
        if guard is None and is_main(self.cpu) and not (self.out / "samples" / f"{0:08}.png").exists():
            watch.evaluate(0, self.out / "samples")
        step, data = self._preferences() if self.config.method == "dpo" else self._rewards()
        try:
            result = fit(
                self.trained.modules,
                step,
                data,
                self.config.loop(self.lr),
                self.out,
                about=self._about(models),
                evaluate=None if guard else lambda number: watch.evaluate(number, self.out / "samples"),
                guard=guard,
                together=self.config.reuse if self.config.method != "dpo" else 1,
                resume=resume,
                cpu=self.cpu,
                label=f"aligning by {self.config.method}",
            )
        except Vanished as vanished:
            return None, vanished
        return result, None

    def _rewards(self) -> tuple[StepFn, Data]:
        config, rfft = self.config, self.config.rfft()
        steps = len(self.studio.schedule)
        draws = Draws(
            keys=[self.briefs[number].key for number in range(self.learnt)],
            order=self._order(self.learnt),
            steps=steps,
            last=rfft.last_of(steps),
            reuse=rfft.reuse,
            slots=config.accumulate * of_processes(self.cpu)[0],
            seed=config.seed,
        )
        step = RewardStep(self.studio, self.judge, self.trained, self.briefs, rfft)
        pictures = config.batch * draws.slots
        window, first = config.evaluate_every, -1  # the first step of this call: only whole windows of it are judged

        def watched(modules: Modules, batch: Any, number: int) -> Any:
            """The step; before it, where a window has ended, whether the reward still says anything."""
            nonlocal first
            first = number if first < 0 else first
            if number % window == 0 and number - window >= first:
                require_reward(read_metrics(self.out), number, window, pictures)
            return step(modules, batch, number)

        return watched, draws

    def _preferences(self) -> tuple[StepFn, Data]:
        with main_process_first(self.cpu):
            pairs = make_pairs(
                self.studio,
                self.judge,
                [self.briefs[number] for number in range(self.learnt)],
                self.out / "pairs",
                self.config.dpo(),
                seed=self.config.seed,
                batch=self.config.batch,
                made_by={"generator": self.generator, **self._sampled()},
            )
        step = PreferenceStep(self.studio, self.trained, self.briefs, pairs, self.config.dpo())
        return step, shuffled(batches_of(pairs, self.config.batch), self.config.batch, self.config.seed)

    def _order(self, count: int) -> Data:
        """Batches of brief numbers, as often around as a batch needs."""
        return shuffled(count * -(-self.config.batch // count), self.config.batch, self.config.seed)

    def _about(self, models: str) -> Mapping[str, Any]:
        """What the run is a function of, besides its loop."""
        asked = asdict(self.config)
        looped = {"steps", "lr", "accumulate", "precision", "seed", "evaluate_every"}
        return {
            "job": "ads align",
            "models": models,
            "align": {name: value for name, value in asked.items() if name not in looped},
            "generator": self.generator,
            **self._sampled(),
            "judge": self.judge.version,
            "held_out": _told(self.watch.held_out) if self.config.guard else "no guard",
        }

    def _sampled(self) -> dict[str, Any]:
        """How pictures are made, and of what."""
        return {"settings": asdict(self.studio.settings), "briefs": _digest(self.briefs)}

    def conclude(self, result: Result | None, vanished: Vanished | None, problems: list[Skipped]) -> Aligned:
        """Saves what was trained and writes the report."""
        rows = read_metrics(self.out)
        last = {name: value for row in rows for name, value in row.items() if name != "step"}
        steps = result.steps if result else max(int(row["step"]) for row in rows)
        found = Aligned(
            out=self.out,
            weights=self.out / self.config.train,
            report=self.out / "report.html",
            steps=steps,
            seconds=result.seconds if result else last["seconds"],
            last=last,
            best=result.best if result else None,
            stopped=str(vanished) if vanished else result.stopped if result else "",
            failed=vanished is not None and not vanished.all_passed,
            problems=problems,
        )
        if is_main(self.cpu):
            self.trained.save(self.out)
            write_report(self.out, self.settled(), found.stopped, found.best)
        return found

    def settled(self) -> dict[str, Any]:
        """The settings as they took effect, for the report: what was left open is filled in, what this run does not use
        is left out, and who judged is named."""
        config, found = self.config, asdict(self.config) | {"lr": self.lr}
        if config.method == "dpo":
            found |= asdict(config.dpo())
            unused = {"regulariser", "cc", "aux_grad", "last", "reuse", "part"}
        else:
            rfft = config.rfft()
            last = rfft.last_of(len(self.studio.schedule))
            found |= {"regulariser": rfft.regulariser, "beta": rfft.beta, "last": last}
            unused = {"each", "gap"} | ({"cc"} if rfft.regulariser != "cc" else set())
            unused |= {"beta"} if rfft.regulariser == "none" else set()
        unused |= {"rank"} if config.train == "controlnet" else set()
        judges = {"judge": _told(self.judge), "held_out": _told(self.watch.held_out) if config.guard else "no guard"}
        return {name: value for name, value in found.items() if name not in unused} | judges


def _told(judge: Reward | Judge) -> str:
    """A judge's name and version, and the axis that a held-out one is read by."""
    axes = getattr(judge, "axes", ())
    return " ".join([getattr(judge, "name", ""), judge.version, *([f"by {axes[0].name}"] if axes else [])]).strip()


def _digest(briefs: Sequence[Placed]) -> str:
    """12 hex digits over all briefs: of files their names, else their pixels too."""
    digest = hashlib.sha256()
    if isinstance(briefs, _Shelf):
        return hashlib.sha256("\n".join(briefs.names).encode()).hexdigest()[:12]
    for brief in briefs:
        digest.update(f"{brief.key}\0{brief.title}\0{brief.prompt}\0".encode())
        digest.update((brief.canvas.product * 255).round().byte().numpy().tobytes())
    return digest.hexdigest()[:12]


# --- models and briefs


def _models(models: str | Path | Models, device: str) -> Models:
    """The models, with all that a run needs loaded, so that what is missing is said before it begins."""
    loaded = opened(models, device)
    loaded.require(*GENERATOR)
    return loaded


def _inspector(models: Models, aux_grad: AuxGrad) -> Reward:
    """The model set's RFNet, with gradient through depth and saliency or not."""
    from goodeye.judging.rfnet import RFNetJudge

    judge = models.rfnet
    return RFNetJudge(
        judge.model, judge.tokenizer, judge.depth, judge.saliency, threshold=judge.threshold, aux_grad=aux_grad
    )


def _rfnet(folder: Path, models: Models) -> Judge:
    """An RFNet of its own beside the model set's, with the same depth and saliency."""
    from goodeye.judging.rfnet import RFNetConfig, RFNetJudge

    if not (folder / "config.json").is_file():
        raise BadInput(f"{folder} holds no judge. Name the folder judge/ of a run of `goodeye ads train-judge`.")
    looks = RFNetConfig.from_pretrained(str(folder))
    depth = models.depth if looks.use_depth else None
    saliency = models.saliency if looks.use_saliency else None
    return RFNetJudge.from_pretrained(folder, depth, saliency, device=models.device, dtype=models.dtype)


@dataclass(frozen=True)
class _Shelf(Sequence[Placed]):
    """Briefs of files, each cut out and placed when it is asked for; the last PLACED of them stay."""

    take: Callable[[int], Placed]
    numbers: list[int]
    names: list[str]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self.take(one) for one in self.numbers[number]]
        return self.take(self.numbers[number])

    def __iter__(self) -> Iterator[Placed]:
        return (self.take(one) for one in self.numbers)


def _placed(
    inputs: Sequence[str | Path],
    models: Models,
    title: str | None,
    prompt: str | None,
    remover: Remover,
    seed: int,
    unpack: Path,
) -> tuple[Sequence[Placed], list[Skipped]]:
    """The briefs of files, each tried once; those that cannot be used are problems. Raises BadInput if none can be."""
    if not inputs:
        raise BadInput("there is nothing to train on. Name product pictures, folders of them, or tables.")
    found, problems = read_briefs(inputs, unpack, title, prompt)
    settings = models.model_set.settings

    @lru_cache(PLACED)
    def take(number: int) -> Placed:
        brief: Brief = found[number]
        name = str(brief.image)
        product = cut_out(open_image(name), models, name=name, remover=remover)
        canvas = place(product, settings.size, settings.product_scale, canny=settings.canny, name=name)
        return Placed(
            key=brief.key, canvas=canvas, title=brief.title, prompt=choose_prompt(brief, settings.prompts, seed)
        )

    usable = []
    for number in track(range(len(found)), "placing products", unit="products"):
        try:
            take(number)
            usable.append(number)
        except BadInput as error:
            problems.append(Skipped(name=str(found[number].image), message=str(error)))
    if not usable:
        more = f" The first: {problems[0].message}" if problems else ""
        raise BadInput(f"none of the products can be used.{more}")
    names = [str(found[number]) for number in usable]
    return _Shelf(take, usable, names), problems
