"""Watches the loop of a run from inside its process.

The modules need the standard library alone, from Python 3.10 on, and import one another relatively:
`headgate exec` loads this folder in the interpreter of somebody else's program.
"""
