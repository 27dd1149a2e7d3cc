"""The shapes of what the JSON files of a run folder hold: a file from elsewhere that has another is refused."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

DONE, FAILED, DIVERGED, INTERRUPTED, RUNNING = "done", "failed", "diverged", "interrupted", "running"
"""States of a run; a run that was killed is interrupted, too."""

Score = Annotated[float, Field(ge=0, le=1 + 1e-6)] | None
"""A share; the mean of shares may be the last bit above 1. An absent class has none."""

Amount = Annotated[float, Field(ge=0)] | None


class Known(BaseModel):
    """Fields that are read; others may be there."""

    model_config = ConfigDict(extra="allow", strict=True)


class Best(Known):
    """The best epoch."""

    epoch: NonNegativeInt = 0
    miou: float | None = None  # minus infinity, or none, of a training without epochs


class Results(Known):
    """results.json."""

    status: Literal["done", "failed", "diverged", "interrupted", "running"]
    identity: str = ""
    reason: str = ""
    model: str = ""
    loss: str = ""
    epochs: PositiveInt = 1
    seed: NonNegativeInt = 0
    val: dict[str, Score | dict[str, Score]] | None = None
    majority_miou: Score = None
    best: Best | None = None
    train_seconds: Amount = None
    images_per_second: Amount = None
    environment: dict[str, Any] | None = None


class Environment(Known):
    """environment.json, of which versions before lack some."""

    versions: dict[str, str] | None = None
    settings: str = ""
    data: str = ""
    code: str = ""
    device: str | None = None
    finished: str | None = None
    original_size: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = None


class BoundaryF(Known):
    """The boundary F-score at one distance."""

    mean: Score
    classes: dict[str, Score]


class Evaluation(Known):
    """evaluation/<split>.json."""

    split: Literal["val", "test", "all"]
    checkpoint: Literal["last", "best"]
    identity: str
    weights: str
    data: str
    device: str
    scored: str
    looks: PositiveInt
    tile: PositiveInt | None = None
    original: bool = False
    images: PositiveInt
    scenes: NonNegativeInt
    pixels: PositiveInt
    scores: dict[str, Score | dict[str, Score]]
    boundary_f: dict[str, BoundaryF]
