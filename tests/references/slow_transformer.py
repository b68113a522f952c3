"""A timm ViT written out by hand: attention, rollout and layer-wise relevance, step by step."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def embed(model: nn.Module, images: Tensor) -> Tensor:
    """Return the tokens (B, T, C) that enter the first block."""
    return model.norm_pre(model._pos_embed(model.patch_embed(images)))


def queries_keys_values(block: nn.Module, normed: Tensor) -> list[Tensor]:
    """Return three tensors (B, heads, T, d)."""
    heads = block.attn.num_heads
    parts = block.attn.qkv(normed).chunk(3, dim=-1)
    return [p.unflatten(-1, (heads, -1)).transpose(1, 2) for p in parts]


def slow_attention(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Return each block's attention (B, heads, T, T), one query and head at a time."""
    tokens, matrices = embed(model, images), []
    for block in model.blocks:
        query, key, value = queries_keys_values(block, block.norm1(tokens))
        matrix = torch.zeros(*query.shape[:3], query.shape[2])
        mixed = torch.zeros_like(value)
        for b in range(query.shape[0]):
            for h in range(query.shape[1]):
                for i in range(query.shape[2]):
                    scores = torch.stack([query[b, h, i] @ k for k in key[b, h]])
                    row = torch.exp(scores / math.sqrt(query.shape[-1]))
                    matrix[b, h, i] = row / row.sum()
                    mixed[b, h, i] = matrix[b, h, i] @ value[b, h]
        tokens = tokens + block.attn.proj(mixed.transpose(1, 2).flatten(2))
        tokens = tokens + block.mlp(block.norm2(tokens))
        matrices.append(matrix)
    return matrices


def slow_rollout(matrices: list[Tensor], residual: float) -> Tensor:
    """Return the whole rollout matrix (B, T, T)."""
    results = []
    for b in range(len(matrices[0])):
        size = matrices[0].shape[-1]
        result = torch.eye(size)
        for attention in matrices:
            mixed = torch.zeros(size, size)
            for head in attention[b]:
                mixed += (1 - residual) * head / len(attention[b])
            mixed += residual * torch.eye(size)
            result = mixed @ result
        results.append(result)
    return torch.stack(results)


def linear_relevance(
    x: Tensor, layer: nn.Linear, relevance: Tensor, gamma: float
) -> tuple[Tensor, Tensor]:
    """Pass relevance (T, out) through a linear layer; returns (T, in) and what the bias keeps."""
    passed, kept = torch.zeros_like(x), x.new_zeros(())
    bias = layer.bias if layer.bias is not None else torch.zeros(len(layer.weight))
    for t in range(len(x)):
        for j in range(len(layer.weight)):
            parts = torch.cat([x[t] * layer.weight[j], bias[j : j + 1]])
            same = parts * (parts.sign() == parts.sum().sign())
            parts = parts + gamma * same
            shares = parts / parts.sum() * relevance[t, j]
            passed[t] += shares[:-1]
            kept = kept + shares[-1]
    return passed, kept


def norm_relevance(x: Tensor, norm: nn.LayerNorm, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Pass relevance (T, C) through a layer norm with a constant divisor."""
    centred = x - x.mean(dim=-1, keepdim=True)
    deviation = (centred.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt()
    output = centred / deviation * norm.weight + norm.bias
    ratio = relevance / output
    kept = (ratio * norm.bias).sum()
    to_centred = ratio * centred / deviation * norm.weight
    # The mean is a linear layer: x_i counts with its weight (delta_ij - 1/C) in output j.
    weights = torch.eye(x.shape[-1]) - 1 / x.shape[-1]
    return x * ((to_centred / centred) @ weights.T), kept


def slow_steps(model: nn.Module, image: Tensor) -> tuple[list[tuple[Tensor, ...]], Tensor]:
    """Return every tensor of every block for one image, and the tokens behind the last one."""
    tokens = embed(model, image[None])[0]
    steps = []
    for block in model.blocks:
        first = block.norm1(tokens)
        query, key, value = (p[0] for p in queries_keys_values(block, first[None]))
        scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])
        weights = scores.softmax(dim=-1)
        heads = weights @ value
        mixed = heads.transpose(0, 1).flatten(1)
        attended = block.attn.proj(mixed)
        middle = tokens + attended
        second = block.norm2(middle)
        hidden = block.mlp.fc1(second)
        active = F.gelu(hidden)
        after = block.mlp.fc2(active)
        steps.append(
            (tokens, first, query, key, value, scores, weights, heads, mixed, attended, middle,
             second, active, after)
        )  # fmt: skip
        tokens = middle + after
    return steps, tokens


def slow_attnlrp(
    model: nn.Module, image: Tensor, index: int, gamma: float, first: int = 0
) -> tuple[Tensor, Tensor]:
    """Return the relevance of the tokens that enter a block (T,), and what was kept behind it."""
    steps, tokens = slow_steps(model, image)
    normed = model.norm(tokens)
    logits = torch.zeros(1, model.num_classes)
    logits[0, index] = model.head(normed[:1])[0, index]
    relevance = torch.zeros_like(normed)
    # Only the explained logit has relevance; 0/0 cannot happen in the others' rows.
    relevance[:1], kept = linear_relevance(normed[:1], model.head, logits, gamma)
    relevance, more = norm_relevance(tokens, model.norm, relevance)
    kept = kept + more
    for block, step in zip(reversed(model.blocks[first:]), reversed(steps[first:]), strict=True):
        (entering, lined, query, key, value, scores, weights, heads, mixed, attended, middle,
         second, active, after) = step  # fmt: skip
        skip = relevance * middle / (middle + after)
        branch = relevance * after / (middle + after)
        branch, more = linear_relevance(active, block.mlp.fc2, branch, gamma)
        kept = kept + more
        branch, more = linear_relevance(second, block.mlp.fc1, branch, gamma)
        kept = kept + more
        branch, more = norm_relevance(middle, block.norm2, branch)
        kept, relevance = kept + more, skip + branch
        skip = relevance * entering / middle
        branch = relevance * attended / middle
        branch, more = linear_relevance(mixed, block.attn.proj, branch, gamma)
        kept = kept + more
        branch = branch.unflatten(1, (len(heads), -1)).transpose(0, 1)
        ratio = branch / heads / 2
        to_weights = weights * (ratio @ value.transpose(1, 2))
        to_value = value * (weights.transpose(1, 2) @ ratio)
        to_scores = scores * (to_weights - weights * to_weights.sum(dim=-1, keepdim=True))
        kept = kept + to_weights.sum() - to_scores.sum()
        ratio = to_scores / scores / 2 / math.sqrt(query.shape[-1])
        to_query = query * (ratio @ key)
        to_key = key * (ratio.transpose(1, 2) @ query)
        parts = [p.transpose(0, 1).flatten(1) for p in (to_query, to_key, to_value)]
        branch, more = linear_relevance(lined, block.attn.qkv, torch.cat(parts, dim=1), gamma)
        kept = kept + more
        branch, more = norm_relevance(entering, block.norm1, branch)
        kept, relevance = kept + more, skip + branch
    return relevance.sum(dim=-1), kept


def positive_relevance(x: Tensor, layer: nn.Linear, relevance: Tensor) -> Tensor:
    """Pass relevance (T, out) through a linear layer by its positive contributions; (T, in)."""
    passed = torch.zeros_like(x)
    for t in range(len(x)):
        for j in range(len(layer.weight)):
            parts = x[t] * layer.weight[j]
            parts = parts * (parts > 0)
            passed[t] += parts / parts.sum() * relevance[t, j]
    return passed


def balanced(left: Tensor, right: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Normalise the relevance of two operands of one image as Chefer et al. (CVPR 2021) do."""
    sizes = left.sum().abs() + right.sum().abs()
    to_left, to_right = (
        part * part.sum().abs() / sizes * relevance.sum() / part.sum() for part in (left, right)
    )
    return to_left, to_right


def slow_transformer_lrp(
    model: nn.Module, image: Tensor, index: int
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return each attention's relevance (heads, T, T), the tokens' (T, C), and the map row (T,)."""
    steps, tokens = slow_steps(model, image.clone().requires_grad_())
    normed = model.norm(tokens)
    logit = model.head(normed[:1])[0, index]
    gradients = torch.autograd.grad(logit, [step[6] for step in steps])
    relevance, target = torch.zeros_like(normed), torch.zeros(1, model.num_classes)
    target[0, index] = 1
    # Norms, softmax and activations change no relevance.
    relevance[:1] = positive_relevance(normed[:1], model.head, target)
    matrices = []
    for block, step in zip(reversed(model.blocks), reversed(steps), strict=True):
        (entering, first, query, key, value, scores, weights, heads, mixed, attended, middle,
         second, active, after) = step  # fmt: skip
        share = relevance / (middle + after)
        skip, branch = balanced(middle * share, after * share, relevance)
        branch = positive_relevance(active, block.mlp.fc2, branch)
        relevance = skip + positive_relevance(second, block.mlp.fc1, branch)
        share = relevance / (entering + attended)
        skip, branch = balanced(entering * share, attended * share, relevance)
        branch = positive_relevance(mixed, block.attn.proj, branch)
        branch = branch.unflatten(1, (len(heads), -1)).transpose(0, 1)
        ratio = branch / heads
        to_weights, to_value = balanced(
            weights * (ratio @ value.mT), value * (weights.mT @ ratio), branch
        )
        matrices.insert(0, to_weights.detach())
        ratio = to_weights / scores / math.sqrt(query.shape[-1])
        to_query, to_key = balanced(query * (ratio @ key), key * (ratio.mT @ query), to_weights)
        parts = [p.transpose(0, 1).flatten(1) for p in (to_query, to_key, to_value)]
        branch = positive_relevance(first, block.attn.qkv, torch.cat(parts, dim=1))
        relevance = skip + branch
    whole = torch.eye(len(tokens))
    for gradient, matrix in zip(gradients, matrices, strict=True):
        effect = torch.zeros_like(whole)
        for head in range(len(matrix)):
            effect += (gradient[head] * matrix[head]).clamp(min=0) / len(matrix)
        whole = (torch.eye(len(tokens)) + effect) @ whole
    return matrices, relevance.detach(), whole[0].detach()
