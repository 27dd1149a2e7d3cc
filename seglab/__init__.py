"""A laboratory for semantic segmentation of aerial images: `load` a run to make maps, `read_study` to compare runs."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seglab.predict.predictor import load
    from seglab.report.rows import read_study

__all__ = ["__version__", "load", "read_study"]

__version__: str

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing it would ask a server for its newest version
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch is loaded: its profiler tells that it begins and ends
# Read when CUDA multiplies first: the products of trainer.deterministic=true are the same then whatever ran before.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
if "OMP_WAIT_POLICY" not in os.environ:
    # GNU's OpenMP, read when torch is loaded: a thread that waits spins 300,000 times by default. With one other busy
    # process on two cores a step of DeepLabV3+ (8 x 224 x 224, bfloat16) then takes 4.7 s, with 20,000 spins 1.8, with
    # 3,000 1.2. Alone it takes 0.33 s with 20,000 or more, and 0.37 with 3,000.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def __getattr__(name: str) -> Any:
    """The names above, imported when they are used: `import seglab` waits for no library."""
    if name == "load":
        from seglab.predict.predictor import load

        return load
    if name == "read_study":
        from seglab.report.rows import read_study

        return read_study
    if name == "__version__":
        from importlib.metadata import version

        return version("seglab")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
