"""Training that takes longer than a chapter may: `python -m training.NAME` writes the weights of NAME and its log."""
