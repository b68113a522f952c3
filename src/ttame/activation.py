"""From logits to probabilities: softmax over classes, or a sigmoid for each label on its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS = ("softmax", "sigmoid")

_LOG: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": partial(torch.log_softmax, dim=-1),
    "sigmoid": F.logsigmoid,
}
_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": partial(torch.softmax, dim=-1),
    "sigmoid": torch.sigmoid,
}


def probabilities(logits: Tensor, activation: str = "softmax") -> Tensor:
    """Turn logits (..., K) into probabilities (..., K).

    Args:
        logits: Of a classifier, in the type to compute in.
        activation: ``"softmax"``: one of the K classes is there, and they share a probability of 1.
            ``"sigmoid"``: any number of them may be there (multi-label).

    Example:
        >>> probabilities(torch.zeros(1, 4)), probabilities(torch.zeros(1, 2), "sigmoid")
        (tensor([[0.2500, 0.2500, 0.2500, 0.2500]]), tensor([[0.5000, 0.5000]]))
    """
    return _PLAIN[activation](logits)


def log_probabilities(logits: Tensor, activation: str = "softmax") -> Tensor:
    """Return the logarithm of :func:`probabilities`, exact for small ones too."""
    return _LOG[activation](logits)


def are_predicted(logits: Tensor, classes: Tensor, activation: str = "softmax") -> Tensor:
    """Say whether a classifier predicts these classes.

    Args:
        logits: (..., K).
        classes: (...), one class for each row of logits.
        activation: With ``"softmax"`` the best class is predicted, with ``"sigmoid"`` every class
            with a probability of at least 1/2.

    Returns:
        (...) boolean.

    Example:
        >>> logits, classes = torch.tensor([[1.0, 3.0]]), torch.tensor([0])
        >>> are_predicted(logits, classes), are_predicted(logits, classes, "sigmoid")
        (tensor([False]), tensor([True]))
    """
    if activation == "softmax":
        return logits.argmax(dim=-1) == classes
    return logits.gather(-1, classes[..., None])[..., 0] >= 0


def pseudo_labels(logits: Tensor, activation: str = "softmax") -> Tensor:
    """Choose the class of each image that a training keeps.

    With ``"softmax"`` it is the best class; with ``"sigmoid"`` one of the predicted classes, drawn
    with equal chances from torch's generator, or the best where none is predicted.

    Args:
        logits: (B, K).
        activation: Which of the two.

    Returns:
        (B,) class indices.

    Example:
        >>> pseudo_labels(torch.tensor([[-3.0, -1.0, -2.0]]), "sigmoid")
        tensor([1])
    """
    best = logits.argmax(dim=1)
    if activation == "softmax":
        return best
    predicted = (logits >= 0).scatter(1, best[:, None], True)
    return torch.multinomial(predicted.float(), 1)[:, 0]
