"""gxu: an accelerator as a PyTorch device, with torch.compile through Triton.

Importing the package registers the device type `gxu` (GXU_DEVICE_NAME gives it another name) with PyTorch and nothing
else: no runtime library is loaded, no device is touched, and neither Dynamo nor Inductor is imported. `import torch`
does it by itself through the entry point `torch.backends`, unless TORCH_DEVICE_BACKEND_AUTOLOAD=0.

With GXU_REGISTER=0 it registers nothing: the extension `gxu._C` and the Triton backend are there for a device of
another name, as examples/minimal_backend has one.
"""

import os


def _autoload() -> None:
    """What PyTorch calls after it imported this package: the import has done everything.

    It stands above the imports because `import gxu` imports torch, which then loads this entry point from the half
    imported package.
    """


import torch  # noqa: E402

from gxu._version import __version__, check_torch_version  # noqa: E402

check_torch_version(torch.__version__)

# The name before libgxu_torch.so, which reads it from the environment.
from gxu import _name  # noqa: E402, F401

from gxu import _C  # noqa: E402  # isort: skip

if os.environ.get("GXU_REGISTER", "1") != "0":
    from gxu._registration import register

    register()

__all__ = ["_C", "__version__"]
