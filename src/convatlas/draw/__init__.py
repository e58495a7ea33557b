"""Drawings of networks, plots of runs, charts of experiments."""

from convatlas.draw.accuracy import accuracy_chart as accuracy_chart
from convatlas.draw.architecture import DrawingFormat as DrawingFormat
from convatlas.draw.architecture import architecture as architecture
from convatlas.draw.architecture import architectures as architectures
from convatlas.draw.charts import Bars as Bars
from convatlas.draw.charts import Chart as Chart
from convatlas.draw.charts import Lines as Lines
from convatlas.draw.charts import Panels as Panels
from convatlas.draw.charts import Series as Series
from convatlas.draw.charts import Surface as Surface
from convatlas.draw.charts import chart_from_json as chart_from_json
from convatlas.draw.charts import chart_to_json as chart_to_json
from convatlas.draw.charts import render_chart as render_chart
from convatlas.draw.comparison import comparison as comparison
from convatlas.draw.levels import Level as Level
from convatlas.draw.plots import confusion_matrix as confusion_matrix
from convatlas.draw.plots import lr_finder_curve as lr_finder_curve
from convatlas.draw.plots import reliability_diagram as reliability_diagram
from convatlas.draw.plots import training_curves as training_curves
