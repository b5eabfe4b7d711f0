"""Exit codes, as the README documents them."""

OK = 0
FOUND = 1
"""Found something, or rows were dropped."""
MISUSE = 2
RUN_FAILED = 3
DAMAGED = 4
BUG = 70
INTERRUPTED = 130
