"""Shared by all tests: where the reference material is, and a small set of images to train on."""

import gc
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from tests.browser import browser, chromium  # noqa: F401 (fixtures)
from tests.needs import absent

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch: tests run side by side

ROOT = Path(__file__).resolve().parent.parent
SMALL_NET = ["model=unet", "model.min_kernel_num=4", "model.depth=2"]
SMALL = ["data=folder", "data.batch_size=4", "pictures=1", "precision=32", *SMALL_NET]


LONGEST = (
    "test_launchers.py",
    "test_signals.py",
    "test_compile.py",
    "test_rewrites.py",
    "test_notebooks.py",
    "test_board.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files of the longest tests: one of them at the end would leave the other processes idle."""
    order = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONGEST)))


def pytest_collection_finish() -> None:
    """Lets the collection of garbage that ends every training pass over what is imported: 0.2 s each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden values and real images."""
    path = Path(os.environ.get("SEGLAB_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        absent(f"no reference material at {path}: set SEGLAB_SHARED to the folder that holds golden/ and data/")
    return path


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory):
    """`once(name, make)` is a folder that `make(folder)` filled, in one of the processes that run the tests."""
    base = tmp_path_factory.getbasetemp()
    base = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once"
    base.mkdir(exist_ok=True)

    def call(name: str, make: Callable[[Path], None]) -> Path:
        folder, whole = base / name, base / f"{name}.whole"
        with FileLock(base / f"{name}.lock"):
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)  # another process may have failed at it
                folder.mkdir()
                make(folder)
                whole.touch()
        return folder

    return call


@pytest.fixture(scope="session")
def images(once) -> Path:
    """Ten 32 x 32 images of four bright blocks, labelled by colour, in five scenes."""
    return once("images", draw_images)


def draw_images(root: Path) -> None:
    colors = np.array([(90, 90, 90), (200, 60, 60), (60, 160, 60), (40, 60, 200)])
    rows = ["name,scene"]
    for i in range(10):
        rng = np.random.default_rng(i)
        label = np.kron(rng.integers(0, 4, (4, 4)), np.ones((8, 8), int))
        image = colors[label] + rng.integers(-20, 20, (32, 32, 3))
        for sub, array in {"data": image, "label": label}.items():
            (root / sub).mkdir(exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(root / sub / f"{i}.png")
        rows.append(f"{i},{i // 2}")
    (root / "scenes.csv").write_text("\n".join(rows))


def command(images: Path, out: Path, overrides: tuple[str, ...]) -> list[str]:
    """The command that trains small networks on the small images, as far as `overrides` say nothing else."""
    flags = [o for o in overrides if o.startswith("-")]
    given = {o.split("=")[0] for o in overrides}
    small = [*SMALL, f"data.root={images}", f"output_dir={out}"]
    defaults = [o for o in small if o.split("=")[0] not in given and not (o in SMALL_NET and "model" in given)]
    return ["train.py", *flags, *defaults, *(o for o in overrides if o not in flags)]


def run_train(images: Path, out: Path, overrides: tuple[str, ...]) -> str:
    """Runs train.py in this process and returns its exit message."""
    import train as script

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGLAB_CACHE", str(images.parent / "cache"))
        patch.delenv("HYDRA_FULL_ERROR", raising=False)  # train.py sets it, for this process
        patch.setattr(sys, "argv", command(images, out, overrides))
        try:
            script.run()
        except SystemExit as e:
            return str(e.code or "")
    return ""


@pytest.fixture
def train(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, caplog):
    """`train(*overrides)` runs train.py in this process on the small images and returns (exit message, output)."""
    monkeypatch.setenv("SEGLAB_CACHE", str(images.parent / "cache"))
    caplog.set_level("INFO")

    def call(*overrides: str) -> tuple[str, str]:
        capsys.readouterr()
        caplog.clear()
        message = run_train(images, tmp_path, overrides)
        return message, caplog.text + capsys.readouterr().out

    return call


class Ended(NamedTuple):
    code: object
    out: str
    err: str


@pytest.fixture
def seglab(capsys: pytest.CaptureFixture[str]):
    """`seglab(*arguments)` returns how the command ended and what it said."""

    from seglab import cli

    def call(*arguments: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(list(map(str, arguments)))
        return Ended(ended.value.code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def trained(once, images: Path):
    """`trained(*overrides)` is the study that this command leaves. To be read, or to be copied and then changed."""

    def call(*overrides: str) -> Path:
        def make(folder: Path) -> None:
            assert run_train(images, folder, overrides) == ""

        return once(hashlib.sha256("\n".join(overrides).encode()).hexdigest()[:16], make) / "default"

    return call


@pytest.fixture
def copied(trained, tmp_path: Path):
    """`copied(*overrides)` is a copy of what `trained` returns, where `train` would have left it, or within `out`."""

    def call(*overrides: str, out: Path = tmp_path) -> Path:
        return Path(shutil.copytree(trained(*overrides), out / "default"))

    return call


GRID = ("-m", "loss=dice,cross_entropy", "epochs=1,2,4", "threads=1")


@pytest.fixture(scope="session")
def alone(trained) -> Path:
    """The grid with every cell trained by itself in this process. To be read only."""
    return trained(*GRID, "share=false")


@pytest.fixture(scope="session")
def study(once, images: Path) -> Path:
    """A study of three losses by two epochs as `make demo` makes it, and a cell that failed. To be read only."""

    def make(out: Path) -> None:
        seen = ("picture_every=1", "pr_curves=true")
        assert run_train(images, out, ("-m", "loss=cross_entropy,dice,lovasz", "epochs=1,2", *seen)) == ""
        failed = run_train(images, out, ("loss=focal", "loss.alpha=[1.0,1.0]", "epochs=2"))
        assert failed.startswith("failed: ")

    return once("study", make) / "default"


def write_pair(root: Path, name: str, size: tuple[int, int] = (20, 24), value: int | None = None) -> None:
    rng = np.random.default_rng(len(name) + ord(name[0]))
    for sub, array in {
        "data": rng.integers(0, 256, (*size, 3)),
        "label": rng.integers(0, 4, size) if value is None else np.full(size, value),
    }.items():
        (root / sub).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.astype(np.uint8)).save(root / sub / f"{name}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i in range(1, 11):
        write_pair(tmp_path / "set", str(i))
    (tmp_path / "set" / "scenes.csv").write_text("name,scene\n" + "".join(f"{i},s{i // 3}\n" for i in range(1, 11)))
    return tmp_path / "set"
