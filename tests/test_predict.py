"""`seglab predict`: at the run's scale, void where an image holds nothing, and never at another file's cost."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from seglab.labels import VOID
from seglab.models.deeplabv3plus import DeepLabV3Plus
from seglab.models.unet import UNet
from seglab.predict.tiles import memory, scene
from seglab.predict.tiles.scale import Scale, scale_of
from seglab.predict.tiles.tiling import Tiling
from seglab.run.folder import Run, runs_of


@pytest.fixture
def run(train, tmp_path: Path) -> Run:
    assert train("epochs=1", "data.size=16")[0] == ""
    (run,) = runs_of(tmp_path / "default")
    return run


def picture(path: Path, size: tuple[int, int] = (40, 24), mode: str = "RGB") -> Path:
    path.parent.mkdir(exist_ok=True)
    channels = np.random.default_rng(0).integers(0, 256, (*size, 4 if mode == "RGBA" else 3))
    Image.fromarray(channels.astype(np.uint8), mode).save(path)
    return path


def read(path: Path) -> np.ndarray:
    with Image.open(path) as found:
        return np.asarray(found)


def test_an_image_of_the_data_set_is_mapped_as_validation_maps_it(
    seglab, run: Run, images: Path, tmp_path: Path
) -> None:
    (kept, *_) = sorted(run.records.maps.iterdir())
    ended = seglab("predict", run.folder, images / "data" / kept.name, "--out", tmp_path / "m")
    assert ended.code == 0
    assert ended.err.startswith(
        "seglab: images are mapped at 0.5 times their size, as the run's own of 32x32 were; a map has the size of its "
        "image, and --scale 1 maps it without resizing\nseglab: 1 of 1 images, "
    )
    assert (read(tmp_path / "m" / kept.name) == np.kron(read(kept), np.ones((2, 2), np.uint8))).all()
    large = picture(tmp_path / "large.png", (200, 100))
    assert seglab("predict", run.folder, large, "--out", tmp_path / "m").code == 0
    shrunk = cv2.resize(read(large), (50, 100), interpolation=cv2.INTER_AREA)
    Image.fromarray(shrunk).save(tmp_path / "shrunk.png")
    ended = seglab("predict", run.folder, tmp_path / "shrunk.png", "--scale", 1, "--out", tmp_path / "m")
    assert ended.code == 0 and ended.err.startswith("seglab: 1 of 1 images, ")
    assert (read(tmp_path / "m/large.png")[::2, ::2] == read(tmp_path / "m/shrunk.png")).all()


def test_a_scale_that_is_not_known_is_the_size_of_validation(run: Run, tmp_path: Path) -> None:
    copy = Run(shutil.copytree(run.folder, tmp_path / "copy"))
    known = run.environment()
    assert known["original_size"] == [32, 32]
    copy.write_environment({k: v for k, v in known.items() if k != "original_size"})
    earlier = scale_of(copy)
    assert earlier.of(400, 500) == (16, 16) and "whose size it does not tell" in (earlier.words or "")
    copy.write_environment(known | {"original_size": None})
    several = scale_of(copy)
    assert several.of(400, 500) == (16, 16) and "of several sizes" in (several.words or "")
    assert scale_of(copy, 0.25).of(400, 500) == (100, 125)
    text = copy.config_file.read_text()
    copy.config_file.write_text(text.replace("size: 16", "size: null"))
    assert scale_of(copy) == Scale()


@pytest.mark.parametrize("text", ["0", "-1", "inf", "half"])
def test_a_wrong_scale_is_a_wrong_command_line(seglab, text: str) -> None:
    assert seglab("predict", "run", "image", f"--scale={text}").code == 2


def test_what_holds_nothing_is_void(seglab, run: Run, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(1, 255, (20, 30, 4)).astype(np.uint8)
    empty = np.zeros((20, 30), bool)
    empty[3:9, 5:20] = True
    colours[empty] = 0
    colours[0, 0, :3] = (0, 0, 7)  # one channel alone is no sign
    Image.fromarray(colours, "RGBA").save(tmp_path / "clear.png")
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113] = "0"
    Image.fromarray(np.ascontiguousarray(colours[..., :3])).save(tmp_path / "cut.tif", tiffinfo=tags)
    Image.fromarray(np.ascontiguousarray(colours[..., :3])).save(tmp_path / "key.png", transparency=(0, 0, 0))
    Image.fromarray(np.ascontiguousarray(colours[..., :3])).save(tmp_path / "whole.bmp")
    names = ("clear.png", "cut.tif", "key.png", "whole.bmp")
    assert seglab("predict", run.folder, *(tmp_path / n for n in names), "--out", tmp_path / "m").code == 0
    for name in ("clear", "cut", "key", "whole"):
        found = read(tmp_path / "m" / f"{name}.png")
        assert ((found == VOID) == (empty & (name != "whole"))).all(), name
    assert not read(tmp_path / "m" / "clear_color.png")[empty].any()


def test_only_its_own_maps_are_replaced(seglab, run: Run, tmp_path: Path) -> None:
    images = [picture(tmp_path / "data" / f"{name}.bmp") for name in ("one", "two")]
    label = picture(tmp_path / "label" / "two.png")
    before = label.read_bytes()
    ended = seglab("predict", run.folder, *images, "--out", label.parent)
    assert ended.code == 1 and ended.err.count("\n") == 1
    assert f"{label}, the map of {images[1]}, would replace a file that is no map of seglab predict" in ended.err
    assert label.read_bytes() == before and list(label.parent.iterdir()) == [label]
    assert seglab("predict", run.folder, *images, "--out", tmp_path / "m").code == 0
    assert seglab("predict", run.folder, *images, "--out", tmp_path / "m").code == 0
    (kept, *_) = run.records.maps.iterdir()
    image = picture(tmp_path / f"{kept.stem}.bmp")
    assert "would replace" in seglab("predict", run.folder, image, "--out", kept.parent).err


def test_a_damaged_image_stops_no_other(seglab, run: Run, tmp_path: Path) -> None:
    whole = [picture(tmp_path / f"{name}.png") for name in ("a", "c")]
    cut = tmp_path / "b.png"
    cut.write_bytes(whole[0].read_bytes()[:200])
    (tmp_path / "d.png").write_text("no picture")
    images = (whole[0], cut, tmp_path / "d.png", whole[1], tmp_path / "none.png")
    ended = seglab("predict", run.folder, *images, "--scale", 1, "--out", tmp_path / "m")
    assert ended.code == 1 and ended.out.split() == [str(tmp_path / "m" / f"{name}.png") for name in ("a", "c")]
    assert ended.err.startswith("seglab: 3 of 5 images have no map: ") and ended.err.count("\n") == 1
    assert all(name in ended.err for name in ("b.png: ", "d.png: not a readable image", "none.png"))


def test_an_image_too_large_for_the_memory_says_what_to_do(seglab, run: Run, tmp_path: Path, monkeypatch) -> None:
    asked = ("predict", run.folder, picture(tmp_path / "a.png"), "--scale", 1, "--out", tmp_path / "m")
    with monkeypatch.context() as patch:
        patch.setattr(memory, "free_memory", lambda: 100)
        ended = seglab(*asked)
        assert ended.code == 1 and ended.err.count("\n") == 1
        assert "a.png: reading 0 million pixels needs 0.0 GB of memory, 0.0 are free; a TIFF is read in" in ended.err

    def full(*_, **__) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    with monkeypatch.context() as patch:
        patch.setattr(scene, "blocks", full)
        assert "a.png: the memory is not enough; --tile takes smaller tiles" in seglab(*asked).err
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "a.png: too many pixels: accepted are up to 200; cut it into tiles" in seglab(*asked).err


def test_the_tiles_of_a_network_follow_from_its_memory_and_what_it_sees() -> None:
    with torch.device("meta"):
        small, wide, pooling = UNet(4, 4, 2), UNet(4, 64, 4), DeepLabV3Plus(4)
    assert memory.tiling_for([small]) == Tiling(1024, 48)  # 2 x 23 pixels of surroundings, and 4 divides it
    assert memory.tiling_for([wide]) == Tiling(512, 224)
    assert memory.tiling_for([small, wide], 256) == Tiling(256, 64)  # too small for what it sees
    assert memory.tiling_for([pooling]) == Tiling(1024, 128)
    with pytest.raises(ValueError, match="tile 100: accepted are multiples of 16"):
        memory.tiling_for([wide], 100)


def test_the_memory_of_a_map_by_hand() -> None:
    with memory.Peak() as peak:
        a = torch.zeros(100)
        b = a + 1
        c = b[:50].view(5, 10)
        del a, b, c
        d = torch.zeros(150)
    assert peak.bytes == 800 and len(d) == 150
    free = memory.free_memory()
    assert free is None or 0 < free < 2**50
