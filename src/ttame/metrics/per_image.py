"""Running state of a metric: one value per image, merged across batches and processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class PerImage(Metric):
    """Keeps every image's value; subclasses say what is added and how it is summed up.

    The values are concatenated across batches and processes, so that the result depends neither on
    the batch size nor on a ragged last batch.
    """

    is_differentiable = False
    full_state_update = False
    values: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("values", default=[], dist_reduce_fx="cat")
        # Of a process without images, torchmetrics gathers an empty tensor of this type.
        self.set_dtype(torch.float64)

    def per_image(self) -> Tensor:
        """Return the value of every image seen, (N,) float64."""
        if isinstance(self.values, list) and not self.values:
            return torch.zeros(0, dtype=torch.float64, device=self.device)
        return dim_zero_cat(self.values)

    def _keep(self, values: Tensor) -> None:
        self.values.append(values.double())
