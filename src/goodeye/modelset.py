"""Model sets: which model plays which role, and the models themselves, loaded when first used.

A set is `showroom` (shipped, offline), `sd15` (Stable Diffusion 1.5 class, by hub id) or a TOML file:

    name = "mine"
    base = "sd15"                          # optional: the set whose roles and settings are taken where none is given
    [roles]
    unet = "someone/a-checkpoint#unet"     # hub id; after # a subfolder, after @ a revision
    saliency = "u2net.onnx"                # a file or folder beside the TOML file, or a full path
    [settings]
    steps = 30
    [edit]                                 # what a job other than ads goes by; its own settings say what there is
    steps = 30

Roles of all jobs stand under [roles], and a set need not hold them all. A job whose model is of a class of its own
brings the loader: `Models.load`.

SET+ADAPTER is a set with what `goodeye ads align` trained put on its generator: the folder of such a run, or the name
of an adapter that ships with the showroom.

Folders are in the layout of diffusers and transformers, with safetensors weights; pickles are refused.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from goodeye.errors import BadInput
from goodeye.hub import fetched, no_bars, require_usable, split_reference

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
    from transformers import CLIPTextModel, PreTrainedTokenizerBase

    from goodeye.judging.clip import Clip
    from goodeye.judging.maps import DepthEstimator, OnnxSaliency, SaliencyEstimator
    from goodeye.judging.rfnet import RFNetJudge

T = TypeVar("T")
C = TypeVar("C")

ROLES = (
    *("vae", "text_encoder", "tokenizer", "unet", "controlnet", "scheduler"),
    *("depth", "saliency", "clip", "rfnet"),
)
JOB_ROLES: dict[str, tuple[str, ...]] = {  # what each job may need; ads has the most, and other jobs share of it
    "ads": (*ROLES, "lora"),  # lora: on the U-Net, in the layout of diffusers' pipelines
    "search": ("taste",),
    "synth": ("layout_unet", "region", "segmenter"),
    "edit": ("editor", "rewards", "editor_tokenizer", "editor_text_encoder"),
}
GENERATOR = ("vae", "tokenizer", "text_encoder", "unet", "controlnet", "scheduler_config")  # parts that make pictures
SHOWROOM = Path(__file__).parent / "showroom" / "weights"
EDITING = {  # where the showroom's weights of these roles are
    "editor": "reward_module/editor",
    "rewards": "reward_module",
    "editor_tokenizer": "editor/tokenizer",
    "editor_text_encoder": "editor/text_encoder",
}
SHOWROOM_EDIT = {"steps": 20, "text_guidance": 4.0}
SHOWROOM_PROMPTS = (  # in the words that its text encoder was trained on
    "a {title} on a wooden floor in a living room with beige walls, bright daylight",
    "a {title} on a wooden floor in a living room with blue walls, warm evening light",
    "a {title} on a stone counter in a kitchen with green tiles, bright daylight",
    "a {title} on a stone counter in a kitchen with beige tiles, warm evening light",
    "a {title} on the sand at a beach by the sea, bright daylight",
    "a {title} on the grass in a forest, soft light",
    "a {title} on a table in a photo studio with a terracotta backdrop, soft light",
    "a {title} on a table in a photo studio with a pink backdrop, bright daylight",
    "a {title} on a wet street in a city at night, moody light",
    "a {title} on a wooden desk in an office with green panels, soft light",
    "a {title} on a white shelf in a spa with blue tiles and bamboo, bright daylight",
)
ADAPTED = {  # what alignment trains, and the file by which its folder is known
    "lora": "pytorch_lora_weights.safetensors",
    "controlnet": "diffusion_pytorch_model*.safetensors",
}
STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"

LATE = 0.4  # the part of a schedule, at its end, whose steps are all taken: there detail is made

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?(#[\w./-]+)?")

# What to do about a role that a set leaves open.
_HINTS = {
    "saliency": "Name a SegFormer-class folder, or U2Net's .onnx file (for which: pip install goodeye[cutout])",
    "rfnet": "Train one by `goodeye ads train-judge` and name its folder",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a set's models are used. Defaults are those of Stable Diffusion 1.5 in the ads paper (40 steps, guidance 7.5,
    ControlNet scale 1, canny 100/200, product 0.70 to 0.78 of the canvas)."""

    size: int = 512  # pixels, square
    steps: int = 40
    guidance_scale: float = 7.5
    control_scale: float = 1.0
    canny: tuple[int, int] = (100, 200)  # low and high threshold
    product_scale: float = 0.74  # the product's long side as a share of the canvas
    sampler: Literal["ddim", "euler"] = "ddim"
    threshold: float = 0.5  # the p(available) from which an attempt passes
    negative_prompt: str = ""
    stride: int = 1  # so many steps at once, until the last 40 % of them; fewer evaluations of the denoiser
    prompts: tuple[str, ...] = ()  # settings to choose from where a brief has no prompt; "{title}" is filled in

    @property
    def starts(self) -> tuple[int, ...]:
        """Which of the schedule's steps an attempt begins an evaluation at."""
        return starts_of(self.steps, self.stride)


def starts_of(steps: int, stride: int) -> tuple[int, ...]:
    """Of so many steps those at which the denoiser is asked, each evaluation reaching to the next one's (ours): the
    last LATE of them all, the ones before `stride` at a time."""
    full = steps - math.ceil(LATE * steps)
    return (*range(0, full, stride), *range(full, steps))


@dataclass(frozen=True, kw_only=True)
class ModelSet:
    """roles: role -> full path of a folder (or a file), or `hub/id[@revision][#subfolder]`. tables: job -> its settings
    as the TOML file has them; `table` reads them."""

    name: str
    roles: dict[str, str]
    settings: Settings = field(default_factory=Settings)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)

    def table(self, job: str, kind: type[C]) -> C:
        """A job's settings: `kind`, a dataclass whose fields have defaults, with what the set's table of the job says.

        Raises BadInput for a key that `kind` has not, and for a value of another type than its default.
        """
        place, usual, found = f"the table [{job}] of the model set {self.name}", kind(), self.tables.get(job, {})
        _require_known(found, list(vars(usual)), "setting", place)
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
        for key, value in given.items():
            default = getattr(usual, key)
            alike = type(value) is type(default) or (type(default) is float and type(value) is int)
            if default is not None and not alike:
                raise BadInput(f"{place} has {key} = {found[key]!r}. Use a value like {default!r}.")
        return kind(**given)


def resolve(name_or_toml: str | Path) -> ModelSet:
    """The set of this name or TOML file, or SET+ADAPTER; loads no model. Raises BadInput for anything that is not right
    in it."""
    base, adapter = _parts(name_or_toml)
    if adapter:
        return _adapted(resolve(base), adapter)
    if name_or_toml == "showroom":
        return showroom()
    if name_or_toml == "sd15":
        return sd15()
    path = Path(name_or_toml).expanduser()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(
            f"{name_or_toml} is neither a model set nor a file{_nearest(str(name_or_toml), ('showroom', 'sd15'))}. "
            "Give showroom, sd15 or a TOML file."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not TOML: {error}. Correct it.") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Give showroom, sd15 or a TOML file.") from error
    return _from_table(table, path)


def showroom() -> ModelSet:
    """The small models that the package ships."""
    settings = Settings(size=128, steps=20, guidance_scale=3.0, product_scale=0.5, prompts=SHOWROOM_PROMPTS)
    places = {role: SHOWROOM / EDITING.get(role, role) for roles in JOB_ROLES.values() for role in roles}
    shipped = {role: str(place) for role, place in places.items() if role in ROLES or place.exists()}
    return ModelSet(name="showroom", roles=shipped, settings=settings, tables={"edit": SHOWROOM_EDIT})


def shipped_adapters(base: str | Path = "showroom") -> dict[str, Path]:
    """The aligned adapters that ship with a set, by name; only the showroom has any."""
    folder = SHOWROOM / "align"
    if str(base) != "showroom" or not folder.is_dir():
        return {}
    return {place.name: place for place in sorted(folder.iterdir()) if place.is_dir()}


def sd15() -> ModelSet:
    """Stable Diffusion 1.5 with ControlNet canny, CLIP ViT-L/14, Depth Anything V2 and GLIGEN for text and boxes (of
    Stable Diffusion 1.4, with the same text encoder and VAE), by hub id.

    No saliency model in the standard layout is published under a name to rely on, and no RFNet at all, so those two
    roles are open until a TOML file names them.
    """
    parts = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    others = {
        "controlnet": "lllyasviel/control_v11p_sd15_canny",
        "clip": "openai/clip-vit-large-patch14",
        "depth": "depth-anything/Depth-Anything-V2-Small-hf",
        "layout_unet": "masterful/gligen-1-4-generation-text-box@refs/pr/2#unet",  # its main branch has pickles only
    }
    return ModelSet(name="sd15", roles={part: f"{STABLE_DIFFUSION}#{part}" for part in parts} | others)


# --- a set with an adapter


def _parts(name_or_toml: str | Path) -> tuple[str, str]:
    """SET and ADAPTER of SET+ADAPTER; no adapter where that is the name of a file."""
    whole = str(name_or_toml)
    base, _, adapter = whole.partition("+")
    return (whole, "") if Path(whole).expanduser().exists() else (base, adapter)


def _adapted(base: ModelSet, adapter: str) -> ModelSet:
    shipped = shipped_adapters(base.name)
    place = shipped.get(adapter, Path(adapter).expanduser())
    for role in ADAPTED:
        for folder in (place / role, place):
            if list(folder.glob(ADAPTED[role])):
                return replace(base, name=f"{base.name}+{place.name}", roles=base.roles | {role: str(folder.resolve())})
    names = ", ".join(shipped) or "none"
    raise BadInput(
        f"{adapter} is no adapter. Name the run folder of `goodeye ads align`, or one that ships with the showroom: "
        f"{names}."
    )


# --- reading a TOML file


def _from_table(table: Mapping[str, Any], path: Path) -> ModelSet:
    jobs = [job for job in JOB_ROLES if job != "ads"]
    _require_known(table, ("name", "base", "roles", "settings", *jobs), "key", path)
    name, base = table.get("name", path.stem), table.get("base")
    roles, settings, *others = (table.get(part, {}) for part in ("roles", "settings", *jobs))
    if not all(isinstance(part, dict) for part in (roles, settings, *others)) or not isinstance(name, str) or not name:
        raise BadInput(f"{path}: name is a text, and all else but base are tables. Correct it.")
    if base not in (None, "showroom", "sd15"):
        raise BadInput(f"{path}: base is {base!r}. Use showroom or sd15, or leave it out.")
    _require_known(roles, [role for known in JOB_ROLES.values() for role in known], "role", path)
    _require_known(settings, [one.name for one in fields(Settings)], "setting", path)
    below = resolve(base) if base else ModelSet(name="", roles={})
    return ModelSet(
        name=name,
        roles=below.roles | {role: _reference(value, role, path) for role, value in roles.items()},
        settings=replace(below.settings, **{key: _setting(key, value, path) for key, value in settings.items()}),
        tables={
            job: below.tables.get(job, {}) | found
            for job, found in zip(jobs, others, strict=True)
            if found or job in below.tables
        },
    )


def _require_known(given: Mapping[str, Any], known: Sequence[str], kind: str, where: str | Path) -> None:
    for name in given:
        if name not in known:
            raise BadInput(f"{where} has the unknown {kind} {name}{_nearest(name, known)}. Use {', '.join(known)}.")


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower(), known, 1, 0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _reference(value: object, role: str, path: Path) -> str:
    """A full path where it is a folder or file here, else a hub id."""
    if not isinstance(value, str) or not value:
        raise BadInput(f"{path}: the role {role} is {value!r}. Give a folder or a hub id in quotation marks.")
    whole = path.parent / Path(value).expanduser()
    place, _, subfolder = value.partition("#")
    local = path.parent / Path(place).expanduser() / subfolder
    for candidate in (whole, local):
        if candidate.exists():
            return str(candidate.resolve())
    if value.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(value):
        raise BadInput(f"{path}: the role {role} names {value}, but {local} does not exist. Correct the path.")
    return value


def _between(low: float, high: float) -> tuple[Callable[[Any], bool], str]:
    return lambda v: isinstance(v, int | float) and not isinstance(v, bool) and low <= v <= high, f"{low} to {high}"


_TEXTS = "a list of texts"
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "size": (lambda v: type(v) is int and 16 <= v <= 4096 and v % 8 == 0, "a multiple of 8 from 16 to 4096"),
    "steps": (lambda v: type(v) is int and 1 <= v <= 1000, "a whole number from 1 to 1000"),
    "guidance_scale": _between(0, 100),
    "control_scale": _between(0, 10),
    "stride": (lambda v: type(v) is int and v >= 1, "a whole number from 1 on"),
    "canny": (
        lambda v: isinstance(v, list) and len(v) == 2 and all(type(x) is int for x in v) and 0 <= v[0] <= v[1],
        "two whole numbers, the low and the high threshold",
    ),
    "product_scale": _between(0.05, 1),
    "sampler": (lambda v: v in ("ddim", "euler"), "ddim or euler"),
    "threshold": _between(0, 1),
    "negative_prompt": (lambda v: isinstance(v, str), "a text"),
    "prompts": (lambda v: isinstance(v, list) and all(isinstance(x, str) and x for x in v), _TEXTS),
}


def _setting(key: str, value: Any, path: Path) -> Any:
    right, words = _RULES[key]
    if not right(value):
        raise BadInput(f"{path}: the setting {key} is {value!r}. Use {words}.")
    return tuple(value) if isinstance(value, list) else value


# --- loading


def opened(models: str | Path | Models, device: str | torch.device = "cpu") -> Models:
    """The models of a set by name or TOML file, on `device`; those that are loaded already as they are."""
    return Models(resolve(models), device=device) if isinstance(models, str | Path) else models


def reference(models: str | Path | Models) -> str:
    """The set as a run's config names it: a TOML file, and an adapter's folder, by its full path."""
    if not isinstance(models, str | Path):
        return models.model_set.name
    base, adapter = _parts(models)
    if adapter:
        return f"{reference(base)}+{adapter if adapter in shipped_adapters(base) else Path(adapter).resolve()}"
    return str(Path(models).resolve()) if str(models).endswith(".toml") else str(models)


class Models:
    """The models of a set, each loaded when first asked for and then kept: frozen, in evaluation mode, on `device`.

    Every attribute raises BadInput, naming the role and what to do, where the set does not name it or it cannot be
    loaded. dtype: of the weights (default float32).
    """

    def __init__(
        self, model_set: ModelSet, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        import torch

        self.model_set = model_set
        self.device = _device(device)
        self.dtype = dtype or torch.float32
        self.kept: dict[str, Any] = {}

    def load(self, role: str, loader: Callable[[str], T]) -> T:
        """What `loader` makes of the role's place (a local folder or file, or a hub id), kept from then on.

        So a job brings a model of a class of its own. A subfolder or revision is fetched from the hub first.
        """
        if role not in self.kept:
            self.kept[role] = self._whole(role, loader)
        kept: T = self.kept[role]
        return kept

    def network(self, role: str, kind: type[T]) -> T:
        """A network of one of diffusers' classes, kept from then on; refused where weights are missing."""
        if role not in self.kept:
            self.kept[role] = self._diffusers(role, kind)
        kept: T = self.kept[role]
        return kept

    def require(self, *parts: str) -> None:
        """Loads these attributes now, so that what is missing is said before a run begins."""
        for part in parts:
            getattr(self, part)

    @cached_property
    def vae(self) -> AutoencoderKL:
        from diffusers import AutoencoderKL

        return self._diffusers("vae", AutoencoderKL)

    @cached_property
    def unet(self) -> UNet2DConditionModel:
        """The U-Net; LoRA of the set is added to its weights, so that it is a plain network like any other."""
        from diffusers import UNet2DConditionModel

        unet = self._diffusers("unet", UNet2DConditionModel)
        if "lora" in self.model_set.roles:
            self._whole("lora", partial(_add_lora, unet))
        return unet

    @cached_property
    def controlnet(self) -> ControlNetModel:
        from diffusers import ControlNetModel

        return self._diffusers("controlnet", ControlNetModel)

    @cached_property
    def text_encoder(self) -> CLIPTextModel:
        from transformers import CLIPTextModel

        def load(place: str, options: dict[str, str]) -> Any:
            return CLIPTextModel.from_pretrained(
                place, use_safetensors=True, output_loading_info=True, dtype=self.dtype, **options
            )

        return self._network("text_encoder", load)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        from transformers import AutoTokenizer

        return self._whole("tokenizer", AutoTokenizer.from_pretrained)

    @cached_property
    def scheduler_config(self) -> dict[str, Any]:
        """What scheduler_config.json says; `goodeye.diffusion.schedule.from_config` reads it."""
        from diffusers import DDIMScheduler

        return self._load("scheduler", lambda place, options: dict(DDIMScheduler.load_config(place, **options)))

    @cached_property
    def depth(self) -> DepthEstimator:
        from goodeye.judging.maps import DepthEstimator

        return self._whole("depth", lambda place: DepthEstimator.from_pretrained(place, self.device, self.dtype))

    @cached_property
    def saliency(self) -> SaliencyEstimator | OnnxSaliency:
        from goodeye.judging.maps import SaliencyEstimator

        return self._whole("saliency", lambda place: SaliencyEstimator.from_pretrained(place, self.device, self.dtype))

    @cached_property
    def clip(self) -> Clip:
        from goodeye.judging.clip import Clip

        return self._whole("clip", lambda place: Clip.from_pretrained(place, self.device, self.dtype))

    @cached_property
    def rfnet(self) -> RFNetJudge:
        """RFNet as a judge, with the depth and saliency estimators where it uses them."""
        from goodeye.judging.rfnet import RFNetConfig, RFNetJudge

        def load(place: str) -> RFNetJudge:
            config = RFNetConfig.from_pretrained(place)
            return RFNetJudge.from_pretrained(
                place,
                self.depth if config.use_depth else None,
                self.saliency if config.use_saliency else None,
                device=self.device,
                dtype=self.dtype,
                threshold=self.model_set.settings.threshold,
            )

        return self._whole("rfnet", load)

    def _diffusers(self, role: str, kind: Any) -> Any:
        def load(place: str, options: dict[str, str]) -> Any:
            return kind.from_pretrained(
                place, use_safetensors=True, output_loading_info=True, torch_dtype=self.dtype, **options
            )

        return self._network(role, load)

    def _network(self, role: str, load: Callable[[str, dict[str, str]], Any]) -> Any:
        """Loads a network, refuses weights that are not all there, and makes it ready to use."""
        model, info = self._load(role, load)
        if missing := sorted(info["missing_keys"]):
            raise BadInput(
                f"the role {role} of {self.model_set.name} ({self._place(role)}) lacks {len(missing)} weights of a "
                f"{type(model).__name__}, {missing[0]} among them. Name the right folder, or save it again."
            )
        return model.to(self.device).eval().requires_grad_(False)

    def _whole(self, role: str, load: Callable[[str], T]) -> T:
        """Loads by a function of a folder or id alone: a subfolder or revision is fetched from the hub first."""

        def call(place: str, options: dict[str, str]) -> T:
            if not options:
                return load(place)
            return load(fetched(place, options.get("subfolder", ""), options.get("revision")))

        return self._load(role, call)

    def _load(self, role: str, load: Callable[[str, dict[str, str]], T]) -> T:
        from huggingface_hub.errors import StrictDataclassError
        from safetensors import SafetensorError

        place, options = split_reference(self._place(role))
        local = Path(place).is_absolute()
        where = f"the role {role} of {self.model_set.name} ({self._place(role)})"
        if local and (role in ROLES or not Path(place).is_file()):  # a job's own role may be a file
            require_usable(Path(place), where, self.model_set.name, role)
        try:
            with no_bars(local):
                return load(place, options)
        except BadInput:
            raise
        except (
            OSError,
            ValueError,
            TypeError,
            LookupError,
            RuntimeError,
            SafetensorError,
            StrictDataclassError,
        ) as error:
            why = " ".join(str(error).split())[:300].rstrip(".")
            if local:
                raise BadInput(f"{where} cannot be loaded: {why}. Name another folder, or save it again.") from error
            raise BadInput(
                f"{where} cannot be loaded from the hub: {why}. Check the id and the network, or name a local folder."
            ) from error

    def _place(self, role: str) -> str:
        try:
            return self.model_set.roles[role]
        except KeyError as error:
            name = self.model_set.name
            hint = _HINTS.get(role, "Name a folder or a hub id")
            based = f'with base = "{name}"' if name in ("showroom", "sd15") else "of the set"
            raise BadInput(
                f"the model set {name} has no {role}. {hint}, as {role} under [roles] in a TOML file {based}."
            ) from error


def _add_lora(unet: UNet2DConditionModel, place: str) -> None:
    unet.load_lora_adapter(place, prefix="unet", adapter_name="set", use_safetensors=True)
    unet.fuse_lora()
    unet.unload_lora()
    unet.requires_grad_(False)


def _device(device: str | torch.device) -> torch.device:
    import torch

    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        why = " ".join(str(error).split())[:160].rstrip(".")
        raise BadInput(
            f"the device {device} cannot be used: {why}. Use cpu or a device that this machine has."
        ) from error
