"""What every test shares: where the test data is, a tiny model set, and quiet, offline libraries."""

import importlib
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from postgres import Postgres, running

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test never asks a hub; a hub id that is not cached fails at once
os.environ.setdefault("MPLBACKEND", "Agg")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what runs behind it; its children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """To the bit means: with as many threads, since sums are taken in another order with others."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A server on loopback, for all tests that leave it running."""
    with running() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """The URL of an empty database."""
    name = f"db{uuid.uuid4().hex}"
    yield postgres_server.database(name)
    postgres_server.drop(name)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test pictures and weights, which the project does not ship.

    Named by GOODEYE_TEST_DATA; else looked for beside the repository. Where it is absent, the test is skipped.
    """
    named = os.environ.get("GOODEYE_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; name its folder in GOODEYE_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TOML file of a whole model set with random weights (32-pixel pictures, 16x16 latents of 4 channels).

    Saved once for all tests: copy its folder to break it.
    """
    from ads.tiny_set import save_tiny_set

    return save_tiny_set(tmp_path_factory.mktemp("tiny-set"))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A script of bench/ by its name, as `python bench/NAME.py` would find it."""
    monkeypatch.syspath_prepend(REPOSITORY / "bench")
    return importlib.import_module


@pytest.fixture(scope="session")
def diffusers_pipeline() -> Callable[..., Any]:
    """diffusers' own ControlNet inpainting, loaded without our code from a set's folder; parts may be given instead."""

    def load(folder: Path, **parts: Any) -> Any:
        import diffusers
        import transformers

        kinds = {
            "vae": diffusers.AutoencoderKL,
            "text_encoder": transformers.CLIPTextModel,
            "tokenizer": transformers.PreTrainedTokenizerFast,
            "unet": diffusers.UNet2DConditionModel,
            "controlnet": diffusers.ControlNetModel,
            "scheduler": diffusers.DDIMScheduler,
        }
        loaded = {role: parts.get(role) or kind.from_pretrained(folder / role) for role, kind in kinds.items()}
        pipe = diffusers.StableDiffusionControlNetInpaintPipeline(
            **loaded, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return load


@pytest.fixture(scope="session")
def inpainted_by_diffusers() -> Callable[..., Any]:
    """One picture [3, S, S] around a canvas' product by such a pipeline, with the noise of seed 7, product pasted."""

    def make(pipe: Any, canvas: Any, prompt: str, settings: Any) -> Any:
        from goodeye.diffusion.batch import noise_of

        vae, side, alpha = pipe.vae, settings.size, canvas.product[3:]
        # ours takes the mean of the posterior, theirs draws from it
        pipe._encode_vae_image = lambda image, generator=None: (
            vae.encode(image).latent_dist.mode() * vae.config.scaling_factor
        )
        picture = pipe(
            prompt=prompt,
            negative_prompt=settings.negative_prompt,
            image=(alpha * canvas.product[:3] + (1 - alpha) * 0.5)[None],
            mask_image=1 - canvas.mask[None],
            control_image=canvas.control[None],
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            controlnet_conditioning_scale=settings.control_scale,
            strength=1.0,
            latents=noise_of(7, (4, side // 2, side // 2))[None],
            height=side,
            width=side,
            output_type="pt",
        ).images[0]
        return alpha * canvas.product[:3] + (1 - alpha) * picture

    return make
