"""The size of the figures in a run's description.

MLflow does not scale images, and cuts the panel beside them off in a window of 1280 pixels if they
are wider.
"""

PAGE_WIDTH = 6.6  # inches
PAGE_DPI = 96
