"""The parts of ``benchmarks/model_sweep.py``."""
