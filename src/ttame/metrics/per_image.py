"""Running state of a metric: values per image, merged across batches and processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class PerImage(Metric):
    """Keeps values of every image; subclasses say what is added and how it is summed up.

    The values are concatenated across batches and processes, so that the result depends neither on
    the batch size nor on a ragged last batch.

    A :class:`torchmetrics.MetricCollection` takes metrics for one and the same for good if their
    states have the same names and, after the first batch, the same values. States are therefore
    named after what they hold; a collection that holds one metric twice, on other masks or under
    other conventions, needs ``compute_groups=False``.

    Args:
        states: Names of the states, each with one value per image.
        **options: Of :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, states: Iterable[str], **options: Any) -> None:
        super().__init__(**options)
        for state in states:
            self.add_state(state, default=[], dist_reduce_fx="cat")
        # Of a process without images, torchmetrics gathers an empty tensor of this type.
        self.set_dtype(torch.float64)

    def _keep(self, values: Tensor, state: str) -> None:
        getattr(self, state).append(values.double())

    def _kept(self, state: str) -> Tensor:
        """Return the value of every image seen, (N,) float64."""
        values: Tensor | list[Tensor] = getattr(self, state)  # a tensor where processes were merged
        if isinstance(values, list) and not values:
            return torch.zeros(0, dtype=torch.float64, device=self.device)
        return dim_zero_cat(values)
