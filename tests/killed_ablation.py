"""An ablation in a process of its own, killed by SIGKILL in a cell's training step."""

from __future__ import annotations

import os
import signal
import sys

import torch

import ttame
from tiny_backbone import TINY_TRAINING, tiny_backbone
from ttame.training.module import ExplainerTraining


def run(data: str, eval_data: str, out: str, steps_left: int, resume: bool) -> None:
    """Run or continue the ablation; it is killed when its training steps are used up."""
    torch.set_num_threads(1)
    left, real = [steps_left], ExplainerTraining.training_step

    def step(self, batch, batch_idx):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, batch, batch_idx)

    ExplainerTraining.training_step = step
    try:
        ttame.ablate(
            {
                "model": tiny_backbone(classes=3),
                "data": data,
                "eval_data": eval_data,
                "settings": {**TINY_TRAINING, "epochs": 3},
                "cells": [{"name": "base"}, {"name": "no skip", "branch": "no-skip"}],
            },
            out,
            resume=resume,
        )
    finally:
        ExplainerTraining.training_step = real


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5] == "resume")
