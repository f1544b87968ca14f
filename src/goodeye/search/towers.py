"""Training a two-tower model: both towers behind one call, the contrastive loss, and its queue of past embeddings.

"Aligning Vision Models with Human Aesthetics in Retrieval", section 3.1 (the loss), after CLIP (Radford et al. 2021).
`goodeye search pretrain`, `goodeye search align` and the showroom's CLIP are all trained by what stands here.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from goodeye.atomic import whole_folder
from goodeye.hub import no_bars
from goodeye.judging.clip import Clip
from goodeye.search.adapt import make_trainable
from goodeye.training.loop import Data, Evaluate, Loop, Modules, Result, fit

SMOOTHING = 0.1
SEEN_AT_ONCE = 64  # pictures or texts that go through a tower together
LEAST_TEMPERATURE = 0.01  # CLIP's: similarities are multiplied by 100 at most

Units = Float[Tensor, "N D"]  # of length 1


class Towers(nn.Module):
    """A Clip's two towers behind one forward: through it several processes exchange their gradients. The queue of past
    embeddings lies with them, so that it is in their checkpoint."""

    def __init__(self, clip: Clip, queue: "Queue") -> None:
        super().__init__()
        self.clip, self.model, self.queue = clip, clip.model, queue

    def forward(
        self, pixels: Float[Tensor, "N 3 h w"], texts: Sequence[str]
    ) -> tuple[Units, Float[Tensor, "M D"], Float[Tensor, ""]]:
        """pixels: as the model wants them. Returns embeddings of pictures and texts, and the temperature."""
        features = self.model.get_image_features(pixel_values=pixels).pooler_output
        temperature = (-self.model.logit_scale).exp().clamp(LEAST_TEMPERATURE, 1.0)
        return F.normalize(features.float(), dim=-1), self.clip.embed_texts(texts), temperature.squeeze()


class Heads(nn.Module):
    """The same call for a model of which the projections alone learn: what its towers give them does not change, so it
    is computed once (`Seen`) and handed over in the place of pictures and texts."""

    def __init__(self, clip: Clip, queue: "Queue") -> None:
        super().__init__()
        model: Any = clip.model
        self.image, self.text, self.queue = model.visual_projection, model.text_projection, queue
        self.logit_scale = model.logit_scale

    def forward(
        self, images: Float[Tensor, "N H"], texts: Float[Tensor, "M K"]
    ) -> tuple[Units, Float[Tensor, "M D"], Float[Tensor, ""]]:
        """images, texts: as `Seen` gives them. Returns what `Towers` returns."""
        temperature = (-self.logit_scale).exp().clamp(LEAST_TEMPERATURE, 1.0)
        image, text = self.image(images).float(), self.text(texts).float()
        return F.normalize(image, dim=-1), F.normalize(text, dim=-1), temperature.squeeze()


class Seen:
    """What a model's towers give its projections, of each picture and text once, as long as this object lives.

    picture: prepares the pixels of a key, [3, h, w].
    """

    def __init__(self, clip: Clip, picture: Callable[[Any], Tensor]) -> None:
        self.clip, self.picture, self.known = clip, picture, dict[Any, Tensor]()

    def images(self, keys: Sequence[Any]) -> Float[Tensor, "N H"]:
        """One row for each key."""
        return self._of(keys, self._images)

    def texts(self, texts: Sequence[str]) -> Float[Tensor, "M K"]:
        """One row for each text."""
        return self._of(texts, self._texts)

    def _of(self, keys: Sequence[Any], look: Callable[[Sequence[Any]], Tensor]) -> Tensor:
        new = [key for key in dict.fromkeys(keys) if key not in self.known]
        for start in range(0, len(new), SEEN_AT_ONCE):
            part = new[start : start + SEEN_AT_ONCE]
            self.known.update(zip(part, look(part).cpu(), strict=True))
        return torch.stack([self.known[key] for key in keys])

    def _images(self, keys: Sequence[Any]) -> Tensor:
        model: Any = self.clip.model
        pixels = torch.stack([self.picture(key) for key in keys]).to(model.device)
        return _given(model.visual_projection, lambda: model.get_image_features(pixel_values=pixels))

    def _texts(self, texts: Sequence[str]) -> Tensor:
        model: Any = self.clip.model
        return _given(model.text_projection, lambda: self.clip.embed_texts(texts))


@torch.no_grad()
def _given(projection: nn.Module, call: Callable[[], Any]) -> Tensor:
    """What a layer is given while `call` runs."""
    given: list[Tensor] = []
    hook = projection.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    try:
        call()
    finally:
        hook.remove()
    return given[0]


def contrastive(
    image: Units,
    text: Units,
    past_image: Float[Tensor, "M D"],
    past_text: Float[Tensor, "M D"],
    temperature: Tensor,
    smoothing: float = SMOOTHING,
) -> Float[Tensor, ""]:
    """The sum of image-to-text and text-to-image cross-entropies with smoothed targets (smoothing 0.1); past
    embeddings, without gradient, are further columns."""
    rows = image @ torch.cat([text, past_text]).T / temperature
    columns = text @ torch.cat([image, past_image]).T / temperature
    goal = torch.arange(len(image), device=image.device)
    return F.cross_entropy(rows, goal, label_smoothing=smoothing) + F.cross_entropy(
        columns, goal, label_smoothing=smoothing
    )


class Queue(nn.Module):
    """The last `size` pairs of embeddings, oldest first. They change from step to step, so they are buffers: a run that
    is resumed has them again."""

    image: Tensor
    text: Tensor
    count: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("image", torch.zeros(size, width))
        self.register_buffer("text", torch.zeros(size, width))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def past(self) -> tuple[Tensor, Tensor]:
        """The image and the text embeddings, [M, D] each, M from 0 to `size`."""
        first = len(self.image) - int(self.count)
        return self.image[first:], self.text[first:]

    @torch.no_grad()
    def push(self, image: Units, text: Units) -> None:
        """Appends a batch, [N, D] each, of all processes; what no longer fits is forgotten."""
        if not len(self.image):
            return
        count = 0
        for kept, new in ((self.image, image), (self.text, text)):
            new = gathered(new.detach())
            kept.copy_(torch.cat([kept, new.to(kept.dtype)])[-len(kept) :])
            count = len(new)
        self.count.add_(count).clamp_(max=len(self.image))


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes, in their order."""
    from accelerate.utils import gather

    return gather(rows) if torch.distributed.is_initialized() else rows


class Pairs(NamedTuple):
    """A batch of pictures with their captions: pixels [N, 3, h, w] as the model wants them, and N texts."""

    pixels: Tensor
    texts: list[str]


def fit_towers(
    clip: Clip,
    data: Data,
    config: Loop,
    run_dir: str | Path,
    *,
    queue: int,
    settled: int = 0,
    about: Mapping[str, Any] | None = None,
    evaluate: Evaluate | None = None,
    resume: bool = False,
    cpu: bool = False,
    label: str = "CLIP",
) -> Result:
    """Trains every weight of a Clip by the contrastive loss, in place. data(index) gives `Pairs`.

    queue: past embeddings that enlarge the contrast, from step `settled` on; earlier ones go stale at once and teach
    the towers to agree on one point. The batches of one optimizer step (`config.accumulate`) see each other through it.
    """
    make_trainable(clip, "full")
    past = Queue(queue, clip.dimensions)

    def step(nets: Modules, batch: Pairs, number: int) -> Tensor:
        image, text, temperature = nets["clip"](*batch)
        loss = contrastive(image, text, *past.past(), temperature)
        if number >= settled:
            past.push(image, text)
        return loss

    told = {**(about or {}), "queue": queue, "settled": settled}
    done = fit(
        {"clip": Towers(clip, past)},
        step,
        data,
        config,
        run_dir,
        about=told,
        evaluate=evaluate,
        resume=resume,
        cpu=cpu,
        label=label,
    )
    clip.model.requires_grad_(False)
    return done


def recall_of(
    images: Units, texts: Float[Tensor, "T D"], owner: Int[Tensor, " T"], ks: Sequence[int] = (1, 5)
) -> dict[str, float]:
    """recall@k of texts that look for their picture, as numbers for metrics.jsonl. owner: each text's picture."""
    scores = texts @ images.T
    ranks = (scores >= scores.gather(1, owner[:, None])).sum(1) - 1
    return {f"recall_at_{k}": float((ranks < k).float().mean()) for k in ks}


def save_clip(clip: Clip, folder: Path) -> Path:
    """Writes weights, tokenizer and how pixels are prepared, whole or not at all, for `Clip.from_pretrained` and plain
    transformers. Raises BadInput where the folder cannot be written."""
    with whole_folder(folder) as partial:
        with no_bars(quiet=True):
            clip.model.save_pretrained(partial)
        clip.tokenizer.save_pretrained(partial)
        clip.pixels.save_pretrained(partial)
    return folder
