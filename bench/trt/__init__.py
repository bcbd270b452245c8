"""What ``bench/trt_check.py`` runs."""
