"""A small typed SSA form of Triton IR, and the reader that makes it from MLIR's generic text."""
