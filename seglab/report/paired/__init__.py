"""Finished cells beside each other by their counts: along one setting, and over folds."""
