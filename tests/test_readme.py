"""What the README shows is true."""

import re
from pathlib import Path

import pytest
import torch

import seglab.losses
from seglab.cli import EXIT_CODES
from seglab.run.folder import runs_of
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_the_example_loss_is_two_files(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,), (config,) = (re.findall(rf"```{kind}\n(.*?)```", README, re.S) for kind in ("python", "yaml"))
    for path, text in {"code/mean_absolute_error.py": code, "conf/loss/mean_absolute_error.yaml": config}.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setattr(seglab.losses, "__path__", [*seglab.losses.__path__, str(tmp_path / "code")])
    from seglab.losses.mean_absolute_error import MeanAbsoluteError  # type: ignore[import-not-found]

    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]]).log1p().T.reshape(1, 2, 1, 2)  # probabilities 3/4, 1/4 and 1/2, 1/2
    target = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).T.reshape(1, 2, 1, 2)  # the second pixel is void
    assert float(MeanAbsoluteError()(logits, target)) == pytest.approx(1 / 4)
    assert float(MeanAbsoluteError()(logits, 0 * target)) == 0
    search = f"hydra.searchpath=[file://{tmp_path / 'conf'}]"
    assert train("loss=mean_absolute_error", search, "epochs=1", f"output_dir={tmp_path / 'out'}")[0] == ""
    (run,) = runs_of(tmp_path / "out" / "default")
    assert run.folder.name.startswith("unet-mean_absolute_error-e1-s0-")


@pytest.mark.parametrize("group", ["model", "loss", "data", "trainer", "schedule", "experiment"])
def test_every_choice_is_named(group: str) -> None:
    (row,) = re.findall(rf"^\| `{group}=` \| `.*$", README, re.M)
    names = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}
    assert names <= set(re.findall(r"`(\w+)`", row))


def test_files_it_points_to_are_there() -> None:
    for path in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / path).exists()


def test_every_exit_code_is_named() -> None:
    for code, meaning in EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in README.replace("\\|", "|")
