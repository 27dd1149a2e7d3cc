"""Run folders -> the grid as tables, and (`seglab.report.page`) the report that people look at; never trains."""

from seglab.report.cells import Cell, cells
from seglab.report.tables import grid_table, write_grid

__all__ = ["Cell", "cells", "grid_table", "write_grid"]
