"""The benchmark's report: one self-contained page."""
