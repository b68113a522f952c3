"""Import of the T-TAME authors' published checkpoints, without running anything in them."""
