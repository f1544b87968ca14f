"""A whole model set with random weights, in the standard layouts, small enough to make a picture in milliseconds."""

from pathlib import Path

import torch

SIZE = 32  # pixels of its pictures; latents are 16x16
WORDS = ["a", "red", "blue", "shoe", "bag", "cup", "on", "in", "the", "kitchen", "beach", "product"]


def save_tiny_set(folder: Path) -> Path:
    """Saves every role below `folder` and returns the TOML file that names them."""
    torch.manual_seed(0)
    save_generator(folder)
    save_inspector(folder)
    roles = ("vae", "text_encoder", "tokenizer", "unet", "controlnet", "scheduler", "depth", "saliency", "rfnet")
    lines = ['name = "tiny"', "[roles]", *(f'{role} = "{role}"' for role in roles)]
    lines += ["[settings]", f"size = {SIZE}", "steps = 2", "guidance_scale = 3.0", "product_scale = 0.5"]
    lines += ['prompts = ["a {title} on the beach", "a {title} in the kitchen"]']
    toml = folder / "tiny.toml"
    toml.write_text("\n".join(lines) + "\n")
    return toml


def save_generator(folder: Path) -> None:
    from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = word_tokenizer(WORDS, length=8)
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
        **special,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        layers_per_block=1,
        norm_num_groups=4,
    )
    unet = UNet2DConditionModel(
        sample_size=SIZE // 2,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16))
    for parameter in controlnet.parameters():  # from_unet starts its outputs at zero, which would hide it
        torch.nn.init.normal_(parameter, std=0.2)
    tokenizer.save_pretrained(folder / "tokenizer")
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    vae.save_pretrained(folder / "vae")
    unet.save_pretrained(folder / "unet")
    controlnet.save_pretrained(folder / "controlnet")
    DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1).save_pretrained(
        folder / "scheduler"
    )


def save_inspector(folder: Path) -> None:
    from transformers import GLPNConfig, GLPNForDepthEstimation, SegformerConfig, SegformerForSemanticSegmentation

    from goodeye.judging.pixels import Pixels
    from goodeye.judging.rfnet import RFNet, RFNetConfig

    mix = {
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [8, 16, 16, 24],
        "num_attention_heads": [1, 1, 2, 2],
        "decoder_hidden_size": 16,
    }
    GLPNForDepthEstimation(GLPNConfig(**mix, max_depth=10)).save_pretrained(folder / "depth")
    Pixels(divisor=32).save_pretrained(folder / "depth")
    config = SegformerConfig(**mix, num_labels=1, semantic_loss_ignore_index=-100)
    SegformerForSemanticSegmentation(config).save_pretrained(folder / "saliency")
    Pixels(divisor=32).save_pretrained(folder / "saliency")
    tokenizer = word_tokenizer(WORDS, length=8)
    rfnet = RFNetConfig(
        image_encoder={
            "embedding_size": 8,
            "hidden_sizes": [8, 12, 16, 24],
            "depths": [1, 1, 1, 1],
            "layer_type": "basic",
        },
        text_encoder={
            "model_type": "bert",
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 16,
        },
        image_size=32,
        feature_stride=16,
        width=16,
        heads=2,
        n2=1,
        title_length=8,
    )
    RFNet(rfnet).save_pretrained(folder / "rfnet")
    tokenizer.save_pretrained(folder / "rfnet")


def word_tokenizer(words: list[str], length: int):
    """A word-level tokenizer in the transformers layout that frames a prompt as CLIP's does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<pad>", "<start>", "<unknown>", *words, "<end>"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[(name, vocabulary[name]) for name in ("<start>", "<end>")]
    )
    names = {"pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>", "unk_token": "<unknown>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=length, **names)
