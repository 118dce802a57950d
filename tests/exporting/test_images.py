"""Models of images export with a processor that makes of files what transformers makes of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import edgekit
from edgekit.errors import ExportWrong, SourceError, UsageError
from edgekit.exporting.image_processor import derive_settings, load_image_processor, travelling_images
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.pictures import SIZES, draw, noise, png, tricky
from edgekit.exporting.quiet import kept_environment
from edgekit.files.manifests import read_manifest
from edgekit.values import ModelTable
from edgekit_runtime.goldens import read_goldens
from edgekit_runtime.processors import load_processor
from edgekit_runtime.processors.base import Image
from edgekit_runtime.processors.image import ImageProcessor
from tests.models import tiny_tokenizer

pytestmark = pytest.mark.slow

#: Of a tiny encoder in the manner of ViT.
ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.2,
}
LABELS = ("circle", "square", "star")
WIDTHS = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
FIXED, CROPPED = {"height": 32, "width": 32}, {"shortest_edge": 36}


@kept_environment()
def hub_class(name: str) -> Any:
    """A class of image processors, in its form that needs no torchvision."""
    import transformers

    return getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)


def resnet() -> Any:
    import transformers

    return transformers.ResNetConfig(**WIDTHS, out_features=["stage4"])


def clip_config() -> dict[str, Any]:
    from tests.models import vocabulary

    text = {key: value for key, value in ENCODER.items() if key not in ("image_size", "patch_size")}
    text |= {"vocab_size": len(vocabulary()), "max_position_embeddings": 64}
    text |= {"eos_token_id": 3, "bos_token_id": 2, "pad_token_id": 0}
    return {"vision_config": ENCODER, "text_config": text, "projection_dim": 16}


#: name -> (model class, config class, settings of the config, image processor, its settings)
MODELS: dict[str, tuple[str, str, Callable[[], dict[str, Any]], str, dict[str, Any]]] = {
    "vit": (
        "ViTForImageClassification",
        "ViTConfig",
        lambda: dict(ENCODER),
        "ViTImageProcessor",
        {"size": FIXED},
    ),
    "deit": (
        "DeiTForImageClassification",
        "DeiTConfig",
        lambda: dict(ENCODER),
        "DeiTImageProcessor",
        {"size": {"height": 38, "width": 40}, "crop_size": FIXED},
    ),
    "convnext": (
        "ConvNextForImageClassification",
        "ConvNextConfig",
        lambda: {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16]},
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 64}},
    ),
    "resnet": (
        "ResNetForImageClassification",
        "ResNetConfig",
        lambda: dict(WIDTHS),
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 64}, "crop_pct": 0.9},
    ),
    "mobilenet": (
        "MobileNetV2ForImageClassification",
        "MobileNetV2Config",
        lambda: {"image_size": 64, "depth_multiplier": 0.25},
        "MobileNetV2ImageProcessor",
        {"size": {"shortest_edge": 70}, "crop_size": {"height": 64, "width": 64}},
    ),
    "efficientnet": (
        "EfficientNetForImageClassification",
        "EfficientNetConfig",
        lambda: {"image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.1, "hidden_dim": 320},
        "EfficientNetImageProcessor",
        {"size": {"height": 64, "width": 64}, "rescale_factor": 1 / 127.5, "rescale_offset": True},
    ),
    "beit": (
        "BeitForImageClassification",
        "BeitConfig",
        lambda: {**ENCODER, "use_relative_position_bias": True},
        "BeitImageProcessor",
        {"size": {"height": 36, "width": 36}, "do_center_crop": True, "crop_size": FIXED},
    ),
    "swin": (
        "SwinForImageClassification",
        "SwinConfig",
        lambda: {
            "image_size": 32,
            "patch_size": 2,
            "embed_dim": 8,
            "depths": [1, 2],
            "num_heads": [1, 2],
            "window_size": 4,
        },
        "ViTImageProcessor",
        {"size": FIXED, "resample": 3},
    ),
    "dinov2": (
        "Dinov2ForImageClassification",
        "Dinov2Config",
        lambda: dict(ENCODER),
        "BitImageProcessor",
        {"size": CROPPED, "crop_size": FIXED},
    ),
    "segformer": (
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        lambda: {
            "depths": [1, 1, 1, 1],
            "hidden_sizes": [8, 8, 16, 16],
            "num_attention_heads": [1, 1, 2, 2],
            "decoder_hidden_size": 16,
        },
        "SegformerImageProcessor",
        {"size": {"height": 64, "width": 96}},
    ),
    "detr": (
        "DetrForObjectDetection",
        "DetrConfig",
        lambda: {
            "use_timm_backbone": False,
            "use_pretrained_backbone": False,
            "backbone": None,
            "backbone_config": resnet(),
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "num_queries": 5,
        },
        "DetrImageProcessor",
        {"size": {"shortest_edge": 64, "longest_edge": 107}},
    ),
    "yolos": (
        "YolosForObjectDetection",
        "YolosConfig",
        lambda: {**ENCODER, "image_size": [64, 96], "patch_size": 16, "num_detection_tokens": 5},
        "YolosImageProcessor",
        {"size": {"shortest_edge": 64, "longest_edge": 96}},
    ),
    "clip": (
        "CLIPModel",
        "CLIPConfig",
        clip_config,
        "CLIPImageProcessor",
        {"size": CROPPED, "crop_size": FIXED},
    ),
    "siglip": (
        "SiglipModel",
        "SiglipConfig",
        lambda: {key: value for key, value in clip_config().items() if key != "projection_dim"},
        "SiglipImageProcessor",
        {"size": FIXED},
    ),
    "clip-vision": (
        "CLIPVisionModelWithProjection",
        "CLIPVisionConfig",
        lambda: {**ENCODER, "projection_dim": 16},
        "CLIPImageProcessor",
        {"size": CROPPED, "crop_size": FIXED},
    ),
    "vit-embedding": (
        "ViTModel",
        "ViTConfig",
        lambda: dict(ENCODER),
        "ViTImageProcessor",
        {"size": FIXED},
    ),
    "dinov2-embedding": (
        "Dinov2Model",
        "Dinov2Config",
        lambda: dict(ENCODER),
        "BitImageProcessor",
        {"size": CROPPED, "crop_size": FIXED},
    ),
    "beit-embedding": (
        "BeitModel",
        "BeitConfig",
        lambda: dict(ENCODER),
        "BeitImageProcessor",
        {"size": FIXED},
    ),
    "deit-embedding": (
        "DeiTModel",
        "DeiTConfig",
        lambda: dict(ENCODER),
        "DeiTImageProcessor",
        {"size": FIXED, "do_center_crop": False},
    ),
}
EMBEDDINGS = ("clip", "siglip", "clip-vision", "vit-embedding", "dinov2-embedding", "beit-embedding")
QUICK = ("vit", "convnext", "segformer", "detr", "clip-vision")


@kept_environment()
def folder_of(name: str, folder: Path) -> Path:
    """A tiny model with random weights and its image processor, saved as transformers saves them."""
    import torch
    import transformers

    model_class, config_class, settings, processor_class, sizes = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(**settings())
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {label: at for at, label in enumerate(LABELS)}
    model = getattr(transformers, model_class)(config).eval()
    with torch.no_grad():
        for key, tensor in model.named_buffers():  # made as zeros and ones, which an exporter may fold away
            if key.endswith("running_mean"):
                tensor.normal_(0.0, 0.1)
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
    model.save_pretrained(folder)
    hub_class(processor_class)(**sizes).save_pretrained(folder)
    return folder


def task_of(name: str) -> str:
    if "Detection" in MODELS[name][0]:
        return "object-detection"
    if "Segmentation" in MODELS[name][0]:
        return "semantic-segmentation"
    return "image-classification" if "Classification" in MODELS[name][0] else "image-embedding"


def exported(name: str, tmp_path: Path, task: str = "auto") -> Path:
    folder = folder_of(name, tmp_path / name)
    return edgekit.export(folder, tmp_path / "model", options=ExportOptions(task=task)).path


def model_table(model: Path) -> ModelTable:
    table = read_manifest(model).model
    assert table is not None
    return table


def check(model: Path, name: str) -> None:
    """What every exported model of images keeps."""
    table = model_table(model)
    assert table.task == task_of(name)
    assert all(check.passed for check in table.checks)
    batches = {check.shape["batch"] for check in table.checks}
    assert {1, 2, 7} <= batches
    processor = load_processor(model / "processor")
    assert isinstance(processor, ImageProcessor)
    assert processor.check_parity() >= 20
    assert sum(path.stat().st_size for path in (model / "processor").iterdir()) < 300_000
    (spec,) = table.signature.inputs
    free = processor.settings.fixed_size is None
    assert spec.shape == (("batch", 3, "height", "width") if free else ("batch", 3, *spec.shape[2:]))
    sizes = {(check.shape.get("height"), check.shape.get("width")) for check in table.checks}
    assert len(sizes) >= (4 if free else 1)
    goldens = read_goldens(model / "golden")
    assert len(goldens) == len(SIZES) + 1
    assert {golden.feeds["pixel_values"].shape[0] for golden in goldens} == {1, 2}


@pytest.mark.parametrize("name", QUICK)
def test_models_of_images_export_and_are_proven(name: str, tmp_path: Path) -> None:
    check(exported(name, tmp_path), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name not in (*QUICK, "clip", "siglip")])
def test_other_models_of_images_export_and_are_proven(name: str, tmp_path: Path) -> None:
    check(exported(name, tmp_path), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_the_image_tower_of_a_model_of_two_towers_is_exported(name: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel

    model = exported(name, tmp_path, task="image-embedding")
    check(model, name)
    golden = read_goldens(model / "golden")[0]
    found = AutoModel.from_pretrained(tmp_path / name).eval()
    with torch.inference_mode():
        features = found.get_image_features(torch.from_numpy(golden.feeds["pixel_values"]))
    vector = features if isinstance(features, torch.Tensor) else features.pooler_output
    np.testing.assert_allclose(golden.outputs["image_embedding"], vector.numpy(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_the_text_tower_of_a_model_of_two_towers_is_exported(name: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = folder_of(name, tmp_path / name)
    tiny_tokenizer(folder)
    model = edgekit.export(folder, tmp_path / "model", options=ExportOptions(task="sentence-embedding")).path
    assert model_table(model).task == "sentence-embedding"
    golden = next(each for each in read_goldens(model / "golden") if len(each.rows) == 1)
    tokens = AutoTokenizer.from_pretrained(folder)(
        [str(golden.rows[0])], padding="max_length" if name == "siglip" else False, return_tensors="pt"
    )
    named = ("input_ids",) if name == "siglip" else ("input_ids", "attention_mask")
    with torch.inference_mode():
        features = (
            AutoModel.from_pretrained(folder).eval().get_text_features(**{key: tokens[key] for key in named})
        )
    vector = features if isinstance(features, torch.Tensor) else features.pooler_output
    np.testing.assert_allclose(golden.outputs["sentence_embedding"], vector.numpy(), atol=1e-5)


# --- the processor --------------------------------------------------------------------------------------

#: Classes and settings whose steps differ, at small sizes.
PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (each[3], each[4]) for name, each in MODELS.items()},
    "convnext-warped": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
    "levit": (
        "LevitImageProcessor",
        {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}},
    ),
    "poolformer": ("PoolFormerImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": FIXED}),
    "poolformer-square": ("PoolFormerImageProcessor", {"size": FIXED, "crop_size": FIXED, "crop_pct": 0.8}),
    "mobilevit": ("MobileViTImageProcessor", {"size": CROPPED, "crop_size": FIXED}),
    "mobilenet-v1": ("MobileNetV1ImageProcessor", {"size": CROPPED, "crop_size": FIXED}),
    "pvt": ("PvtImageProcessor", {"size": FIXED}),
    "dpt": ("DPTImageProcessor", {"size": FIXED}),
    "rt-detr": ("RTDetrImageProcessor", {"size": {"height": 64, "width": 64}}),
    "detr-fit": ("DetrImageProcessor", {"size": {"max_height": 60, "max_width": 90}}),
    "yolos-full": ("YolosImageProcessor", {"size": {"shortest_edge": 512, "longest_edge": 864}}),
    "crop-larger-than-image": ("CLIPImageProcessor", {"size": {"shortest_edge": 20}, "crop_size": FIXED}),
    "no-resize": ("CLIPImageProcessor", {"do_resize": False, "crop_size": FIXED}),
    "no-normalize": ("ViTImageProcessor", {"size": FIXED, "do_normalize": False}),
    "no-rescale": ("ViTImageProcessor", {"size": FIXED, "do_rescale": False}),
    "efficientnet-no-top": ("EfficientNetImageProcessor", {"size": FIXED, "include_top": False}),
    **{
        f"filter-{code}": ("ViTImageProcessor", {"size": {"height": 27, "width": 33}, "resample": code})
        for code in range(6)
    },
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_device_makes_of_every_tricky_file_what_transformers_makes(name: str, tmp_path: Path) -> None:
    from transformers.image_utils import load_image

    class_name, settings = PROCESSORS[name]
    hub = hub_class(class_name)(**settings)
    travelling_images(hub, tmp_path / "processor")
    processor = load_processor(tmp_path / "processor")
    assert processor.check_parity() >= 20
    for file, content in tricky():
        path = tmp_path / file
        path.write_bytes(content)
        try:
            with PIL.Image.open(path) as opened:
                expected = hub(images=load_image(opened), return_tensors="np")["pixel_values"]
        except ValueError:
            continue  # too narrow for transformers itself
        found = processor.feeds([path])["pixel_values"]
        assert found.shape == expected.shape, file
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=file)


def vit_with(**changes: Any) -> Any:
    """A ViT image processor that does more than its settings say. changes: methods it overrides."""
    base = hub_class("ViTImageProcessor")
    return type("OddImageProcessor", (base,), changes)(size=FIXED)


def test_a_class_with_python_code_of_its_own_is_found_out(tmp_path: Path) -> None:
    def normalize(self: Any, image: Any, mean: Any, std: Any, **others: Any) -> Any:
        values = hub_class("ViTImageProcessor").normalize(self, image, mean, std, **others)
        values[1, 3, 5] += 0.01
        return values

    with pytest.raises(ExportWrong) as caught:
        travelling_images(vit_with(normalize=normalize), tmp_path / "processor")
    assert "reads landscape.png differently from OddImageProcessor" in caught.value.message
    assert "at [1, 3, 5]" in caught.value.message
    assert "(0.0% of the values differ)" in caught.value.message
    assert "does more than its settings say" in caught.value.hint
    assert not (tmp_path / "processor").exists()


def test_a_class_that_reads_one_kind_of_file_otherwise_is_found_out(tmp_path: Path) -> None:
    def resize(self: Any, image: Any, *given: Any, **others: Any) -> Any:
        narrow = image.shape[-1] == 1
        return hub_class("ViTImageProcessor").resize(self, image * 0 if narrow else image, *given, **others)

    with pytest.raises(ExportWrong, match=r"reads one-wide\.png differently"):
        travelling_images(vit_with(resize=resize), tmp_path / "processor")


def test_a_class_that_makes_another_size_is_found_out(tmp_path: Path) -> None:
    def resize(self: Any, image: Any, size: Any, **others: Any) -> Any:
        return hub_class("ViTImageProcessor").resize(self, image, size, **others)[:, :-2]

    with pytest.raises(ExportWrong, match="gives 3 x 32 x 32, transformers 3 x 30 x 32"):
        travelling_images(vit_with(resize=resize), tmp_path / "processor")


def test_a_class_that_takes_no_plain_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"makes no pixel_values of [\w-]+\.png .*: KeyError") as caught:
        travelling_images(
            vit_with(preprocess=lambda self, images, **settings: {"patches": images}), tmp_path / "processor"
        )
    assert "OddImageProcessor cannot travel" in caught.value.message
    assert not (tmp_path / "processor").exists()


@pytest.mark.parametrize(
    ("class_name", "settings", "message"),
    [
        ("ViTImageProcessor", {"do_split": True}, "do_split is a step"),
        ("DetrImageProcessor", {"pad_size": {"height": 1400, "width": 1400}}, "pads images"),
        ("DPTImageProcessor", {"keep_aspect_ratio": True}, "keep_aspect_ratio"),
        ("DPTImageProcessor", {"ensure_multiple_of": 32}, "ensure_multiple_of"),
        ("ViTImageProcessor", {"size": {"longest_edge": 300}}, "a size of longest_edge"),
        ("ViTImageProcessor", {"image_mean": [0.5], "image_std": [0.5]}, "image_mean has 1 channels"),
    ],
)
def test_settings_that_no_device_knows_are_refused_with_what_to_do(
    class_name: str, settings: dict[str, Any], message: str
) -> None:
    hub = hub_class(class_name)(**{key: value for key, value in settings.items() if key != "do_split"})
    if "do_split" in settings:
        hub.do_split = True
    with pytest.raises(SourceError, match=message) as caught:
        derive_settings(hub)
    assert f"the image processor {class_name} cannot travel" in caught.value.message
    assert "ViTImageProcessor" in caught.value.hint


def test_settings_that_give_no_finite_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="ViTImageProcessor cannot travel: rescale and normalize"):
        travelling_images(hub_class("ViTImageProcessor")(image_std=[1e-320] * 3), tmp_path / "processor")


def test_one_mean_for_all_channels_is_understood() -> None:
    (step,) = derive_settings(hub_class("ViTImageProcessor")(image_mean=0.5, image_std=0.25)).normalize
    assert step.mean == (0.5, 0.5, 0.5)
    assert step.std == (0.25, 0.25, 0.25)


# --- folders --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of("vit", tmp_path_factory.mktemp("vit") / "vit")


@pytest.fixture
def harmed(vit: Path, tmp_path: Path) -> Path:
    """A copy to be harmed."""
    return Path(shutil.copytree(vit, tmp_path / "vit"))


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_processor_that_does_not_fit_the_model_is_refused(harmed: Path, tmp_path: Path) -> None:
    change(harmed / "preprocessor_config.json", size={"height": 40, "width": 40})
    with pytest.raises(SourceError, match="does not take 40 x 40 pixels") as caught:
        edgekit.export(harmed, tmp_path / "model")
    assert "preprocessor_config.json" in caught.value.hint
    assert not (tmp_path / "model").exists()


def test_a_folder_without_image_processor_is_refused(harmed: Path, tmp_path: Path) -> None:
    (harmed / "preprocessor_config.json").unlink()
    with pytest.raises(SourceError, match=r"preprocessor_config\.json"):
        edgekit.export(harmed, tmp_path / "model")


def test_an_image_processor_of_unknown_kind_is_refused(harmed: Path) -> None:
    change(harmed / "preprocessor_config.json", image_processor_type="NoSuchImageProcessor")
    (harmed / "config.json").unlink()
    with pytest.raises(SourceError, match="cannot load the image processor"):
        load_image_processor(harmed, ExportOptions())


def test_a_length_of_texts_is_refused(vit: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--max-length 64 is for texts"):
        edgekit.export(vit, tmp_path / "model", options=ExportOptions(max_length=64))


@kept_environment()
def grey_model(folder: Path) -> Path:
    import transformers

    config = transformers.ViTConfig(**ENCODER, num_channels=1, id2label=dict(enumerate(LABELS)))
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    hub_class("ViTImageProcessor")(size=FIXED).save_pretrained(folder)
    return folder


def test_a_model_of_grey_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="takes images of 1 channels"):
        edgekit.export(grey_model(tmp_path / "grey"), tmp_path / "model")


# --- pictures -------------------------------------------------------------------------------------------


def test_pictures_are_the_same_each_time_and_differ_from_each_other() -> None:
    assert (draw(40, 60, 1, grain=0.1) == draw(40, 60, 1, grain=0.1)).all()
    assert (draw(40, 60, 1) != draw(40, 60, 2)).mean() > 0.5
    assert (noise(8, 8, 0) == noise(8, 8, 0)).all()


def test_tricky_files_have_names_of_their_own_and_are_small() -> None:
    files = dict(tricky())
    assert len(files) == len(list(tricky())) >= 30
    assert sum(map(len, files.values())) < 600_000


def test_a_picture_is_read_from_its_file_as_it_was_drawn(tmp_path: Path) -> None:
    from edgekit_runtime.processors.image_settings import ImageSettings

    (tmp_path / "a.png").write_bytes(png(draw(20, 30, 1)))
    plain = ImageProcessor(ImageSettings())
    from_file, direct = plain.feeds([tmp_path / "a.png"]), plain.feeds([Image(draw(20, 30, 1))])
    assert (from_file["pixel_values"] == direct["pixel_values"]).all()
