"""Answers to the puzzles of the original system's log: its traps computed again, and what runs show."""
