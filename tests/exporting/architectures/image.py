"""Architectures that take images. Each has an image processor of its own class, for small images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from edgekit.exporting.quiet import kept_environment, quiet_libraries
from tests.exporting.architectures.base import Architecture, Head, Recipe, save_model
from tests.exporting.architectures.text import CLIP as CLIP_TOKENIZER
from tests.exporting.architectures.text import POSITIONS, T5, Maker, vocabulary_of

#: Height and width that models of one size take.
SIDE = 64
CLASSIFY, SEGMENT, DETECT = "image-classification", "semantic-segmentation", "object-detection"
EMBED, EMBED_TEXT = "image-embedding", "sentence-embedding"

HEADS = {
    CLASSIFY: Head(model="AutoModelForImageClassification", labels=("cat", "dog", "lamp", "train")),
    SEGMENT: Head(model="AutoModelForSemanticSegmentation", labels=("ground", "sky", "house")),
    DETECT: Head(model="AutoModelForObjectDetection", labels=("cat", "dog", "lamp")),
    EMBED: Head(model="AutoModel"),
    EMBED_TEXT: Head(model="AutoModel"),
}

# --- image processors -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """kind: name of the transformers class; options: what differs from its defaults."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Save the image processor in `folder`."""
        with kept_environment(), quiet_libraries():
            import transformers

            # Without torchvision transformers reads images by Pillow, in classes beside the others.
            getattr(transformers, f"{self.kind}Pil")(**self.options).save_pretrained(folder)


_SQUARE = {"height": SIDE, "width": SIDE}
_SHORT, _SHORT_AND_MORE = {"shortest_edge": SIDE}, {"shortest_edge": SIDE + 8}
_CUT = {"size": _SHORT_AND_MORE, "crop_size": _SQUARE}

VIT = Look(kind="ViTImageProcessor", options={"size": _SQUARE})
CONVNEXT = Look(kind="ConvNextImageProcessor", options={"size": _SHORT})
BEIT = Look(kind="BeitImageProcessor", options={"size": _SQUARE, "crop_size": _SQUARE})
BIT = Look(kind="BitImageProcessor", options=_CUT)
MOBILEVIT = Look(kind="MobileViTImageProcessor", options=_CUT)
PVT = Look(kind="PvtImageProcessor", options={"size": _SQUARE})
SEGFORMER = Look(kind="SegformerImageProcessor", options={"size": _SQUARE})
_EDGES = {"size": {"shortest_edge": 48, "longest_edge": 80}}

# --- folders --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a folder is made of. model: a class other than that of the task's Auto class."""

    recipe: Recipe
    look: Look
    model: str = ""
    tokenizer: Maker | None = None


def _build(folder: Path, task: str, *, source: Source) -> None:
    head, recipe = HEADS[task], source.recipe
    if source.model:
        head = Head(model=source.model, labels=head.labels)
    if source.tokenizer is not None:
        with kept_environment(), quiet_libraries():
            tokenizer = source.tokenizer()
            tokenizer.save_pretrained(folder)
        text = {**vocabulary_of(tokenizer), **recipe.changes["text_config"]}
        recipe = Recipe(
            config=recipe.config, changes={**recipe.changes, "text_config": text}, spread=recipe.spread
        )
    source.look.save(folder)
    save_model(folder, recipe, head)


def _image(
    name: str,
    config: str,
    look: Look,
    tasks: tuple[str, ...] = (CLASSIFY,),
    spread: float = 0.1,
    **changes: object,
) -> Architecture:
    source = Source(recipe=Recipe(config=config, changes=changes, spread=spread, pixels=SIDE), look=look)
    return Architecture(name=name, kind="image", tasks=tasks, build=partial(_build, source=source))


def _taught(name: str, model: str, recipe: Recipe, look: Look) -> Architecture:
    """One with the two heads of training by a teacher."""
    source = Source(recipe=recipe, look=look, model=model)
    return Architecture(name=name, kind="image", tasks=(CLASSIFY,), build=partial(_build, source=source))


def _towers(
    name: str, config: str, look: Look, tokenizer: Maker, changes: Mapping[str, object]
) -> Architecture:
    """One of images and texts; its config does not say which of the two is wanted."""
    source = Source(recipe=Recipe(config=config, changes=changes), look=look, tokenizer=tokenizer)
    return Architecture(
        name=name,
        kind="image",
        tasks=(CLASSIFY, EMBED, EMBED_TEXT),
        build=partial(_build, source=source),
        named=(EMBED, EMBED_TEXT),
    )


_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": SIDE,
    "patch_size": 16,
}
_DINO = {name: value for name, value in _VIT.items() if name != "intermediate_size"} | {"image_size": 80}
_SWIN = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "image_size": SIDE}
_STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
_PYRAMID = {**_STAGES, "num_attention_heads": [1, 2, 3, 4], "mlp_ratios": [2, 2, 2, 2]}
_LEVIT = {
    "image_size": SIDE,
    "hidden_sizes": [32, 48, 64],
    "num_attention_heads": [2, 3, 4],
    "depths": [1, 1, 1],
    "key_dim": [8, 8, 8],
}
_EFFICIENT = {
    "image_size": SIDE,
    "width_coefficient": 0.25,
    "depth_coefficient": 1.0,
    "kernel_sizes": [3, 3, 5],
    "in_channels": [32, 16, 24],
    "out_channels": [16, 24, 40],
    "strides": [1, 2, 2],
    "num_block_repeats": [1, 2, 1],
    "expand_ratios": [1, 6, 6],
    "hidden_dim": 320,
}
_HIERA = {
    "embed_dim": 16,
    "image_size": [SIDE, SIDE],
    "depths": [1, 1, 1],
    "num_heads": [1, 2, 4],
    "num_query_pool": 2,
    "masked_unit_attention": [True, True, False],
}
_RESNET = {"embedding_size": 8, **_STAGES}
_DETR = {
    "use_timm_backbone": False,
    "backbone_config": {"model_type": "resnet", **_RESNET, "out_features": ["stage4"]},
    "num_queries": 10,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}
_UPERNET = {
    "backbone_config": {
        "model_type": "convnext",
        **_STAGES,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
    "hidden_size": 32,
    "auxiliary_in_channels": 24,
    "auxiliary_channels": 16,
}
_DPT = {
    **_VIT,
    "num_hidden_layers": 4,
    "backbone_out_indices": [0, 1, 2, 3],
    "neck_hidden_sizes": [8, 16, 24, 32],
    "fusion_hidden_size": 16,
}
_TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_CLIP = {
    "text_config": {**_TOWER, "projection_dim": 24, "max_position_embeddings": POSITIONS},
    "vision_config": {**_TOWER, "projection_dim": 24, "image_size": SIDE, "patch_size": 16},
    "projection_dim": 24,
}
_SIGLIP = {
    "text_config": {**_TOWER, "max_position_embeddings": POSITIONS},
    "vision_config": {**_TOWER, "image_size": SIDE, "patch_size": 16},
}

ARCHITECTURES = (
    _image("ViT", "ViTConfig", VIT, (CLASSIFY, EMBED), **_VIT),
    _image(
        "DeiT",
        "DeiTConfig",
        Look(kind="DeiTImageProcessor", options={"size": {"height": 72, "width": 72}, "crop_size": _SQUARE}),
        (CLASSIFY, EMBED),
        **_VIT,
    ),
    _taught(
        "DeiT (distilled)",
        "DeiTForImageClassificationWithTeacher",
        Recipe(config="DeiTConfig", changes=_VIT, spread=0.1),
        VIT,
    ),
    _image(
        "BEiT",
        "BeitConfig",
        BEIT,
        (CLASSIFY, SEGMENT, EMBED),
        **{**_VIT, "num_hidden_layers": 4, "out_indices": [1, 2, 3, 4]},
        use_relative_position_bias=True,
        auxiliary_channels=16,
    ),
    _image(
        "Data2VecVision",
        "Data2VecVisionConfig",
        BEIT,
        **_VIT,
        use_shared_relative_position_bias=True,
    ),
    _image("ViT-MSN", "ViTMSNConfig", VIT, **_VIT),
    _image("DINOv2", "Dinov2Config", BIT, (CLASSIFY, EMBED), **_DINO),
    _image("DINOv2 with registers", "Dinov2WithRegistersConfig", BIT, **_DINO),
    _image("Swin", "SwinConfig", VIT, **_SWIN),
    _image("Swin-v2", "Swinv2Config", VIT, **_SWIN),
    _image("ConvNeXT", "ConvNextConfig", CONVNEXT, **_STAGES),
    _image("ConvNeXT-v2", "ConvNextV2Config", CONVNEXT, **_STAGES),
    _image("ResNet", "ResNetConfig", CONVNEXT, **_RESNET),
    _image("RegNet", "RegNetConfig", CONVNEXT, **{**_RESNET, "groups_width": 8}),
    _image(
        "BiT",
        "BitConfig",
        BIT,
        **{**_RESNET, "hidden_sizes": [16, 32, 48, 64], "embedding_size": 16},
        num_groups=4,
        global_padding="same",
    ),
    _image(
        "MobileNet-v1",
        "MobileNetV1Config",
        Look(kind="MobileNetV1ImageProcessor", options=_CUT),
        spread=0.03,
        depth_multiplier=0.25,
        image_size=SIDE,
    ),
    _image(
        "MobileNet-v2",
        "MobileNetV2Config",
        Look(kind="MobileNetV2ImageProcessor", options=_CUT),
        (CLASSIFY, SEGMENT),
        spread=0.03,
        depth_multiplier=0.35,
        image_size=SIDE,
    ),
    _image(
        "EfficientNet",
        "EfficientNetConfig",
        Look(kind="EfficientNetImageProcessor", options={"size": _SQUARE, "crop_size": _SQUARE}),
        spread=0.4,
        **_EFFICIENT,
    ),
    _image(
        "MobileViT",
        "MobileViTConfig",
        MOBILEVIT,
        (CLASSIFY, SEGMENT),
        spread=0.2,
        image_size=SIDE,
        hidden_sizes=[16, 24, 32],
        neck_hidden_sizes=[8, 8, 16, 16, 24, 32, 32],
        aspp_out_channels=16,
    ),
    _image(
        "MobileViT-v2",
        "MobileViTV2Config",
        MOBILEVIT,
        spread=0.2,
        image_size=SIDE,
        n_attn_blocks=[1, 1, 1],
        base_attn_unit_dims=[16, 24, 32],
        aspp_out_channels=16,
        width_multiplier=0.5,
    ),
    _image(
        "PoolFormer",
        "PoolFormerConfig",
        Look(kind="PoolFormerImageProcessor", options={"size": _SHORT, "crop_size": _SQUARE}),
        **_STAGES,
    ),
    _image("PVT", "PvtConfig", PVT, **_PYRAMID, image_size=SIDE),
    _image("PVT-v2", "PvtV2Config", PVT, **_PYRAMID, image_size=SIDE),
    _taught(
        "LeViT",
        "LevitForImageClassificationWithTeacher",
        # Attention so sharp on settled statistics that torch differs from itself by 0.1 (fp32, fp64).
        Recipe(config="LevitConfig", changes=_LEVIT, spread=0.13),
        Look(kind="LevitImageProcessor", options={"size": _SHORT, "crop_size": _SQUARE}),
    ),
    _image("CvT", "CvtConfig", CONVNEXT, embed_dim=[16, 32, 48], num_heads=[1, 2, 3], depth=[1, 2, 3]),
    _image(
        "FocalNet",
        "FocalNetConfig",
        BIT,
        embed_dim=16,
        depths=[1, 1],
        hidden_sizes=[16, 32],
        focal_levels=[2, 2],
        focal_windows=[3, 3],
        image_size=SIDE,
    ),
    _image("Hiera", "HieraConfig", BIT, **_HIERA),
    _image(
        "SwiftFormer", "SwiftFormerConfig", VIT, spread=0.2, depths=[1, 1, 1, 1], embed_dims=[8, 16, 24, 32]
    ),
    _image(
        "SegFormer", "SegformerConfig", SEGFORMER, (CLASSIFY, SEGMENT), **_PYRAMID, decoder_hidden_size=32
    ),
    _image("UPerNet (ConvNeXT)", "UperNetConfig", SEGFORMER, (SEGMENT,), **_UPERNET),
    _image("DPT", "DPTConfig", Look(kind="DPTImageProcessor", options={"size": _SQUARE}), (SEGMENT,), **_DPT),
    _image(
        "DETR (ResNet)", "DetrConfig", Look(kind="DetrImageProcessor", options=_EDGES), (DETECT,), **_DETR
    ),
    _image(
        "YOLOS",
        "YolosConfig",
        Look(kind="YolosImageProcessor", options=_EDGES),
        (DETECT,),
        **{**_VIT, "image_size": [SIDE, SIDE + 16]},
        num_detection_tokens=10,
    ),
    _towers(
        "CLIP",
        "CLIPConfig",
        Look(kind="CLIPImageProcessor", options={"size": _SHORT, "crop_size": _SQUARE}),
        CLIP_TOKENIZER,
        _CLIP,
    ),
    _towers(
        "SigLIP", "SiglipConfig", Look(kind="SiglipImageProcessor", options={"size": _SQUARE}), T5, _SIGLIP
    ),
)
