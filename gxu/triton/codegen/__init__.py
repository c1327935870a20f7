"""From the loop form to LLVM IR, and from there to a binary that the runtime loads."""
