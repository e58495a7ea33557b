"""Trained networks made smaller."""
