"""Triton kernels as their users write them, and what each is measured against. `cases.py` lists them."""
