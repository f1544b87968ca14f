"""Where a model's files lie: a local folder or file, or a repository on the hub; and what is wrong with a place."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from goodeye.errors import BadInput

_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


def split_reference(reference: str) -> tuple[str, dict[str, str]]:
    """A place and from_pretrained's options for it: `id@revision#subfolder`; a local path is taken as it is."""
    if Path(reference).is_absolute():
        return reference, {}
    place, _, subfolder = reference.partition("#")
    place, _, revision = place.partition("@")
    options = {"subfolder": subfolder, "revision": revision}
    return place, {name: value for name, value in options.items() if value}


def require_usable(place: Path, where: str, name: str, role: str) -> None:
    """Raises BadInput that says what is wrong with a local place, before a library says it less plainly."""
    if place.suffix == ".onnx" and place.is_file():
        return
    if not place.is_dir():
        hint = f"Run `goodeye showroom build FOLDER --only {role}`" if name == "showroom" else "Correct the path"
        raise BadInput(f"{where} is not a folder. {hint}.")
    names = [file.name for file in place.iterdir()]
    pickles = sorted(file for file in names if file.endswith(_PICKLES))
    if pickles and not any(file.endswith(".safetensors") for file in names):
        raise BadInput(
            f"{where} holds only {pickles[0]}, a pickle, which could run anything when loaded: safetensors only. "
            "Convert it, by save_pretrained where you trust it."
        )


def fetched(repository: str, subfolder: str = "", revision: str | None = None, *, offline: bool = False) -> str:
    """A local copy of what a subfolder of a hub repository needs. offline: what is here already, or an OSError."""
    from huggingface_hub import snapshot_download

    wanted = [f"{subfolder}/{end}" if subfolder else end for end in ("*.json", "*.safetensors", "*.txt", "*.md")]
    copy = snapshot_download(repository, revision=revision, allow_patterns=wanted, local_files_only=offline)
    return str(Path(copy) / subfolder)


@contextmanager
def no_bars(quiet: bool) -> Iterator[None]:
    """Without transformers' progress bars, which a local folder does not need; downloads keep theirs."""
    from transformers.utils import logging

    quiet = quiet and logging.is_progress_bar_enabled()
    if quiet:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if quiet:
            logging.enable_progress_bar()
