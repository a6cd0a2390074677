"""Mutants that no trial can catch, because they compute the same: the change, and why it changes nothing.

A mutant that survives and is not listed here is a missing trial; one that is listed and does not survive is stale.
"""

EQUIVALENT: dict[tuple[str, str], str] = {}
