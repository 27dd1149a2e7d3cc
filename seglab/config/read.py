"""The config of a run folder: data only, of which nothing is constructed or imported; and what is used of its data."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from seglab.config.schema import Config, ConfigError, plain
from seglab.run.folder import Run
from seglab.run.reading import RecordError

if TYPE_CHECKING:
    from seglab.data.split import Rule

MOVED = {"seglab.schedules.": "seglab.task.schedules."}
"""Where constructors are that a config of an earlier version names elsewhere."""

Pixels = Annotated[int, Field(ge=1, le=1 << 16)]
Size = Pixels | Annotated[list[Pixels], Field(min_length=2, max_length=2)] | None


class OfData(BaseModel):
    """Sizes and split in a run folder's `data`; its `root` and `cache_dir` are never opened."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    size: Size = None
    crop: Size = None
    windows: PositiveInt | None = None
    val_scenes: list[str] | None = None
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    fold: NonNegativeInt | None = None
    folds: PositiveInt = 5
    split_seed: int = 0
    test_scenes: list[str] | None = None
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    train_scenes: list[str] | None = None
    batch_size: Annotated[int, Field(ge=1, le=1 << 16)] = 8

    @property
    def height_width(self) -> tuple[int, int] | None:
        """The size to which images are resized."""
        return _height_width(self.size)

    @property
    def window(self) -> tuple[int, int] | None:
        """The size of the windows into which scenes are cut; None where images are taken whole."""
        return _height_width(self.crop) if self.windows else None

    @property
    def rule(self) -> "Rule":
        """The settings of the split."""
        from seglab.data.split import Rule  # its package loads torch, for which no table of a study should wait

        return Rule(**{field.name: getattr(self, field.name) for field in fields(Rule)})


def _height_width(size: int | list[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def read(run: Run) -> Config:
    """The config that a run folder keeps; keys that are newer than the run have their defaults.

    Raises FileNotFoundError for a folder without one, and ConfigError, one line, for one that is not seglab's.
    """
    try:
        values = run.config()
    except RecordError as e:
        raise ConfigError(str(e)) from e
    try:
        return Config.of(_moved(values))
    except ConfigError as e:
        raise ConfigError(f"{run.config_file}: {e}") from e


def of_data(config: Config) -> OfData:
    """Sizes and split of a run folder's config. Raises ConfigError."""
    try:
        return OfData.model_validate(plain(config.data))
    except ValidationError as e:
        first = e.errors()[0]
        value = repr(first["input"])[:60]
        raise ConfigError(f"data.{first['loc'][0]}={value}: {first['msg'].lower()}") from None


def own_cache() -> Path:
    """The folder in which this user's decoded data sets are: that of conf/, never one that a run folder names."""
    from omegaconf import OmegaConf

    from seglab.config.compose import CONF

    return Path(OmegaConf.load(CONF / "data" / "folder.yaml").cache_dir).expanduser()


def _moved(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _moved(v) for k, v in node.items()}
    if isinstance(node, list):
        return [_moved(v) for v in node]
    old = next((old for old in MOVED if isinstance(node, str) and node.startswith(old)), "")
    return MOVED[old] + node.removeprefix(old) if old else node
