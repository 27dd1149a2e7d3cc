"""Warnings in words: signs in a training's numbers that its score is to be doubted."""

import math
from collections.abc import Iterator, Mapping

from seglab.report.curves import SCORED, STAGES, trainings
from seglab.report.study import Entry, Table
from seglab.run.folder import DIVERGED

DEAD_SHARE = 1e-3
"""A stage whose gradient norm stays below this share of the largest stage's hardly learns.

Norms of healthy stages of our models differ by a factor of up to 30 on the real tiles.
"""

NEVER_SHARE = 0.01
"""A class predicted on fewer than this share of the pixels that it has in the labels is as good as never predicted."""

FALLING_EPOCHS = 3
"""Least number of epochs over which validation mIoU falls while training mIoU rises, to be called overfitting."""

FALLING_BY = 0.02
"""Least fall of validation mIoU in these epochs: more than its usual noise."""

LAGGING = 0.4
"""Distance of batch norm's running statistics from the last batch's (see `batch_norm_gap`).

On the real tiles, 7 steps an epoch, our models end healthy epochs at 0.05 to 0.22, which is a batch's own noise; with a
constant momentum of 0.01 they end at 0.8 to 1.7, and then validation sees another network than training did.
"""


def symptoms(table: Table) -> list[str]:
    """Warnings of a table, each with the name of its cell."""
    found = [f"{e.name}: {s}" for e in trainings(table) for s in _of_training(e)]
    return found + [f"{e.name}: {s}" for e in table.done for s in never_predicted(e)]


def _of_training(entry: Entry) -> Iterator[str]:
    yield from not_finite(entry)
    yield from dead_stages(entry)
    yield from falling(entry)
    yield from lagging(entry)


def not_finite(entry: Entry) -> Iterator[str]:
    """The loss was NaN or infinite."""
    if entry.cell.status == DIVERGED:
        yield f"the loss is not finite: {entry.cell.results.get('reason', 'no reason is kept')}"
    for row in entry.metrics:
        wrong = [f"{part} loss" for part in ("train", "val") if not math.isfinite(row.get(f"{part}/loss", 0.0))]
        if wrong:
            yield f"the {' and the '.join(wrong)} of epoch {row['epoch']:.0f} is not finite."
            return


def dead_stages(entry: Entry) -> Iterator[str]:
    """A stage got hardly any gradient, in most epochs in which it was trained."""
    for stage in STAGES:
        rows = [r for r in entry.metrics if math.isfinite(r.get(f"gradient/{stage}", math.nan))]
        low = [r for r in rows if r[f"gradient/{stage}"] <= DEAD_SHARE * _largest(r)]
        if low and len(low) > len(rows) / 2:
            yield (
                f"the {stage} hardly learns: in {len(low)} of {len(rows)} epochs its gradient norm was below "
                f"{DEAD_SHARE:g} of the largest stage's."
            )


def _largest(row: Mapping[str, float]) -> float:
    return max(v for k, v in row.items() if k.startswith("gradient/") and math.isfinite(v))


def falling(entry: Entry) -> Iterator[str]:
    """Overfitting: training mIoU rises while validation mIoU falls, from the best epoch to the last."""
    rows = [r for r in entry.metrics if all(math.isfinite(r.get(f"{s}/miou", math.nan)) for s in SCORED)]
    if not rows:
        return
    best = max(rows, key=lambda r: r["val/miou"])
    last = rows[-1]
    lost = best["val/miou"] - last["val/miou"]
    won = last["train_scored/miou"] - best["train_scored/miou"]
    if last["epoch"] - best["epoch"] >= FALLING_EPOCHS and lost >= FALLING_BY and won > 0:
        yield (
            f"overfitting since epoch {best['epoch']:.0f}. Validation mIoU fell by {lost:.3f} while that of the "
            f"training images rose by {won:.3f}. Fewer epochs, or best.ckpt, score higher."
        )


def lagging(entry: Entry) -> Iterator[str]:
    """Batch norm's running statistics are far from those of the batches when training ends."""
    gap = entry.metrics[-1].get("batch_norm_gap", math.nan) if entry.metrics else math.nan
    if gap > LAGGING:
        yield (
            f"batch norm's running statistics are far from those of the last batch ({gap:.2f}; healthy is below "
            f"{LAGGING:g}). Validation and maps use statistics that training did not. More steps in each epoch bring "
            "them together."
        )


def never_predicted(entry: Entry) -> Iterator[str]:
    """A class that the labels have and the maps lack."""
    if entry.validation is None:
        return
    total = entry.validation.confusion.sum(0)
    for i, name in enumerate(entry.classes):
        true = int(total[i].sum())
        predicted = int(total[:, i].sum())
        pixels = max(1, int(total.sum()))
        if true and predicted < NEVER_SHARE * true:
            much = f"predicted on only {predicted / pixels:.2%} of the pixels" if predicted else "never predicted"
            yield f"{name} is {much}, though {true / pixels:.1%} of the labelled pixels are {name}."
