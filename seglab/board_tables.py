"""What TensorBoard is told about a run besides its points: how to group the curves, and its row in the table of runs."""

import re
from collections.abc import Iterable, Mapping

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

LAYOUT = "custom_scalars__config__"
"""The tag under which TensorBoard looks for the groups of curves."""


def layout(class_names: Iterable[str]) -> Summary:
    """Groups of charts, in each chart one curve of every run."""
    return custom_scalars(
        {
            "mIoU": {"validation mIoU": _chart("miou/val"), "training images, scored alike": _chart("miou/train_scored")},
            "losses": {"validation loss": _chart("loss/val"), "training loss": _chart("loss/train")},
            "validation IoU of each class": {name: _chart(f"iou/{name}/val") for name in class_names},
            "other validation scores": {"Dice": _chart("dice/val"), "accuracy": _chart("accuracy/val")},
            "gradient and learning rate": {
                "learning rate": _chart("learning_rate"),
            },
        }
    )


def _chart(tag: str) -> tuple[str, list[str]]:
    return "Multiline", [f"{re.escape(tag)}$"]


def table_row(settings: Mapping[str, str | float], metrics: Mapping[str, str]) -> list[Summary]:
    """A run's row among the hparams: its settings, and which scalars are its metrics (tag: heading).

    A number is declared as one: 5, 20 and 100 epochs sort as numbers.
    """
    kinds = {name: DATA_TYPE_STRING if isinstance(v, str) else DATA_TYPE_FLOAT64 for name, v in settings.items()}
    table = Experiment(
        hparam_infos=[HParamInfo(name=name, type=kind) for name, kind in kinds.items()],
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
