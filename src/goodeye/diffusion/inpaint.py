"""Keeping a product in place while everything around it is made."""

from jaxtyping import Float
from torch import Tensor

from goodeye.diffusion.predict import Latents, add_noise
from goodeye.diffusion.samplers import Hook
from goodeye.diffusion.schedule import Schedule, Step


def blend(mask: Float[Tensor, "N 1 h w"], product: Latents, noise: Latents, schedule: Schedule) -> Hook:
    """After each step x_t = (1 - M) * x_t + M * x_o (ads paper eq. 2).

    mask: M, 1 where the product is kept, at latent size. product: clean latents of the picture with the product.
    noise: the noise of the first latents, the same at every step. x_o is the product noised to the level that the next
    step starts from, and clean after the last: what diffusers' inpainting does with a 4-channel U-Net.
    """

    def hook(latents: Latents, step: Step, x0: Latents) -> Latents:
        known = product if step.last else add_noise(product, noise, step.t_prev, schedule)
        return (1 - mask) * latents + mask * known

    return hook
