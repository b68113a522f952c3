"""Contributions of patches, token by token, for plain vision transformers of timm."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def slow_contributions(model: nn.Module, images: Tensor, probed: Tensor, first: int) -> Tensor:
    """Return f (B, D, N), not scaled.

    Args:
        model: A timm ViT whose class token is read alone.
        images: (B, C, h, w).
        probed: Images at which the way from the last tokens to the final features is linearised.
        first: Index of the first block that counts.
    """
    prefix = model.num_prefix_tokens
    way = _way(model, probed)
    found = []
    for image in images:
        weights, values, streams = _attention(model, image[None])
        tokens = weights[0].shape[-1]
        traced = torch.zeros(tokens - prefix, len(way))
        for index in reversed(range(first, len(weights))):
            back = torch.zeros_like(traced)
            if index + 1 < len(weights):
                for i in range(tokens - prefix):
                    became = streams[index + 1][prefix + i]
                    own = max(0.0, float(streams[index][prefix + i] @ became))
                    taken = []
                    for j in range(tokens - prefix):
                        at = (prefix + i, prefix + j)
                        summand = _brought(model.blocks[index], weights[index], values[index], at)
                        taken.append(max(0.0, float(summand @ became)))
                    total = own + sum(taken)
                    back[i] += own / total * traced[i]
                    for j, share in enumerate(taken):
                        back[j] += share / total * traced[i]
            traced = back
            for j in range(tokens - prefix):
                at = (0, prefix + j)
                traced[j] += way @ _brought(model.blocks[index], weights[index], values[index], at)
        found.append(traced.T)
    return torch.stack(found)


def _brought(block: nn.Module, weights: Tensor, values: Tensor, at: tuple[int, int]) -> Tensor:
    """What a block's attention brings to the first token from the second."""
    pairs = zip(weights, values, strict=True)
    projected = block.attn.proj.weight @ torch.cat(
        [head[at] * value[at[1]] for head, value in pairs]
    )
    return projected * block.ls1.gamma if hasattr(block.ls1, "gamma") else projected


@torch.no_grad()
def _attention(model: nn.Module, image: Tensor) -> tuple[list[Tensor], ...]:
    """Attention (heads, T, T), values (heads, T, d) and input (T, C) of every block, one image."""
    normed: list[Tensor] = []
    streams: list[Tensor] = []

    def keep(_module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        streams.append(given[0][0])
        normed.append(out[0])

    inputs = [block.norm1.register_forward_hook(keep) for block in model.blocks]
    model(image)
    for handle in inputs:
        handle.remove()
    weights, values = [], []
    for block, tokens in zip(model.blocks, normed, strict=True):
        width = tokens.shape[1] // block.attn.num_heads
        query, key, value = block.attn.qkv(tokens).chunk(3, dim=1)
        heads = [slice(h * width, (h + 1) * width) for h in range(block.attn.num_heads)]
        scores = [query[:, h] @ key[:, h].T / width**0.5 for h in heads]
        weights.append(torch.stack([score.softmax(dim=1) for score in scores]))
        values.append(torch.stack([value[:, h] for h in heads]))
    return weights, values, streams


def _way(model: nn.Module, images: Tensor) -> Tensor:
    """Jacobian (D, C) of the final features by the class token, the mean over images."""
    caught: list[Tensor] = []
    handle = model.blocks[-1].register_forward_hook(lambda _m, _i, out: caught.append(out))
    with torch.no_grad():
        model(images)
    handle.remove()

    def features(tokens: Tensor) -> Tensor:
        return model.forward_head(model.norm(tokens[None]), pre_logits=True)[0]

    total = sum(torch.autograd.functional.jacobian(features, tokens)[:, 0] for tokens in caught[0])
    return total / len(images)
