"""gxu against another device of PyTorch that does the same work, such as `cuda` on the same GPU.

Each device is measured by processes of its own (`worker`), which do the same on it: torch's compiler and Triton have
one active driver a process. `compare` joins what they say.
"""
