"""Dynamo and Inductor integration of the `gxu` device.

File names follow torch: `device_interface` (torch._dynamo.device_interface), `device_op_overrides`, `scheduling`
and `wrapper` (torch._inductor.codegen), `heuristics` (torch._inductor.runtime.triton_heuristics), `benchmarking`,
`choices`. `activation` says when they are registered, `registration` registers them, and `compat` holds the only
patches of torch.

Importing this package imports nothing of torch: kernels compiled in worker processes import `gxu.inductor.heuristics`
alone, and `import torch` with gxu autoloaded must stay quick.
"""
