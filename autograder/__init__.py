"""Exercises that check themselves: `from autograder import check, hint, progress, solution`."""

from autograder.practice import check, hint, progress, solution

__all__ = ["check", "hint", "progress", "solution"]
