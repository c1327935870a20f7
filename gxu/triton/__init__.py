"""Triton's backend for gxu: ``compiler.py`` and ``driver.py`` are the two modules that Triton looks for."""

# Triton looks while it is imported itself. Were it imported by one of those modules, it would find that one unfinished.
import triton.backends  # noqa: F401
