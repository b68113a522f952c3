"""Ablations: the same training with one part changed at a time, scored on the same photos."""
