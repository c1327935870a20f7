"""Inductor's autotuner for gxu: torch's, with a launcher that goes straight to the runtime.

The launcher that torch generates calls Triton's: through `CompiledKernel.launch_metadata` (Triton's hook chains are
always true), nine leading arguments and all the constants of the kernel. After the first launch it is replaced by one
that passes what the kernel reads, and nothing else, to `gxu._C.launch`; and `run`, which generated code calls, becomes
that launcher, as long as nobody profiles or debugs.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, NamedTuple

from torch._dynamo.device_interface import get_interface_for_device
from torch._inductor.runtime.coordinate_descent_tuner import CoordescTuner
from torch._inductor.runtime.triton_compat import knobs
from torch._inductor.runtime.triton_heuristics import (
    CachingAutotuner,
    GridExpr,
    autograd_profiler,
    get_active_debug_mode,
    get_constexprs,
)
from torch.utils._ordered_set import OrderedSet

from gxu.inductor import block_sizes, compat
from gxu.inductor.device import triton_target
from gxu.inductor.static_launch import StaticCompileResult


def _launch_hooks() -> list[Any]:
    """Triton's launch hooks, as one list per chain: a kernel with hooks takes the long way."""
    if knobs is None:
        return []
    chains = (knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook)
    return [chain.calls for chain in chains if hasattr(chain, "calls")]


def _static_grid(result: Any) -> tuple[int, int, int] | None:
    """A launch's grid, where every extent is known at compile time."""
    grid = GridExpr.from_meta(result.inductor_meta, result.config)
    numels = {f"{prefix}numel": numel for prefix, numel in result.inductor_meta.get("gxu_numels", {}).items()}
    try:
        x, y, z = grid.eval_slow(numels)
    except NameError:  # the grid depends on an argument
        return None
    return int(x), int(y), int(z)


def _grid(result: Any) -> tuple[list[str], str]:
    """Statements and argument list of a launch's grid: constants where they are known."""
    if (known := _static_grid(result)) is not None:
        return [], ", ".join(map(str, known))
    grid = GridExpr.from_meta(result.inductor_meta, result.config)
    return [*grid.prefix], f"{grid.x_grid}, {grid.y_grid}, {grid.z_grid}"


def _watched() -> tuple[tuple[dict[str, Any], str], ...] | None:
    """Where it is written that launches are looked at: by Triton's hooks, a profiler or a debug mode. None where this
    version of torch or Triton tells only by functions."""
    hooks = () if knobs is None else (knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook)
    modes = vars(sys.modules[get_active_debug_mode.__module__])
    places = (
        *((vars(chain) if hasattr(chain, "__dict__") else {}, "calls") for chain in hooks),
        (vars(autograd_profiler), "_is_profiler_enabled"),
        (modes, "_ACTIVE_DEBUG_MODE_COUNT"),
    )
    return places if all(name in where for where, name in places) else None


class Launch(NamedTuple):
    """What launchers are built from: the signature and the parameters as the launch passes them and as callers do.

    `direct` is a vendor's backend's: the codes and values of parameters behind the kernel's own, the threads of a
    program and its shared memory.
    """

    function: int
    signature: str
    call_args: list[str]
    def_args: list[str]
    direct: tuple[Any, ...] | None

    @classmethod
    def of(cls, result: Any) -> Launch | None:
        """That of a compiled kernel, or None where it needs Triton's own launcher."""
        kernel = result.kernel
        if isinstance(result, StaticCompileResult):
            call_args, def_args, _ = result._get_arg_lists(kernel.arg_names, kernel.constexprs)
            signature, direct = kernel.signature, None
        else:
            fn = kernel.src.fn
            call_args, def_args, _ = result._get_arg_lists(fn.arg_names, get_constexprs(fn))
            signature, direct = getattr(kernel.run, "signature", None), getattr(kernel.run, "direct", None)
        if signature is None or len(signature) != len(call_args) or result.inductor_meta.get("store_cubin"):
            return None
        return cls(kernel.function, signature, call_args, def_args, direct)


def build_run(result: Any, launcher: Any, run: Any) -> Any | None:
    """What takes the place of `run`, the autotuner's method: in C where the grid is known, or `build_launcher`'s."""
    launch, grid, watched = Launch.of(result), _static_grid(result), _watched()
    if launch is not None and grid is not None and watched is not None and launch.direct is None:
        from gxu import _C

        _, signature, call_args, def_args, _ = launch
        codes = dict(zip(call_args, signature, strict=False))
        passed = [arg for arg, code in zip(call_args, signature, strict=False) if code != "-"]
        in_order = [arg for arg in def_args if codes.get(arg, "-") != "-"]
        if passed == in_order:
            signature = "".join(codes.get(arg, "-") for arg in def_args)
            return _C.KernelLauncher(launch.function, grid, signature, watched, run)
    return build_launcher(result, launcher, run)


def build_launcher(result: Any, launcher: Any, run: Any = None) -> Any | None:
    """A launcher for the compiled kernel `result` that calls `gxu._C.launch`, or None where it needs Triton's own.

    `launcher` launches where Triton's hooks look, and holds what callers read from a launcher.
    With `run`, the autotuner's method, the launcher takes that one's arguments, and its place: what only the method can
    do (profiles, debug modes, Triton's hooks, keywords) it leaves to it.
    """
    launch = Launch.of(result)
    if launch is None:
        return None
    from gxu import _C

    _, signature, call_args, def_args, direct = launch
    passed = [(code, arg) for code, arg in zip(signature, call_args, strict=True) if code != "-"]
    statements, grid = _grid(result)
    arguments = "".join(f"{arg}, " for _, arg in passed)
    codes, values, *sizes = direct or ("", "")
    given = "".join(f"{arg}, " for arg in def_args)
    if run is None:
        parameters, long_way = f"{given}stream", f"return with_hooks({given}stream=stream)"
        condition = "enter_hooks or exit_hooks"
    else:
        parameters, long_way = f"{given}stream, **options", f"return run({given}stream=stream, **options)"
        condition = "enter_hooks or exit_hooks or options or profiler._is_profiler_enabled or get_active_debug_mode()"
    body = [
        f"if {condition}:",
        f"    {long_way}",
        *statements,
        f"launch({', '.join(['function', grid, 'stream', 'signature', f'({arguments}{values})', *map(str, sizes)])})",
    ]
    enter_hooks, exit_hooks = (*_launch_hooks(), [], [])[:2]
    scope = {
        "launch": _C.launch,
        "function": launch.function,
        "kernel": result.kernel,  # whose end unloads the function
        "signature": "".join(code for code, _ in passed) + codes,
        "enter_hooks": enter_hooks,
        "exit_hooks": exit_hooks,
        "with_hooks": launcher,
        "run": run,
        "profiler": autograd_profiler,
        "get_active_debug_mode": get_active_debug_mode,
    }
    source = f"def launcher({parameters}):\n" + "\n".join(f"    {line}" for line in body)
    exec(source, scope)  # noqa: S102  (as torch's _gen_launcher_code: argument names and Inductor's grid)
    built: Any = scope["launcher"]
    built.__dict__.update(launcher.__dict__)
    built._expected_positional_count = len(def_args)  # torch's message for a stream among the arguments
    return built


class GXUCoordescTuner(CoordescTuner):
    """Coordinate descent over blocks, up to the sizes that gxu's heuristics choose; warps and stages mean nothing."""

    @staticmethod
    def of(tuner: CoordescTuner) -> GXUCoordescTuner:
        """A tuner of the same kernel as torch's `tuner`."""
        return GXUCoordescTuner(
            is_mm=tuner.is_mm,
            is_native_matmul=tuner.is_native_matmul,
            is_mix_order_reduction=tuner.is_mix_order_reduction,
            name=tuner.name,
            size_hints=tuner.size_hints,
            inductor_meta=tuner.inductor_meta,
            frozen_fields=OrderedSet(["num_warps", "num_stages"]),
        )

    def get_config_max(self, prefix: str) -> int:
        largest = block_sizes.MAX_BLOCK[prefix.upper()]
        hint = (self.size_hints or {}).get(prefix)
        return largest if hint is None else min(largest, hint)


class DeviceCachingAutotuner(CachingAutotuner):
    """torch's autotuner for the Triton target that the device's runtime names, with gxu's steady-state launcher."""

    fn: Any

    def _precompile_config(self, cfg: Any) -> Any:
        result = super()._precompile_config(cfg)
        return self._attach(StaticCompileResult.of(result, self.heuristic_type) or result)

    def _make_launchers(self) -> None:
        for result in self.compile_results:  # which may come from a cache or a compile worker
            self._attach(result)
        super()._make_launchers()

    def _attach(self, result: Any) -> Any:
        if isinstance(result, StaticCompileResult):
            result.make_full_launcher = functools.partial(self._make_full_launcher, result.config)
        return result

    def _make_full_launcher(self, cfg: Any) -> Any:
        """torch's own launcher of a configuration, where its `StaticCompileResult` is not enough."""
        if self.fn.fn is None:  # compiled in another process
            self.fn = self._reload_kernel().fn
        return super()._precompile_config(cfg).make_launcher()

    def _create_compile_meta(self, cfg: Any) -> dict[str, Any]:
        meta: dict[str, Any] = super()._create_compile_meta(cfg)
        meta["device_type"], meta["cc"] = triton_target(meta["device_type"], meta["cc"])
        return meta

    def get_device_interface(self) -> Any:
        # torch's replaces "hip" by "cuda" wherever it stands in the device's name, as it does in "mychip".
        return get_interface_for_device(self.device_props.type)

    def _create_compile_options(self, cfg: Any, compile_meta: dict[str, Any]) -> dict[str, Any]:
        options: dict[str, Any] = super()._create_compile_options(cfg, compile_meta)
        if compile_meta["device_type"] == "cuda":
            # What torch asks of NVIDIA's backend for its own cuda device.
            for name in ("launch_cooperative_grid", "launch_pdl"):
                options[name] = compile_meta.get(name, False)
            if compile_meta.get("disable_ftz", False):
                options["enable_reflect_ftz"] = False
        return options

    @property
    def _cached_launcher(self) -> Any | None:  # type: ignore[override]
        """The launcher of the steady state; torch's methods set it, and forget it when another must be found."""
        return self.__dict__.get("_cached_launcher")

    @_cached_launcher.setter
    def _cached_launcher(self, launcher: Any | None) -> None:
        self.__dict__["_cached_launcher"] = launcher
        if launcher is None:
            self.__dict__.pop("run", None)

    def _build_fast_launcher(self, launcher: Any) -> Any | None:
        for result in self.compile_results:
            if result.config is launcher.config:
                static = isinstance(result, StaticCompileResult)  # whose launcher goes straight to the runtime
                if static and not result.is_loaded:
                    return None
                built = launcher if static else build_launcher(result, launcher)
                if built is not None:
                    # Found before the method of this name.
                    self.__dict__["run"] = build_run(result, launcher, super().run)
                return built
        return None


compat.keep_steady_launcher(DeviceCachingAutotuner)


class GXUCachingAutotuner(DeviceCachingAutotuner):
    """The autotuner of the kernels whose blocks follow the device's grid rule: also where it tunes them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.coordesc_tuner: CoordescTuner = GXUCoordescTuner.of(self.coordesc_tuner)
