"""TensorBoard's data of a run besides its points: groups of curves, its row in the table of runs, PR curves."""

import re
from collections.abc import Iterable, Mapping

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import (
    DATA_TYPE_FLOAT64,
    DATA_TYPE_STRING,
    STATUS_SUCCESS,
    Experiment,
    HParamInfo,
    MetricInfo,
    MetricName,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from torch.utils.tensorboard.summary import custom_scalars

from seglab.scores import MAIN, SCORES

LAYOUT = "custom_scalars__config__"
"""The tag under which TensorBoard looks for the groups of curves."""

PR_CURVES = "precision_recall/"
FINAL = ("final/", "_hparams_/", PR_CURVES)
"""Beginnings of the tags that only a finished run has."""

AXES = {"loss", "epochs", "seed", "model"}
"""Settings in which the runs of a study differ. TensorBoard opens with five settings: these first, then by name."""


def layout(class_names: Iterable[str], score_train: bool) -> Summary:
    """Groups of charts, in each chart one curve of every run."""
    names = list(class_names)
    main = {"validation": tag(f"val/{MAIN.name}")}
    if score_train:
        main["training images, scored alike"] = tag(f"train_scored/{MAIN.name}")
    others = [score for score in SCORES if score is not MAIN and not score.reference]
    of_classes = {
        f"validation {score.label} of each class": {name: tag(f"val/{score.name}/{name}") for name in names}
        for score in others
        if score.per_class
    }
    groups = {
        MAIN.label: main,
        "loss": {"validation": tag("val/loss"), "training": tag("train/loss")},
        **of_classes,
        "other validation scores": {s.label: tag(f"val/{s.name}") for s in others if not s.per_class},
        "gradient norm": {stage: f"gradient/{stage}" for stage in ("encoder", "bottleneck", "decoder", "head")},
        "optimisation": {"learning rate": "learning_rate", "batch norm: batch against running": "batch_norm_gap"},
    }
    charts = {g: {t: ("Multiline", [f"{re.escape(tag)}$"]) for t, tag in tags.items()} for g, tags in groups.items()}
    return custom_scalars(charts)


def tag(name: str) -> str:
    """`val/miou` -> `miou/val`, so that TensorBoard lays the stages of one score side by side."""
    stage, _, score = name.partition("/")
    return f"{score}/{stage}" if score and not name.startswith((*FINAL, "gradient/")) else name


def table_row(settings: Mapping[str, str | float], metrics: Mapping[str, str]) -> list[Summary]:
    """A run's row among the hparams: its settings, and which scalars are its metrics (tag: heading).

    A number is declared as one: 5, 20 and 100 epochs sort as numbers.
    """
    kinds = {name: DATA_TYPE_STRING if isinstance(v, str) else DATA_TYPE_FLOAT64 for name, v in settings.items()}
    table = Experiment(
        hparam_infos=[HParamInfo(name=name, type=kind, differs=name in AXES) for name, kind in kinds.items()],
        metric_infos=[MetricInfo(name=MetricName(tag=tag), display_name=head) for tag, head in metrics.items()],
    )
    start = SessionStartInfo()
    for name, value in settings.items():
        setattr(start.hparams[name], "string_value" if isinstance(value, str) else "number_value", value)
    parts = {
        metadata.EXPERIMENT_TAG: HParamsPluginData(experiment=table),
        metadata.SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=start),
        metadata.SESSION_END_INFO_TAG: HParamsPluginData(session_end_info=SessionEndInfo(status=STATUS_SUCCESS)),
    }
    return [_summary(tag, part) for tag, part in parts.items()]


def _summary(tag: str, part: HParamsPluginData) -> Summary:
    out = Summary()
    out.value.add(tag=tag, metadata=metadata.create_summary_metadata(part), tensor=metadata.NULL_TENSOR)
    return out


def precision_recall(histogram: np.ndarray) -> np.ndarray:
    """`float64 [6,bins+1]`: tp, fp, tn, fn, precision and recall of "p >= t" at t = 0, 1/bins, ..., 1.

    `histogram [bins,2]` counts negative and positive pixels in equal bins of p.
    """
    above = np.zeros((len(histogram) + 1, 2))
    above[:-1] = histogram[::-1].cumsum(0)[::-1]
    fp, tp = above.T
    tn, fn = (above[0] - above).T
    return np.stack([tp, fp, tn, fn, tp / np.maximum(tp + fp, 1), tp / np.maximum(tp + fn, 1)])
