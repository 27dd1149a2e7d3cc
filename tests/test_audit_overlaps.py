"""Images that share their ground are found where they are, and not where they only look alike."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from seglab.audit.audit import audit
from seglab.audit.features import Features, extract, working_scale
from seglab.audit.fingerprint import fingerprint, near_duplicates
from seglab.audit.index import Candidate, Index, candidates
from seglab.audit.overlaps import SAME_GROUND, SAME_PIXELS, compare, overlaps, shared
from seglab.data.synthetic import draw_scene

DUBAI = (1, 2, 10, 11, 14, 16, 27, 29, 32, 55, 56, 67, 70, 71, 72)
"""Parts that overlap, neighbours, and 10, 11, 14, 16 whose rows of equal houses match each other at many points."""


@pytest.fixture(scope="module")
def dubai(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dubai")
    for folder in ("data", "label"):
        (root / folder).mkdir()
        for name in DUBAI:
            (path,) = (shared / "data" / "dubai" / folder).glob(f"{name}.*")
            (root / folder / path.name).symlink_to(path)
    return root


def test_real_overlaps_their_leaks_and_the_ceiling(dubai: Path) -> None:
    found = audit([f"data.root={dubai}", "data.val_scenes=['27','70']", "data.size=224"])
    names = [int(record.pair.name) for record in found.records]
    kinds = {(names[o.a], names[o.b]): (o.kind, o.pixels) for o in found.overlaps}
    assert kinds.pop((1, 27)) == (SAME_PIXELS, 194_400)
    tiles_7_and_8 = [kinds.pop(pair) for pair in ((55, 71), (55, 72), (56, 72))]
    assert {kind for kind, _ in tiles_7_and_8} == {SAME_PIXELS} and sum(n for _, n in tiles_7_and_8) == 2_092_860
    assert {pair: kind for pair, (kind, _) in kinds.items()} == dict.fromkeys(
        [(29, 67), (29, 70), (32, 70)], SAME_GROUND
    )
    assert found.ceiling["pixels"] == 194_400 + 2_092_860
    one, two = found.ceiling["places"]
    assert (one["images"], two["images"]) == (["1", "27"], ["55", "56", "71", "72"])
    # what its README says of the two labellings, measured before and by other means
    for place, agreement, iou in ((one, 0.950, [0.24, 0, 0.92]), (two, 0.896, [0.63, 0.19, 0.91])):
        assert place["agreement"] == pytest.approx(agreement, abs=5e-4)
        assert [place["iou"][c] for c in ("building", "vegetation", "water")] == pytest.approx(iou, abs=5e-3)
    assert two["iou"]["background"] == pytest.approx(0.90, abs=5e-3)
    leaks = next(f.text for f in found.findings if "leaks" in f.text)
    assert "3 pairs" in leaks  # 1/27, 29/70 and 32/70


def test_a_shift_is_found_to_the_pixel_whatever_the_light() -> None:
    image, _ = draw_scene(3, 0, 300, 300)
    other, _ = draw_scene(3, 1, 300, 300)
    dark = np.clip(0.6 * image.astype(float) + np.random.default_rng(0).normal(0, 3, image.shape), 0, 255)
    pictures = [image[:200, :180], other, dark.astype(np.uint8)[90:, 70:], other[::-1].copy()]
    proposed = candidates([extract(picture, 1.0) for picture in pictures])
    (found,) = overlaps(proposed, lambda i: pictures[i], 1.0)
    assert (found.a, found.b, found.kind) == (0, 2, SAME_PIXELS)
    assert (found.dx, found.dy, found.width, found.height) == (-70, -90, 110, 110)


def test_other_ground_is_refused_even_if_proposed() -> None:
    one, two = (draw_scene(3, scene, 200, 200)[0] for scene in (0, 1))
    assert compare(Candidate(0, 1, (0, 0), 99), one, two, 1.0) is None
    assert compare(Candidate(0, 1, (195, 0), 99), one, two, 1.0) is None  # a strip of 5 pixels tells nothing
    assert compare(Candidate(0, 1, (0, 0), 99), np.full_like(one, 90), np.full_like(two, 90), 1.0) is None


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (5, -3), (-7, 2), (40, 0)])
def test_shared_parts_lie_over_each_other(dx: int, dy: int) -> None:
    ground = np.arange(60 * 60).reshape(60, 60)
    a, b = ground[10:40, 10:40], ground[10 - dy : 45 - dy, 10 - dx : 38 - dx] if max(dx, dy) <= 10 else ground[:20, :20]
    part_a, part_b = shared(a, b, dx, dy)
    assert (part_a == part_b).all() and (part_a.size == 0) == (dx == 40)


def test_the_index_finds_what_comparing_all_points_finds() -> None:
    image, _ = draw_scene(5, 2, 256, 256)
    features = [extract(image[:, :170], 1.0), extract(image[:, 90:], 1.0), extract(draw_scene(5, 3, 200, 200)[0], 1.0)]
    index = Index(features)
    q, m = index.matches()
    assert (index.owner[q] != index.owner[m]).all()
    distance = ((features[0].descriptors[:, None].astype(int) - features[1].descriptors[None].astype(int)) ** 2).sum(-1)
    nearest = {(i, j + len(distance)) for i, j in enumerate(distance.argmin(1).tolist()) if distance[i].min() < 100**2}
    assert len(nearest) > 20 and len(nearest - set(zip(q.tolist(), m.tolist(), strict=True))) <= 0.1 * len(nearest)
    assert candidates([None, *features[:2], None])[0].shift == pytest.approx((-90, 0), abs=0.6)
    assert candidates([]) == candidates([None, extract(np.zeros((50, 50, 3), np.uint8), 1.0)]) == []


def test_one_scale_for_all_images() -> None:
    assert [working_scale([side**2]) for side in (64, 500, 1000, 2000)] == [1, 1, 0.5, 0.25]
    assert working_scale([0, 224**2]) == working_scale([]) == 1


def test_near_duplicates_survive_compression_and_even_pictures_are_not_alike() -> None:
    image, _ = draw_scene(3, 0, 96, 96)
    softer = np.clip(image.astype(int) + np.random.default_rng(0).integers(-6, 7, image.shape), 0, 255).astype(np.uint8)
    waters = [
        np.full((96, 96, 3), v, np.uint8) + np.random.default_rng(v).integers(0, 2, (96, 96, 3), np.uint8)
        for v in (90, 91)
    ]
    pictures = [image, draw_scene(3, 1, 96, 96)[0], softer, *waters, waters[0].copy(), image[::2, ::2].copy()]
    make = lru_cache(None)(lambda i: fingerprint(pictures[i]))
    found = near_duplicates([make(i) for i in range(len(pictures))] + [None])
    assert {(d.a, d.b, d.identical) for d in found} == {(0, 2, False), (0, 6, False), (2, 6, False), (3, 5, True)}


def test_the_nearest_points_are_those_of_a_slow_search() -> None:
    rng = np.random.default_rng(0)
    kinds = (rng.random((20, 2)), rng.random(20) + 1, 360 * rng.random(20))
    features = [Features(*kinds, rng.integers(0, 256, (20, 128)).astype(np.uint8), 1.0) for _ in range(4)]
    index = Index(features)
    members = np.flatnonzero(rng.random(80) < 0.5)
    q, m = index._nearest(np.arange(80), members, 3)
    distance = ((index.descriptors[:, None].astype(int) - index.descriptors[None].astype(int)) ** 2).sum(2)
    for i in range(80):
        foreign = [j for j in members if index.owner[j] != index.owner[i]]
        assert sorted(distance[i, m[q == i]]) == sorted(distance[i, foreign])[:3]
    alone = np.arange(20)  # all of one image
    assert not len(index._nearest(alone, alone, 3)[0])
