"""Triton's backend for gxu: ``compiler.py`` and ``driver.py`` are the two modules that Triton looks for."""
