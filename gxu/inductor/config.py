"""Knobs of torch.compile on gxu, as `torch._inductor.config` has them: `gxu.inductor.config.patch(...)`, environment.

The values are part of the FX-graph cache key.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

from torch.utils._config_module import install_config_module

# Whether block sizes follow the device's grid rule (`gxu.inductor.block_sizes`). False: torch's own choices, made for
# graphics processors; `python -m gxu bench heuristics` compares the two.
use_grid_rule: bool = os.environ.get("GXU_USE_GRID_RULE", "1") == "1"

# Fewest elements that a program of a pointwise kernel handles, where the problem is larger: a parallel region costs the
# host engine a few microseconds, about the time of so many elements.
min_elements_per_program: int = int(os.environ.get("GXU_MIN_ELEMENTS_PER_PROGRAM", "4096"))

# Fewest elements of a reduction that one of its splits handles.
min_elements_per_split: int = int(os.environ.get("GXU_MIN_ELEMENTS_PER_SPLIT", "32768"))

# Fewest programs that the grid of a template (products, convolutions, attention) should have; 0 stands for the number
# of threads of the host engine.
min_template_programs: int = int(os.environ.get("GXU_MIN_TEMPLATE_PROGRAMS", "0"))

# Graphs that one compiled function gets under mode="reduce-overhead", for one set of static inputs, for different
# addresses of the results of other graphs that it takes. Beyond these they are copied like any input.
max_graph_variants: int = int(os.environ.get("GXU_MAX_GRAPH_VARIANTS", "3"))

if TYPE_CHECKING:

    def patch(*args: Any, **kwargs: Any) -> Any: ...
    def save_config_portable(*args: Any, **kwargs: Any) -> dict[str, Any]: ...


install_config_module(sys.modules[__name__])
