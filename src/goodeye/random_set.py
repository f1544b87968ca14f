"""A model set at its real size with random weights, so that it can be tried and measured before its weights are there.

The configurations of Stable Diffusion 1.5 and the models around it are those of their hub repositories, written out in
configs/sd15. Two roles are open in that set, and their configurations are ours: saliency is a SegFormer-B2 with one
label (27 M weights; U2Net has 44 M), and RFNet has the paper's size (ResNet-50, RoBERTa-base, width 384, N1 = 1,
N2 = 3).
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch

from goodeye.errors import BadInput
from goodeye.hub import fetched, no_bars, split_reference
from goodeye.modelset import ROLES, ModelSet
from goodeye.progress import track

CONFIGS = Path(__file__).parent / "configs" / "sd15"
WORDS = ("a", "photograph", "of", "product", "on", "table")  # all that the stand-in tokenizer knows

Origin = Literal["here", "random", "random, of sd15's size"]

# The file without which a role's folder is of no use; the others need safetensors weights.
_FILES = {"tokenizer": ("tokenizer.json", "vocab.json"), "scheduler": ("scheduler_config.json",)}


def with_random_weights(
    model_set: ModelSet, folder: Path, roles: Sequence[str] = ROLES, *, seed: int = 0
) -> tuple[ModelSet, dict[str, Origin]]:
    """The set with random weights for those of `roles` whose own are not on this machine; where each role's are from.

    They are written below `folder`, a role after the other, in the standard layout (float16 safetensors), with a
    NAME.toml that names them all. A role's configuration is that of its folder, if it names one that holds no more than
    a configuration, else that of sd15. No hub is asked. Raises BadInput where the folder cannot be written.
    """
    from safetensors import SafetensorError

    places: dict[str, str] = {}
    origins: dict[str, Origin] = {}
    try:
        for role in track(roles, "writing models with random weights", unit="models"):
            found = local_weights(model_set.roles.get(role, ""), role)
            if found:
                places[role], origins[role] = found, "here"
                continue
            config, own = config_of(model_set, role)
            torch.manual_seed(seed)
            write_random(role, config, folder / role, title_length(model_set))
            places[role] = str((folder / role).resolve())
            origins[role] = "random" if own or model_set.name == "sd15" else "random, of sd15's size"
        whole = replace(model_set, roles=places)
        (folder / f"{model_set.name}.toml").write_text(as_toml(whole), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        why = (getattr(error, "strerror", None) or " ".join(str(error).split()))[:200].rstrip(".")
        raise BadInput(f"{folder} cannot take the random weights: {why}. Name a folder with more room.") from error
    return whole, origins


@contextmanager
def stand_ins(asked: ModelSet, roles: Sequence[str], *, random: bool, seed: int) -> Iterator[ModelSet]:
    """The set as it is, or with `random` one whose missing roles have random weights until the context ends."""
    if not random:
        yield asked
        return
    with tempfile.TemporaryDirectory(prefix="goodeye-") as folder:
        yield with_random_weights(asked, Path(folder), roles, seed=seed)[0]


def local_weights(reference: str, role: str) -> str | None:
    """The local folder or file of a role, from the hub's cache too; None where its weights are not here."""
    if not reference:
        return None
    place, options = split_reference(reference)
    if not Path(place).is_absolute():
        try:
            place = fetched(place, **options, offline=True)
        except OSError:
            return None
    if Path(place).is_file():
        return place
    wanted = _FILES.get(role, ("*.safetensors",))
    return place if any(True for pattern in wanted for _ in Path(place).glob(pattern)) else None


def config_of(model_set: ModelSet, role: str) -> tuple[Path, bool]:
    """The folder of a role's configuration, and whether the set itself names it."""
    named = Path(model_set.roles.get(role, ""))
    if named.is_absolute() and (named / "config.json").is_file():
        return named, True
    return CONFIGS / role, False


def title_length(model_set: ModelSet) -> int:
    """Tokens of a prompt, by the text encoder's configuration."""
    here = local_weights(model_set.roles.get("text_encoder", ""), "text_encoder")
    folder = Path(here) if here else config_of(model_set, "text_encoder")[0]
    return int(json.loads((folder / "config.json").read_text())["max_position_embeddings"])


def write_random(role: str, config: Path, out: Path, length: int) -> None:
    """A folder of the standard layout: the role's model by this configuration, new, in float16."""
    out.mkdir(parents=True, exist_ok=True)
    if role == "scheduler":
        shutil.copy(config / "scheduler_config.json", out)
        return
    if role in ("tokenizer", "clip", "rfnet"):
        stand_in_tokenizer(length).save_pretrained(out)
    if role != "tokenizer":
        with no_bars(True):
            build(role, config).half().save_pretrained(out)
    if (config / "preprocessor_config.json").is_file():
        shutil.copy(config / "preprocessor_config.json", out)


def build(role: str, config: Path) -> Any:
    """A role's model with the weights that its class starts from; under torch.device("meta") without any."""
    if role in ("vae", "unet", "controlnet"):
        import diffusers

        names = {"vae": "AutoencoderKL", "unet": "UNet2DConditionModel", "controlnet": "ControlNetModel"}
        kind = getattr(diffusers, names[role])
        return kind.from_config(kind.load_config(str(config)))
    import transformers

    import goodeye.judging.rfnet  # noqa: F401 (makes RFNet known to transformers)

    names = {
        "text_encoder": "CLIPTextModel",
        "depth": "AutoModelForDepthEstimation",
        "saliency": "AutoModelForSemanticSegmentation",
        "clip": "AutoModel",
        "rfnet": "AutoModel",
    }
    kind = getattr(transformers, names[role])
    if role == "text_encoder":
        return kind(transformers.CLIPTextConfig.from_pretrained(str(config)))
    return kind.from_config(transformers.AutoConfig.from_pretrained(str(config)))


def stand_in_tokenizer(length: int) -> Any:
    """A word-level tokenizer of WORDS: real text encoders of any vocabulary can read what it gives."""
    from goodeye.judging.titles import title_tokenizer

    tokenizer = title_tokenizer([" ".join(WORDS)])
    tokenizer.model_max_length = length
    return tokenizer


def as_toml(model_set: ModelSet) -> str:
    """The set as a TOML file that `goodeye.modelset.resolve` reads."""
    lines = [f"name = {json.dumps(model_set.name)}", "", "[roles]"]
    lines += [f"{role} = {json.dumps(place)}" for role, place in model_set.roles.items()]
    lines += ["", "[settings]"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in asdict(model_set.settings).items()]
    for job, table in model_set.tables.items():
        lines += ["", f"[{job}]", *(f"{name} = {json.dumps(value)}" for name, value in table.items())]
    return "\n".join(lines) + "\n"
