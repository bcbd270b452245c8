"""What ``python bench/gpu_check.py`` runs on a machine with a GPU; docs/gpu.md explains it."""
