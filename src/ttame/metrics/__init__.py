"""Metrics of explanations: pure functions first, running means second."""
