"""Training: interruptible runs, the losses of keyword swap training, and its trainer."""
