"""The encoder's weights are loaded from a file in any usual form or from the hub, or refused with a reason."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import safetensors.torch
import torch
import torchvision
from huggingface_hub.errors import HfHubHTTPError
from test_models import changed, copied, every_freezable_model, make
from torch import Tensor, nn

from seglab.models import encoder_weights
from seglab.models.encoder_weights import load_encoder_weights
from seglab.models.weight_files import WeightsError

UNREACHABLE = ConnectionError("no route\nto host")


@pytest.fixture(scope="module")
def pretrained() -> dict[str, Tensor]:
    """A state dict of MobileNetV2 with torchvision's names, its running statistics not the initial ones."""
    torch.manual_seed(5)
    net = torchvision.models.mobilenet_v2(weights=None)
    net(torch.rand(2, 3, 64, 64))
    return dict(net.state_dict())


def without(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if part not in name}


FORMS = {
    "torchvision": dict,
    "encoder": lambda s: without(s, "classifier"),
    "whole model": lambda s: {f"encoder.{k}": v for k, v in without(s, "class").items()} | {"decoder.0": torch.ones(1)},
    "DataParallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "Lightning": lambda s: {f"model.encoder.{k}": v for k, v in without(s, "class").items()} | {"mean": torch.ones(3)},
    "before torch 0.4.1": lambda s: without(s, "num_batches_tracked"),
}


@every_freezable_model
@pytest.mark.parametrize("form", FORMS)
def test_encoder_weights_from_a_file(name: str, form: str, pretrained: Any, tmp_path: Path) -> None:
    random = copied(make(name))
    torch.save(FORMS[form](pretrained), tmp_path / "w.pth")
    safetensors.torch.save_file(FORMS[form](pretrained), tmp_path / "w.safetensors")
    torch.save({"state_dict": FORMS[form](pretrained), "epoch": 3}, tmp_path / "w.ckpt")
    for path in (tmp_path / "w.pth", tmp_path / "w.safetensors", tmp_path / "w.ckpt"):
        model = make(name, encoder_weights=str(path))
        assert all("num_batches_tracked" in key for key in changed(model.encoder, pretrained))
        assert {key.split(".")[1] for key in changed(model, random)} == {"encoder"}  # the rest is random as before


WRONG = {  # what the file holds, and what the error says of it
    "missing": (lambda s: without(s, "features.3."), "missing, like features.3.conv"),
    "unknown": (lambda s: s | {"head.w": torch.ones(1)}, "1 unknown, like head.w"),
    "misshapen": (lambda s: s | {"features.0.1.bias": torch.ones(3)}, r"1 misshapen, .*1.bias \[3\] instead of \[32\]"),
    "two in one": (lambda s: s | {"encoder." + k: v for k, v in s.items()}, "unknown, like features.0.0.weight"),
    "nested": (lambda s: {"weights": s}, "something else than tensors by name"),
    "NaN": (
        lambda s: s | {"features.3.conv.0.0.weight": s["features.3.conv.0.0.weight"] * torch.nan},
        "1 with NaN or infinity, like features.3.conv.0.0.weight",
    ),
    "infinite": (
        lambda s: s | {"features.0.1.running_var": s["features.0.1.running_var"] / 0},
        "1 with NaN or infinity, like features.0.1.running_var",
    ),
    "code": (lambda s: torchvision.models.mobilenet_v2(), r"not readable as tensors \(UnpicklingError\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_file_is_refused_with_a_reason(case: str, pretrained: Any, tmp_path: Path) -> None:
    contents, reason = WRONG[case]
    torch.save(contents(pretrained), tmp_path / "w.pth")
    before = copied(encoder := make("deeplabv3plus").encoder)
    with pytest.raises(WeightsError, match=f"w.pth: .*{reason}.*; accepted is a state dict of MobileNetV2"):
        load_encoder_weights(encoder, str(tmp_path / "w.pth"))
    assert changed(encoder, before) == set()


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors"])
def test_absent_and_broken_files_are_refused(name: str, tmp_path: Path) -> None:
    for reason in ("there is no such file", "not readable as tensors"):
        with pytest.raises(WeightsError, match=f"{name}: {reason}"):
            load_encoder_weights(nn.Identity(), str(tmp_path / name))
        (tmp_path / name).write_bytes(b"<html>not found</html>")


@pytest.mark.parametrize("answer", [None, HfHubHTTPError.__new__(HfHubHTTPError), UNREACHABLE])
def test_imagenet_is_downloaded_or_says_why_not(answer: Any, pretrained: Any, tmp_path: Path, monkeypatch: Any) -> None:
    safetensors.torch.save_file(pretrained, tmp_path / "model.safetensors")
    monkeypatch.setattr(encoder_weights, "try_to_load_from_cache", lambda **_: None)
    monkeypatch.setattr(encoder_weights, "get_hf_file_metadata", Mock(side_effect=answer))
    monkeypatch.setattr(encoder_weights, "hf_hub_download", lambda filename, **_: str(tmp_path / filename))
    encoder = make("deeplabv3plus").encoder
    message = r"not be downloaded from https.* \(no route\); use .* model.encoder_weights=/path/to/mobilenet_v2.pth"
    with pytest.raises(WeightsError, match=message) if answer is UNREACHABLE else nullcontext():
        load_encoder_weights(encoder, "imagenet")
    assert (changed(encoder, pretrained) == set()) is (answer is not UNREACHABLE)
