"""A plugin for mypy that knows the methods which PyTorch makes for the device when gxu is registered.

They are `x.gxu()` and `x.is_gxu` of tensors and `module.gxu()`; a stub package cannot add methods to a class that has
its own stubs. In the configuration of the program that is checked:

    [tool.mypy]
    plugins = ["gxu.mypy_plugin"]

Without it, and for other type checkers, `x.to("gxu")` and `x.device.type == "gxu"` are the spellings that have types.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.nodes import ARG_NAMED_OPT, ARG_OPT, Argument, Var
from mypy.plugin import ClassDefContext, Plugin
from mypy.plugins.common import add_attribute_to_class, add_method_to_class
from mypy.types import AnyType, TypeOfAny
from mypy.typevars import fill_typevars

NAME = "gxu"


def _optional(name: str, kind: object = ARG_OPT) -> Argument:
    type_ = AnyType(TypeOfAny.explicit)
    return Argument(Var(name, type_), type_, None, kind)  # type: ignore[arg-type]


def add_to_tensor(context: ClassDefContext) -> None:
    """`gxu(device=None, non_blocking=False, *, memory_format=...)`, and `is_gxu`."""
    arguments = [_optional("device"), _optional("non_blocking"), _optional("memory_format", ARG_NAMED_OPT)]
    add_method_to_class(context.api, context.cls, NAME, arguments, fill_typevars(context.cls.info))
    add_attribute_to_class(context.api, context.cls, f"is_{NAME}", context.api.named_type("builtins.bool"))


def add_to_module(context: ClassDefContext) -> None:
    """`gxu(device=None)`. It returns the module itself, of whatever class: a type that only `to` can express."""
    result = AnyType(TypeOfAny.explicit)
    add_method_to_class(context.api, context.cls, NAME, [_optional("device")], result)


CLASSES = {"torch._tensor.Tensor": add_to_tensor, "torch.nn.modules.module.Module": add_to_module}


class GXUPlugin(Plugin):
    def get_customize_class_mro_hook(self, fullname: str) -> Callable[[ClassDefContext], None] | None:
        return CLASSES.get(fullname)


def plugin(version: str) -> type[Plugin]:
    """What mypy calls. The device has another name under GXU_DEVICE_NAME; the plugin knows `gxu`."""
    return GXUPlugin
