"""The study of findings.ipynb: its packed runs, its tables and figures, and the original's traps."""
