"""Two processes of torch.distributed, of which the second has seen no image of a metric."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist

from ttame.metrics.faithfulness import AverageDrop

if __name__ == "__main__":
    rank, file = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    metric = AverageDrop()
    if rank == 0:
        metric.update(torch.tensor([0.8, 0.5]), torch.tensor([0.4, 0.5]))
    sys.stdout.write(f"{metric.compute().item()} {len(metric.per_image())}")
    dist.destroy_process_group()
