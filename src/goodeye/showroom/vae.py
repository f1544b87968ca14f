"""The showroom's VAE: an encoder that is solved, and a decoder that is trained.

The best linear code of 8x8 patches (principal components) keeps 30 dB in 16 numbers, at once and without training. An
`AutoencoderKL` encoder can hold it exactly: its residual blocks are set to zero, its strided convolutions gather
patches, and its last norm is kept from doing anything by channels of constant value that fix its statistics. So
latents are known before any training, the U-Net trains on them while the decoder learns to read them, and decoding
can be improved later without training anything else again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from goodeye.training.loop import Loop, Modules, Result, fit, shuffled

CHANNELS = (16, 32, 64, 128)
LATENTS = 16
GROUPS = 8
CARRIER = 16.0  # value of the constant channels; their square must dwarf the signals'
LIFT = 10.0  # brings signals into the range in which SiLU is the identity


def new_vae() -> AutoencoderKL:
    """An untrained VAE of the showroom's shape: 128 pixels to 16x16 latents of 16 channels."""
    n = len(CHANNELS)
    return AutoencoderKL(
        block_out_channels=CHANNELS,
        latent_channels=LATENTS,
        norm_num_groups=GROUPS,
        layers_per_block=1,
        mid_block_add_attention=False,
        down_block_types=("DownEncoderBlock2D",) * n,
        up_block_types=("UpDecoderBlock2D",) * n,
        sample_size=128,
        scaling_factor=1.0,
    )


def patches(images: np.ndarray) -> np.ndarray:
    """uint8 [N,3,H,W] -> float32 [N*H/8*W/8, 192] in [-1,1]; a row's order is (y, x, channel)."""
    n, c, h, w = images.shape
    x = images.reshape(n, c, h // 8, 8, w // 8, 8).transpose(0, 2, 4, 3, 5, 1)
    return x.reshape(-1, 64 * c).astype(np.float32) / 127.5 - 1


def principal(images: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Mean patch [192], the first 16 components as rows [16,192], and their standard deviations [16], largest first."""
    x = patches(images)
    mean = x.mean(0)
    values, vectors = np.linalg.eigh(np.cov((x - mean).T))
    top = np.argsort(values)[::-1][:LATENTS]
    return (
        torch.from_numpy(mean),
        torch.from_numpy(vectors[:, top].T.astype(np.float32).copy()),
        torch.from_numpy(np.sqrt(values[top]).astype(np.float32)),
    )


@torch.no_grad()
def solve_encoder(vae: AutoencoderKL, images: np.ndarray) -> None:
    """Sets the encoder to the principal components of 8x8 patches of `images` (uint8 [N,3,128,128]).

    Latents are brought nearer to equal spread (each component divided by the square root of its deviation, then all
    by one number to a deviation of 1), which diffusion needs, without making noise of the small components.
    """
    mean, components, spread = principal(images)
    scale = spread.sqrt() / spread.sqrt().square().mean().sqrt()
    rows = components * (scale / spread)[:, None]  # [16,192]: latent = rows @ (patch - mean)
    gain = 0.4  # signals inside stay well under the carriers
    e = vae.encoder
    for module in e.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.zero_()
            if module.bias is not None:
                module.bias.zero_()
    # Channel order on the way down: (y, x, colour) of the patch so far. conv_in passes the three colours.
    e.conv_in.weight[torch.arange(3), torch.arange(3), 1, 1] = 1.0
    e.conv_in.bias.zero_()
    here = np.arange(3)  # which channels are in use
    basis = torch.eye(3)  # what they hold, as functions of the pixels of the patch so far: [channels, side*side*3]
    side = 1
    for level, block in enumerate(e.down_blocks):
        resnet = block.resnets[0]
        if resnet.conv_shortcut is not None:
            resnet.conv_shortcut.weight[here, here, 0, 0] = 1.0
        if level == len(CHANNELS) - 1:
            break
        joined = _join(basis, side)  # [4*channels, (2*side)^2*3] what the four neighbours hold together
        side *= 2
        width = CHANNELS[level]
        if side == 8:
            mix = torch.linalg.lstsq(joined.T, (gain * rows).T).solution.T  # [16, 4*channels]
        elif len(joined) <= width:
            mix = torch.eye(len(joined))
        else:  # more than fits: the principal part of what small patches show
            small = _small(images, side)
            values, vectors = torch.linalg.eigh(torch.cov((small @ joined.T).T))
            mix = vectors[:, values.argsort(descending=True)[:width]].T
        conv, n = block.downsamplers[0].conv, len(here)
        for i in range(4):
            conv.weight[: len(mix), :n, i // 2, i % 2] = mix[:, i * n : (i + 1) * n]
        here, basis = np.arange(len(mix)), mix @ joined
    # 128 channels in 8 groups: two signals, seven carriers up and seven down in each.
    size = CHANNELS[-1] // GROUPS
    last = e.down_blocks[-1].resnets[0].conv_shortcut
    last.weight.zero_()
    offset = gain * rows @ mean
    for k in range(LATENTS):
        at = (k // 2) * size + k % 2
        last.weight[at, k, 0, 0] = 1.0
        last.bias[at] = -offset[k]
    for g in range(GROUPS):
        last.bias[g * size + 2 : g * size + 9] = CARRIER
        last.bias[g * size + 9 : (g + 1) * size] = -CARRIER
    sigma = CARRIER * (14 / 16) ** 0.5
    e.conv_norm_out.weight.fill_(sigma)
    e.conv_norm_out.bias.fill_(LIFT)
    for k in range(LATENTS):  # signal minus carrier, so that the group's mean cancels
        g = k // 2
        e.conv_out.weight[k, g * size + k % 2, 1, 1] = 1 / gain
        e.conv_out.weight[k, g * size + 2 : g * size + 9, 1, 1] = -1 / gain / 7
        e.conv_out.bias[k] = CARRIER / gain
    e.conv_out.bias[LATENTS:] = -20.0  # variance: none to speak of
    if vae.quant_conv is not None:
        vae.quant_conv.weight.copy_(torch.eye(2 * LATENTS)[:, :, None, None])
        vae.quant_conv.bias.zero_()


def _join(basis: Tensor, side: int) -> Tensor:
    """The functions of four neighbouring patches of `side`, as functions of the patch of twice the side."""
    n = len(basis)
    out = torch.zeros(4, n, 2 * side, 2 * side, 3)
    small = basis.view(n, side, side, 3)
    for i in range(4):
        y, x = (i // 2) * side, (i % 2) * side
        out[i, :, y : y + side, x : x + side] = small
    return out.view(4 * n, -1)


def _small(images: np.ndarray, side: int) -> Tensor:
    """Patches of `side` from a few images, [M, side*side*3] in (y, x, channel) order."""
    x = torch.from_numpy(images[:256].astype(np.float32) / 127.5 - 1)
    return F.unfold(x, side, stride=side).transpose(1, 2).reshape(-1, 3, side, side).permute(0, 2, 3, 1).flatten(1)


def psnr(vae: AutoencoderKL, images: np.ndarray, batch: int = 32) -> np.ndarray:
    """Decibels of each image [N] after encoding and decoding; uint8 [N,3,H,W] in."""
    out = []
    for i in range(0, len(images), batch):
        x = torch.from_numpy(np.asarray(images[i : i + batch])).float() / 127.5 - 1
        with torch.no_grad():
            y = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        out.append(-10 * torch.log10(((y - x) / 2).square().mean((1, 2, 3))))
    return torch.cat(out).numpy()


def latents_of(images: np.ndarray, fit_on: np.ndarray, batch: int = 512) -> np.ndarray:
    """The solved encoder's latents of images (uint8 [N,3,128,128]), computed directly: float16 [N,16,16,16]."""
    mean, components, spread = principal(fit_on)
    scale = spread.sqrt() / spread.sqrt().square().mean().sqrt()
    rows = (components * (scale / spread)[:, None]).numpy().T
    out = []
    for i in range(0, len(images), batch):
        z = (patches(np.asarray(images[i : i + batch])) - mean.numpy()) @ rows
        out.append(z.reshape(-1, 16, 16, LATENTS).transpose(0, 3, 1, 2).astype(np.float16))
    return np.concatenate(out)


def train_decoder(
    vae: AutoencoderKL,
    images: np.ndarray,
    latents: np.ndarray,
    held: np.ndarray,
    run_dir: Path,
    config: Loop,
    batch: int,
) -> Result:
    """Trains the decoder to read the solved latents; L1 + 4 MSE on whole pictures."""
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    with torch.no_grad():
        vae.post_quant_conv.weight.copy_(torch.eye(LATENTS)[:, :, None, None])
        vae.post_quant_conv.bias.zero_()
    items = shuffled(len(images), batch, config.seed)

    def data(index: int) -> tuple[Tensor, Tensor]:
        ids = sorted(items(index))
        return torch.from_numpy(latents[ids]).float(), torch.from_numpy(images[ids]).float() / 127.5 - 1

    def step(nets: Modules, pair: tuple[Tensor, Tensor], number: int) -> Tensor:
        z, x = pair
        net: Any = nets["vae"]
        with torch.autocast(z.device.type, torch.bfloat16):
            y = net.decode(z).sample
        d = y.float() - x
        return d.abs().mean() + 4 * d.square().mean()

    def evaluate(number: int) -> dict[str, float]:
        return {"psnr": float(psnr(vae, held).mean())}

    return fit({"vae": vae}, step, data, config, run_dir, evaluate=evaluate, resume=True, label="vae decoder")
