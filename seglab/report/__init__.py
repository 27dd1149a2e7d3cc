"""Run folders -> the grid as tables, and (`seglab.report.page`) the report that people look at; never trains."""

from seglab.report.tables import Cell, cells, flat, grid_table, write_grid

__all__ = ["Cell", "cells", "flat", "grid_table", "write_grid"]
