"""Plots of a run."""

from convatlas.draw.plots import confusion as confusion
from convatlas.draw.plots import curves as curves
