from __future__ import annotations

import hashlib

import torch
from torch import nn

from ttame.backbone.fingerprint import fingerprint


def test_fingerprint_is_the_documented_hash():
    layer = nn.Linear(2, 1)
    digest = hashlib.sha256()
    for name, shape in (("bias", "(1,)"), ("weight", "(1, 2)")):
        digest.update(f"{name}|torch.float32|{shape}\n".encode())
        digest.update(layer.state_dict()[name].numpy().tobytes())
    assert fingerprint(layer) == digest.hexdigest()


def test_fingerprint_sees_every_bit_but_no_memory_format():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = fingerprint(model)
    assert fingerprint(model.to(memory_format=torch.channels_last)) == before
    assert fingerprint(model.half()) != before
    model.float()
    model[1].num_batches_tracked += 1
    assert fingerprint(model) != before


def test_half_precision_weights_have_a_fingerprint():
    assert len(fingerprint(nn.Linear(3, 3, dtype=torch.bfloat16))) == 64
