"""The reward module: what the scores and failure texts of an edit add to a U-Net editor, beside it and not in it.

"Multi-Reward as Condition for Instruction-based Image Editing" (arXiv 2411.04713). Three scores and the failure texts
reach the U-Net at two places: as two tokens to which the picture behind conv_in attends (injection A), and as an
addition to the time embedding, so in every residual block (injection B). The U-Net stays what it is, a diffusers model
with its own weights and files: hooks on its conv_in and time_embedding add, and add nothing in a plain call.
"""

from threading import local
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from goodeye.edit.rewards import AXES

FREQUENCIES = 256  # sines and cosines a score


class RewardModule(ModelMixin, ConfigMixin):
    """PE, MLP_1, MLP_2, Lin_1, Lin_2 and the cross attention of the paper; 5,026,880 parameters at SD 1.5's size.

    width: channels behind the U-Net's conv_in. time: of its time embedding. text: of the pooled failure texts. groups:
    of the GroupNorm. The switches are for ablations: use_scores, use_text; inject_a (tokens), inject_b (time
    embedding); type_embedding, a learned vector for each token, is in the paper's figure and not in its code.

    What is added is exactly zero at first (ours), so that training starts from the editor as it was.
    """

    @register_to_config
    def __init__(
        self,
        width: int = 320,
        time: int = 1280,
        text: int = 768,
        heads: int = 8,
        groups: int = 32,
        use_scores: bool = True,
        use_text: bool = True,
        inject_a: bool = True,
        inject_b: bool = True,
        type_embedding: bool = False,
    ) -> None:
        super().__init__()
        if not (use_scores or use_text) or not (inject_a or inject_b):
            raise ValueError("a reward module needs scores or text, by injection A or B")
        coded = len(AXES) * FREQUENCIES
        self.mlp_1 = TimestepEmbedding(coded, time) if inject_b and use_scores else None
        self.lin_1 = nn.Linear(text, time) if inject_b and use_text else None
        self.mlp_2 = TimestepEmbedding(coded, width) if inject_a and use_scores else None
        self.lin_2 = nn.Linear(text, width) if inject_a and use_text else None
        self.cross = TokenAttention(width, heads, groups) if inject_a else None
        self.types = nn.Parameter(torch.zeros(use_scores + use_text, width)) if inject_a and type_embedding else None
        for last in (self.mlp_1 and self.mlp_1.linear_2, self.lin_1, self.cross and self.cross.proj_out):
            if isinstance(last, nn.Linear | nn.Conv2d) and last.bias is not None:
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    @classmethod
    def beside(cls, unet: Any, text: int, **switches: bool) -> "RewardModule":
        """A new module of this diffusers U-Net's sizes. text: size of the text encoder's pooled output."""
        width, groups = unet.config.block_out_channels[0], unet.config.norm_num_groups
        heads = max(count for count in range(1, 9) if width % count == 0)
        time = unet.time_embedding.linear_2.out_features
        return cls(width=width, time=time, text=text, heads=heads, groups=groups, **switches)

    def additions(
        self, rewards: Float[Tensor, "N 3"], feedback: Float[Tensor, "N D"]
    ) -> tuple[Tensor | None, Tensor | None]:
        """What is added to the time embedding, [N, time], and the tokens to attend to, [N, 1 or 2, width].

        rewards: raw scores, 0 to 5, in the order of AXES. None where a part is switched off.
        """
        coded = encode_scores(rewards).to(self.dtype)
        feedback = feedback.to(self.dtype)
        pairs = ((self.mlp_1, coded), (self.lin_1, feedback)), ((self.mlp_2, coded), (self.lin_2, feedback))
        time, tokens = ([part(given) for part, given in two if part is not None] for two in pairs)
        stacked = torch.stack(tokens, 1) if tokens else None
        if stacked is not None and self.types is not None:
            stacked = stacked + self.types
        return sum(time[1:], time[0]) if time else None, stacked


class TokenAttention(nn.Module):
    """proj_out(FFN(CrossAttn(Q = 1x1(GroupNorm(h)), K = V = tokens))), to be added to h: a BERT layer over pixels."""

    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.attend = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm_1 = nn.LayerNorm(width, eps=1e-12)
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width, eps=1e-12)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, h: Float[Tensor, "N C h w"], tokens: Float[Tensor, "N K C"]) -> Float[Tensor, "N C h w"]:
        """What the tokens have to say to each pixel."""
        asked = self.proj_in(self.norm(h)).flatten(2).transpose(1, 2)
        asked = self.norm_1(asked + self.attend(asked, tokens, tokens, need_weights=False)[0])
        asked = self.norm_2(asked + self.out(F.gelu(self.hidden(asked))))
        return self.proj_out(asked.transpose(1, 2).reshape(h.shape))


class Rewarded(nn.Module):
    """A diffusers U-Net that also takes rewards and feedback: for `diffusion.denoiser.mixed` and for training.

    The U-Net itself is not changed: called without this wrapper it answers as before, and each part saves itself by
    save_pretrained. Several threads may call it at once.
    """

    def __init__(self, unet: Any, module: RewardModule) -> None:
        super().__init__()
        self.unet, self.module = unet, module
        self._now = local()
        unet.time_embedding.register_forward_hook(self._add_time)
        unet.conv_in.register_forward_hook(self._add_tokens)

    @property
    def config(self) -> Any:
        """The U-Net's."""
        return self.unet.config

    def forward(
        self,
        sample: Float[Tensor, "N C h w"],
        timestep: Any,
        encoder_hidden_states: Float[Tensor, "N L D"],
        rewards: Float[Tensor, "N 3"],
        feedback: Float[Tensor, "N D"],
        given: Tensor | None = None,
        **more: Any,
    ) -> Any:
        """The U-Net's answer to `encoder_hidden_states` under these rewards. Other arguments go to the U-Net.

        given: [N, 1] of ones and zeros; where it is zero, nothing is added, as if there were no rewards.
        """
        time, tokens = self.module.additions(rewards, feedback)
        self._now.time, self._now.tokens, self._now.given = time, tokens, given
        try:
            return self.unet(sample, timestep, encoder_hidden_states=encoder_hidden_states, **more)
        finally:
            self._now.time = self._now.tokens = self._now.given = None

    def _add_time(self, part: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        time = getattr(self._now, "time", None)
        return None if time is None else output + self._masked(time).to(output.dtype)

    def _add_tokens(self, part: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        tokens = getattr(self._now, "tokens", None)
        if tokens is None or self.module.cross is None:
            return None
        return output + self._masked(self.module.cross(output.to(tokens.dtype), tokens)).to(output.dtype)

    def _masked(self, added: Tensor) -> Tensor:
        given = self._now.given
        return added if given is None else added * given.view(-1, *[1] * (added.ndim - 1)).to(added)


def encode_scores(rewards: Float[Tensor, "N 3"]) -> Float[Tensor, "N 768"]:
    """PE: each raw score as 256 cosines and sines, as diffusion timesteps are coded."""
    coded = get_timestep_embedding(rewards.flatten().float(), FREQUENCIES, flip_sin_to_cos=True, downscale_freq_shift=0)
    return coded.reshape(len(rewards), -1)
