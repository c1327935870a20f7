"""Facts about values that the lowering asks for: how they vary, what they cost, what they touch."""
