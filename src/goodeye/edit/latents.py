"""The latents of triplets, encoded once and kept on disk, for trainings that neither cut nor mirror pictures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from goodeye.atomic import write_bytes
from goodeye.diffusion import vae
from goodeye.edit.pairs import Cut, alike
from goodeye.edit.triplets import Triplet, digest_of
from goodeye.errors import BadInput
from goodeye.images import to_tensor
from goodeye.judging.protocol import fingerprint
from goodeye.progress import progress

if TYPE_CHECKING:
    from goodeye.modelset import Models

AT_ONCE = 32
ARRAY, STATE = "latents.npy", "latents.json"


@dataclass(frozen=True)
class Latents:
    """rows: [N, 2, C, h, w] in float16, a triplet's edited picture as the denoiser has it (scaled), and its original
    not scaled, as InstructPix2Pix shows it. at: key -> row. gone: key -> why its pictures cannot be opened. digest: of
    the triplets."""

    rows: np.ndarray
    at: dict[str, int]
    gone: dict[str, str] = field(default_factory=dict)
    digest: str = ""

    def pair(self, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The edited pictures' latents and the originals', [B, C, h, w] each."""
        both = torch.from_numpy(self.rows[[self.at[key] for key in keys]].astype(np.float32))
        return both[:, 0], both[:, 1]


@torch.no_grad()
def encoded(triplets: Sequence[Triplet], models: "Models", size: int, folder: str | Path) -> Latents:
    """The triplets' latents at `size` pixels from `folder`, where what is not there yet is made first.

    A killed call goes on where it was; other triplets (`digest_of`), another VAE or size begin anew. Raises BadInput
    where no triplet can be opened, and where the folder cannot be written.
    """
    root, network = Path(folder), models.vae
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{root} cannot be made: {error.strerror}. Name another folder with --cache.") from error
    digest = digest_of(triplets)
    about = {"triplets": digest, "vae": fingerprint(network, ""), "size": size}
    state = _state(root / STATE, about)
    side = size // 2 ** (len(network.config.block_out_channels) - 1)
    shape = (len(triplets), 2, network.config.latent_channels, side, side)
    rows = np.lib.format.open_memmap(root / ARRAY, "r+" if state["done"] else "w+", np.float16, shape)
    with progress("encoding triplets", len(triplets) - state["done"], "triplets") as advance:
        while state["done"] < len(triplets):
            first = state["done"]
            some = triplets[first : first + AT_ONCE]
            rows[first : first + len(some)] = _both(some, network, size, state["gone"])
            rows.flush()
            state["done"] += len(some)
            write_bytes(root / STATE, json.dumps(state).encode())
            advance(len(some))
    at = {one.key: row for row, one in enumerate(triplets) if one.key not in state["gone"]}
    if not at:
        raise BadInput(f"no triplet can be opened. {next(iter(state['gone'].values()), 'There is none.')}")
    return Latents(rows, at, state["gone"], digest)


def _state(file: Path, about: dict[str, Any]) -> dict[str, Any]:
    known = json.loads(file.read_text()) if file.is_file() and (file.parent / ARRAY).is_file() else {}
    return dict(known) if known.get("about") == about else {"about": about, "done": 0, "gone": {}}


def _both(some: Sequence[Triplet], network: Any, size: int, gone: dict[str, str]) -> np.ndarray:
    """[n, 2, C, h, w]; zeros, and a word in `gone`, where a picture cannot be opened."""
    blank = torch.zeros(3, size, size)
    originals, edits = [], []
    for one in some:
        try:
            pair = [to_tensor(img) for img in alike(one.original.open(), one.edited.open(), size, Cut())]
        except BadInput as error:
            gone[one.key], pair = f"{one.key}: {error}", [blank, blank]
        originals.append(pair[0])
        edits.append(pair[1])
    shown = vae.encode(network, torch.stack(originals).to(network.device)) / network.config.scaling_factor
    made = vae.encode(network, torch.stack(edits).to(network.device))
    return torch.stack([made, shown], 1).cpu().numpy().astype(np.float16)
