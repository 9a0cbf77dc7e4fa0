"""The figures of an evaluation, as torchmetrics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score, MulticlassRecall


class BalancedAccuracy(MulticlassRecall):
    """Mean recall over the classes that occur; for logits ``(N, C)`` and labels ``(N,)``.

    `MulticlassAccuracy` averaged over classes counts a class without images as 0 once it is predicted.

    Source:
        Brodersen et al. 2010, doi:10.1109/ICPR.2010.764.
    """

    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__(num_classes, average="none", **options)

    def compute(self) -> Tensor:
        """A scalar from 0 to 1."""
        occurs = torch.as_tensor(self.tp) + torch.as_tensor(self.fn) > 0
        return super().compute()[occurs].mean()


def evaluation_metrics(num_classes: int) -> MetricCollection:
    """The metrics of an evaluation, logged as ``val/<name>`` or ``test/<name>``; all are shares from 0 to 1.

    ``acc`` is top-1 accuracy, ``top5`` that within the five most probable classes, where there are more than five.
    """
    # Not synchronised, because `ClassifierModule` shows every device the outputs of all.
    options: dict[str, Any] = {"validate_args": False, "sync_on_compute": False}
    metrics: dict[str, Metric | MetricCollection] = {"acc": MulticlassAccuracy(num_classes, average="micro", **options)}
    if num_classes > 5:
        metrics["top5"] = MulticlassAccuracy(num_classes, top_k=5, average="micro", **options)
    metrics["macro_f1"] = MulticlassF1Score(num_classes, average="macro", **options)
    metrics["balanced_acc"] = BalancedAccuracy(num_classes, **options)
    return MetricCollection(metrics)


def monitors() -> dict[str, bool]:
    """Names that can choose the best epoch, with any number of classes -> whether larger is better."""
    metrics = evaluation_metrics(num_classes=2).items()
    return {**{f"val/{name}": bool(metric.higher_is_better) for name, metric in metrics}, "val/loss": False}
