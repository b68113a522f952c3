"""A benchmark in a process of its own, killed by SIGKILL after so many calls of one method."""

from __future__ import annotations

import os
import signal
import sys

import torch

import ttame
from tiny_backbone import tiny_backbone
from ttame.methods.registry import Method


def deadly(calls_left: int) -> Method:
    """A method that kills its process, in the middle of a unit, when its calls are used up."""
    left = [calls_left]

    def function(backbone, images, classes):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.rand(len(images), 1, 4, 4) + images.mean(dim=(1, 2, 3))[:, None, None, None]

    return Method("deadly", "Deadly", function)


def run(data: str, out: str, calls_left: int, resume: bool, part: str | None = None) -> None:
    """Run or continue the benchmark."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ttame.benchmark(
        ttame.new_explainer(tiny_backbone()),
        data,
        methods=["random", deadly(calls_left), "gradcam"],
        measures=["confidence"],
        batch_size=3,
        out=out,
        resume=resume,
        part=part,
        report=False,
    )


if __name__ == "__main__":
    # By its own name: a run knows methods of a script from those of a module.
    import killed_run

    killed_run.run(
        sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "resume", *sys.argv[5:]
    )
