"""Pictures of an audit's page: labels over images, the same ground twice, and where a run contradicts a label."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from seglab.audit.audit import Audit
from seglab.audit.findings import crosses
from seglab.audit.label_issues import Issue, sure_mistakes
from seglab.audit.overlaps import shared
from seglab.labels import VOID, color_image, rgb
from seglab.maps.scoring import probabilities
from seglab.pages.page import picture
from seglab.pages.pictures import WRONG, error_image, preview

IMAGES, PAIRS, ISSUES = 96, 24, 24
"""Pictures shown at most, to keep the page small."""


def gallery(audit: Audit, width: int = 300) -> list[dict[str, Any]]:
    """Image and label of up to IMAGES pairs, evenly spread over all."""
    count = len(audit.records)
    chosen = np.unique(np.linspace(0, count - 1, min(count, IMAGES)).round().astype(int)).tolist()
    out = []
    for i in chosen:
        sample = audit.source.load(i)
        if sample.image is None:
            continue
        label = None
        if sample.mask is not None:
            label = picture(color_image(sample.mask, audit.classes), width, lossless=True)
        record = audit.records[i]
        out.append({"record": record, "image": picture(preview(sample.image), width, quality=70), "label": label})
    return out


def twice(audit: Audit, width: int = 260) -> list[dict[str, Any]]:
    """Images and labels of what up to PAIRS overlaps share; those across the split and the largest first."""
    order = sorted(
        range(len(audit.overlaps)),
        key=lambda k: (not crosses(audit.records, audit.overlaps[k].a, audit.overlaps[k].b), -audit.overlaps[k].pixels),
    )
    return [_pair(audit, k, width) for k in order[:PAIRS]]


def _pair(audit: Audit, k: int, width: int) -> dict[str, Any]:
    o = audit.overlaps[k]
    a = audit.source.load(o.a)
    b = audit.source.load(o.b)
    assert a.image is not None and b.image is not None
    images = [picture(part, width, quality=70) for part in shared(preview(a.image), preview(b.image), o.dx, o.dy)]
    labels: list[str] = []
    differ = None
    if a.mask is not None and b.mask is not None:
        parts = shared(a.mask, b.mask, o.dx, o.dy)
        labels = [picture(color_image(part, audit.classes), width, lossless=True) for part in parts]
        differ = picture(error_image(np.where(parts[1] == VOID, VOID, parts[0]), parts[1]), width, lossless=True)
    facts = audit.ceiling["pairs"][k] | {"overlap": o, "leaks": crosses(audit.records, o.a, o.b)}
    sides = {"split_a": audit.records[o.a].side, "split_b": audit.records[o.b].side}
    return facts | sides | {"images": images, "labels": labels, "differ": differ}


def contradicted(audit: Audit, width: int = 380) -> list[dict[str, Any]]:
    """Image with the doubtful regions outlined, label and map of the ISSUES most contradicted labels."""
    opinion = audit.opinion
    if opinion is None:
        return []
    out = []
    for issue in opinion.issues[:ISSUES]:
        sample = opinion.sample(audit.source, issue.index)
        if sample is None or issue.score != issue.score:
            continue
        image, mask = sample
        probability = probabilities(opinion.network, image)
        predicted = probability.argmax(0).astype(np.uint8)
        original = audit.source.load(issue.index).image
        outlined = outline(preview(image if original is None else original), sure_mistakes(mask, probability), width)
        size = outlined.shape[1::-1]  # of the maps, too: the run may have seen them squeezed
        large = [cv2.resize(m, size, interpolation=cv2.INTER_NEAREST_EXACT) for m in (mask, predicted)]
        maps = [picture(color_image(m, audit.classes), lossless=True) for m in large]
        words = region_words(issue, list(audit.classes), mask.size)
        name = audit.records[issue.index].pair.name
        facts: dict[str, Any] = {"seen": None if opinion.seen is None else name in opinion.seen, "words": words}
        facts |= {"record": audit.records[issue.index], "issue": issue}
        out.append(facts | {"image": picture(outlined, quality=75), "label": maps[0], "map": maps[1]})
    return out


def outline(image: np.ndarray, where: np.ndarray, width: int) -> np.ndarray:
    """The image `[h,w,3]`, `width` wide, with a line around `where [H,W]`, light and red to be seen on any ground."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    shrinks = width < image.shape[1]
    drawn = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    there = cv2.resize(where.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    lines, _ = cv2.findContours(there, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for color, thickness in (((255, 255, 255), 4), (rgb(WRONG), 2)):
        cv2.drawContours(drawn, lines, -1, color, thickness, cv2.LINE_AA)
    return drawn


def region_words(issue: Issue, classes: Sequence[str], pixels: int) -> list[str]:
    """Each region in words: what the label says, what the run is sure of, and on which share of the image."""
    shares: Counter[tuple[int, int]] = Counter()
    for region in issue.regions:
        shares[region.given, region.predicted] += region.pixels
    largest = [(pair, count / pixels) for pair, count in shares.most_common()]
    return [f"{classes[g]} labelled, {classes[p]} seen on {share:.1%}" for (g, p), share in largest]


def legend(classes: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names and colours of what a label map shows."""
    return [*classes.items(), ("no label", "#000000")]
