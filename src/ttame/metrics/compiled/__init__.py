"""What numba compiles for the CPU; a folder of its own, so that it is imported only when used."""
