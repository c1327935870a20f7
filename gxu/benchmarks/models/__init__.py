"""Real and randomly initialised models, compiled for gxu and by Inductor for the CPU."""
