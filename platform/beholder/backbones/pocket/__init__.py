"""The small backbone for CPUs."""
