"""Plots of a run, and charts of experiments."""

from convatlas.draw.charts import Bars as Bars
from convatlas.draw.charts import Chart as Chart
from convatlas.draw.charts import Lines as Lines
from convatlas.draw.charts import Panels as Panels
from convatlas.draw.charts import Series as Series
from convatlas.draw.charts import Surface as Surface
from convatlas.draw.charts import chart as chart
from convatlas.draw.charts import chart_from as chart_from
from convatlas.draw.charts import chart_values as chart_values
from convatlas.draw.plots import confusion as confusion
from convatlas.draw.plots import curves as curves
from convatlas.draw.plots import printable as printable
from convatlas.draw.plots import rates as rates
from convatlas.draw.plots import reliability as reliability
