"""Runs: the record of a model's training, the folder that holds both, and its report."""
