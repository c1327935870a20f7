"""From tiles to loops: which values are computed where, in which loop nests.

A tile is not computed when its operation is reached. *Roots* (stores, atomics, reductions, buffers) are; each pulls
what it needs through its index map, inside a loop nest that neighbouring roots share where they may.
"""
