"""A perceptual hash, which survives recompression and resizing, and the pictures that share it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from seglab.pages.pictures import preview

FAR = 10
"""Bits of 64 in which hashes of near-duplicates may differ; two other pictures differ in 32 on average."""
ALIKE = 0.97
"""Correlation of the 32 x 32 thumbnails that confirms it: a hash alone also meets by chance."""


@dataclass(frozen=True)
class Fingerprint:
    """`digest` of the pixels, `hash` of 64 bits, `thumbnail float32 [1024]` of mean 0 and length 1 (0 if even)."""

    digest: str
    hash: int
    thumbnail: np.ndarray


@dataclass(frozen=True)
class Duplicate:
    """Images `a` < `b` that look alike as a whole; `alike` is the correlation of their thumbnails."""

    a: int
    b: int
    alike: float
    identical: bool


def fingerprint(image: np.ndarray) -> Fingerprint:
    """The fingerprint of `[H,W,C]`; the hash holds the signs of its 64 slowest cosines but the constant one."""
    digest = hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).data).hexdigest()
    gray = cv2.cvtColor(preview(image), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    slow = cv2.dct(small)[:9, :9].ravel()[1:65]
    bits = np.packbits(slow > np.median(slow))
    thumbnail = (small - small.mean()).ravel()
    length = np.linalg.norm(thumbnail)
    even = length < 2 * 32  # a deviation under 2 of 255: open water, whose hash is noise
    return Fingerprint(digest, int.from_bytes(bits.tobytes()), np.zeros_like(thumbnail) if even else thumbnail / length)


def near_duplicates(prints: Sequence[Fingerprint | None]) -> list[Duplicate]:
    """All near-duplicates; every pair of hashes is compared, 64 bits at a time: a second for 10,000 pictures."""
    known = [(i, p) for i, p in enumerate(prints) if p is not None]
    hashes = np.array([p.hash for _, p in known], np.uint64)
    found: dict[tuple[int, int], float] = {}
    for k, (i, first) in enumerate(known):
        near = np.flatnonzero(np.bitwise_count(hashes[k + 1 :] ^ hashes[k]) <= FAR) + k + 1
        for j, other in (known[c] for c in near):
            alike = float(first.thumbnail @ other.thumbnail)
            if alike >= ALIKE:
                found[i, j] = alike
    same: dict[str, list[int]] = {}
    for j, p in known:
        found |= dict.fromkeys([(i, j) for i in same.setdefault(p.digest, [])], 1.0)
        same[p.digest].append(j)
    of = dict(known)
    return [Duplicate(i, j, alike, of[i].digest == of[j].digest) for (i, j), alike in sorted(found.items())]
