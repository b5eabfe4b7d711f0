"""Exit codes, as the README documents them."""

OK = 0
FOUND = 1
"""Found something, or rows were dropped."""
MISUSE = 2
RUN_FAILED = 3
DAMAGED = 4
BUG = 70
INTERRUPTED = 130
NOT_EXECUTABLE = 126
"""`exec` found the command but can't start it; as of a shell."""
NOT_FOUND = 127
"""`exec` found no such command; as of a shell."""
