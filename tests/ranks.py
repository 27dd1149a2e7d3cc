"""train.py, whose processes note hashes of their weights in the folder NOTES, and NAN spoils a loss of one of them.

`NAN=1:train:2`: the third training loss of the process of rank 1 is not a number.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

import train  # noqa: E402
from seglab.task.task import SegmentationTask  # noqa: E402
from seglab.training.recorder import Recorder  # noqa: E402

NOTES = Path(os.environ["NOTES"])
RANK = int(os.environ.get("LOCAL_RANK", "0"))
nan_rank, nan_stage, nan_call = os.environ.get("NAN", "-1:train:0").split(":")
calls: dict[str, int] = {}


def hashes(task: SegmentationTask) -> str:
    """Hash of the encoder's weights and of all weights."""
    parts = (task.net.encoder.parameters(), task.net.parameters())
    return " ".join(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in ps)).hexdigest() for ps in parts)


def noting(self: Recorder, trainer: Any, task: SegmentationTask) -> None:
    """Notes the hashes after an epoch."""
    on_train_epoch_end(self, trainer, task)
    with (NOTES / str(RANK)).open("a") as f:
        f.write(hashes(task) + "\n")


def spoiling(self: SegmentationTask, logits: torch.Tensor, batch: Any, stage: str) -> torch.Tensor:
    """Spoils the one loss."""
    now = calls.get(stage, 0)
    calls[stage] = now + 1
    if (RANK, stage, now) == (int(nan_rank), nan_stage, int(nan_call)):
        logits = logits * torch.nan
    return add_loss(self, logits, batch, stage)


on_train_epoch_end, Recorder.on_train_epoch_end = Recorder.on_train_epoch_end, noting  # type: ignore[method-assign]
add_loss, SegmentationTask._add_loss = SegmentationTask._add_loss, spoiling  # type: ignore[method-assign]

if __name__ == "__main__":
    train.run()
