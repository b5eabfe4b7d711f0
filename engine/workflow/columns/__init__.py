"""Column types, one module for each: its settings, how its values are made, and what may be wrong
with it. `registry` finds them."""
