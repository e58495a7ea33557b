"""Plots of a run."""

from convatlas.draw.plots import confusion as confusion
from convatlas.draw.plots import curves as curves
from convatlas.draw.plots import printable as printable
from convatlas.draw.plots import rates as rates
from convatlas.draw.plots import reliability as reliability
