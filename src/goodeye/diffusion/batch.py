"""What every job that generates needs: seeds and noise, prompts encoded once, networks laid out, work on all cores."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from goodeye.diffusion import text
from goodeye.diffusion.predict import Latents
from goodeye.diffusion.schedule import Step

if TYPE_CHECKING:
    from goodeye.modelset import Models

PROMPTS_HELD = 1024  # embeddings kept at once
PART = 4  # pictures that a core should have at least; below, a core's time goes into small steps

S = TypeVar("S")
T = TypeVar("T")


def attempt_seed(run_seed: int, brief: str, slot: int, number: int) -> int:
    """The attempt's own seed, 63 bits, from the run's seed and its place: the same in whatever batch it runs."""
    digest = hashlib.sha256(f"{run_seed}/{brief}/{slot}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def noise_of(seed: int, shape: Sequence[int]) -> Float[Tensor, "C h w"]:
    """Standard normal noise of one picture, drawn on the CPU: the same on every device and in every batch."""
    return torch.randn(tuple(shape), generator=torch.Generator("cpu").manual_seed(seed))


def step_noise(seeds: Sequence[int], like: Latents) -> Callable[[Step], Latents]:
    """What a sampler that adds noise adds at a step: for each picture its own, by its seed and the step's index."""

    def noise(step: Step) -> Latents:
        each = [noise_of(attempt_seed(seed, "step", step.index, 1), like.shape[1:]) for seed in seeds]
        return torch.stack(each).to(like)

    return noise


@dataclass
class Prompts:
    """The text encoder's states, each prompt encoded once."""

    models: "Models"
    held: dict[str, Float[Tensor, "L D"]] = field(default_factory=dict)

    def __call__(self, prompts: Sequence[str]) -> Float[Tensor, "N L D"]:
        """The states of the prompts, in order."""
        wanted = list(dict.fromkeys(prompts))
        new = [prompt for prompt in wanted if prompt not in self.held]
        if len(self.held) + len(new) > PROMPTS_HELD:
            self.held = {prompt: self.held[prompt] for prompt in wanted if prompt in self.held}
        if new:
            with torch.no_grad():
                states = text.encode(self.models.tokenizer, self.models.text_encoder, new)
            self.held.update(zip(new, states, strict=True))
        return torch.stack([self.held[prompt] for prompt in prompts])


def lay_out(models: "Models") -> None:
    """Lays the weights out by pixels: a quarter to a third less time on a CPU, batches most."""
    for network in (models.unet, models.controlnet, models.vae):
        network.to(memory_format=torch.channels_last)


def on_cores(work: Callable[[Sequence[S]], list[T]], items: Sequence[S], device: str) -> list[T]:
    """work(items) in parts, one for each of a CPU's cores: small networks gain little from several cores on one tensor.

    Elsewhere, with one thread (OMP_NUM_THREADS=1) and for small batches all is one part.
    """
    threads = torch.get_num_threads()
    count = min(threads, len(items) // PART) if device == "cpu" else 1
    if count <= 1:
        return work(items)

    def part(number: int) -> list[T]:
        torch.set_num_threads(threads // count)  # of this thread
        return work(items[number * len(items) // count : (number + 1) * len(items) // count])

    try:
        with ThreadPoolExecutor(count) as pool:
            return [one for some in pool.map(part, range(count)) for one in some]
    finally:
        torch.set_num_threads(threads)


def eight_bit(images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 3 H W"]:
    """The pictures as a file will hold them, so that the inspector judges what is kept. Raises ValueError for NaN."""
    if bool(images.isnan().any()):
        raise ValueError("the generator made NaN instead of a picture")
    return (images.clamp(0, 1) * 255).round() / 255
