"""All weights of a network from a file: smp's, another trainer's, or a checkpoint of seglab."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import torch
from test_models import PLAIN, assert_same, changed, copied, every_model, images, make, training_step
from torch import Tensor, nn

from seglab.models.network_weights import load_weights
from seglab.models.weight_files import WeightsError


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """A DeepLabV3+ of smp whose running statistics are not the initial ones."""
    torch.manual_seed(7)
    net = smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=4)
    net(torch.rand(2, 3, 64, 64))
    return net.eval()


@pytest.mark.parametrize("name", PLAIN)
def test_a_checkpoint_of_smp_gives_its_logits(name: str, tmp_path: Path) -> None:
    torch.manual_seed(7)
    plain = PLAIN[name]("mobilenet_v2", encoder_weights=None, classes=4, aux_params={"classes": 2})
    plain(torch.rand(2, 3, 64, 64))
    torch.save(plain.state_dict(), tmp_path / "w.pth")
    model = make(name, weights=str(tmp_path / "w.pth")).eval()
    batch = images(2, 3, 64, 96)
    logits, _ = plain.eval()(batch * model.scale + model.shift)
    torch.testing.assert_close(model(batch), logits, rtol=1e-4, atol=1e-4)


FORMS = {
    "smp": dict,
    "DataParallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "Lightning": lambda s: (
        {f"model.{k}": v for k, v in s.items()} | {"mean": torch.ones(3), "loss.weight": torch.ones(4)}
    ),
    "network of seglab": lambda s: {f"net.{k}": v for k, v in s.items()},
    "checkpoint of seglab": lambda s: {f"net.net.{k}": v for k, v in s.items()},
    "all at once": lambda s: {f"model.module.net.{k}": v for k, v in s.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_what_a_trainer_puts_around_the_names_goes(form: str, theirs: nn.Module, tmp_path: Path) -> None:
    state = FORMS[form](theirs.state_dict())
    torch.save(state, tmp_path / "w.pt")
    torch.save({"state_dict": state, "epoch": 3, "optimizer_states": [{"lr": 0.1}]}, tmp_path / "w.ckpt")
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    for path in (tmp_path / "w.pt", tmp_path / "w.ckpt", tmp_path / "w.safetensors"):
        assert changed(make("deeplabv3plus", weights=str(path)).net, theirs.state_dict()) == set()


@every_model
def test_a_network_starts_from_where_another_ended(name: str, tmp_path: Path) -> None:
    model = make(name)
    batch = images(2, 3, 64, 64)
    training_step(model, batch)
    torch.save({"state_dict": {f"net.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "last.ckpt")
    assert_same(make(name, weights=str(tmp_path / "last.ckpt")).eval()(batch), model.eval()(batch))


def without(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if part not in name}


HEAD = "segmentation_head.0.weight"
WRONG = {  # what the file holds, and what the error says of it
    "of 21 classes": (
        lambda s: s | {HEAD: torch.ones(21, 256, 1, 1), "segmentation_head.0.bias": torch.ones(21)},
        "its network has 21 classes, the data 4",
    ),
    "no head": (lambda s: without(s, "head"), f"2 missing, like {HEAD}"),
    "unknown": (lambda s: s | {"neck.w": torch.ones(1)}, "1 unknown, like neck.w"),
    "misshapen": (lambda s: s | {HEAD: torch.ones(4, 9, 1, 1)}, r"\[4, 9, 1, 1\] instead of \[4, 256, 1, 1\]"),
    "NaN": (lambda s: s | {HEAD: s[HEAD] * torch.nan}, f"1 with NaN or infinity, like {HEAD}"),
    "an encoder": (
        lambda s: {k[8:]: v for k, v in s.items() if k.startswith("encoder.")},
        "missing, like encoder.feat",
    ),
    "code": (lambda s: nn.Linear(1, 1), r"not readable as tensors \(UnpicklingError\)"),
    "numbers": (lambda s: {"a": 1.0}, "something else than tensors by name"),
    "nothing": (lambda s: {}, "missing, like encoder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_file_is_refused_in_one_line_with_what_is_accepted(case: str, theirs: Any, tmp_path: Path) -> None:
    contents, reason = WRONG[case]
    torch.save(contents(theirs.state_dict()), tmp_path / "w.pth")
    before = copied(net := make("deeplabv3plus").net)
    with pytest.raises(
        WeightsError, match=f"^weights .*w.pth: .*{reason}.*; accepted is a file .*smp's names"
    ) as caught:
        load_weights(net, str(tmp_path / "w.pth"))
    assert "\n" not in str(caught.value)
    assert changed(net, before) == set()


def test_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"w.pth: there is no such file; accepted is"):
        load_weights(nn.Identity(), str(tmp_path / "w.pth"))


@pytest.mark.parametrize("name", PLAIN)
def test_two_sources_for_the_encoder_are_refused(name: str) -> None:
    with pytest.raises(Exception, match=r"encoder_weights='imagenet' and weights='w.pth': accepted is one") as caught:
        make(name, encoder_weights="imagenet", weights="w.pth")
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("key", ["weights", "encoder_weights"])
@pytest.mark.filterwarnings("error")
def test_a_network_without_values_checks_the_file_and_copies_nothing(key: str, theirs: Any, tmp_path: Path) -> None:
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    with torch.device("meta"):
        assert all(p.is_meta for p in make("deeplabv3plus", **{key: str(tmp_path / "w.pth")}).parameters())
        with pytest.raises(Exception, match="there is no such file"):
            make("deeplabv3plus", **{key: str(tmp_path / "no.pth")})
