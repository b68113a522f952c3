"""Two processes of torch.distributed, of which the second has seen no image of its metrics."""

from __future__ import annotations

import json
import sys

import torch
import torch.distributed as dist

from tiny_cases import make_case
from ttame.metrics.faithfulness import AverageDrop
from ttame.metrics.measured import Measured

if __name__ == "__main__":
    rank, file = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    metric, several = AverageDrop(), Measured("confidence")
    if rank == 0:
        metric.update(torch.tensor([0.8, 0.5]), torch.tensor([0.4, 0.5]))
        several.update(make_case(images=2))
    means = [mean.item() for mean in (metric.compute(), *several.compute().values())]
    sys.stdout.write(json.dumps([len(metric.per_image()), *means]))
    dist.destroy_process_group()
