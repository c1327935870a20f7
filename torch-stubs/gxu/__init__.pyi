"""Types of torch.gxu for type checkers and editors: `import torch.gxu`.

A partial stub package (PEP 561): everything else in torch keeps its own types.
"""

from gxu.module import *
from gxu.module import __all__ as __all__
