"""torch.gxu.Graph and what captures into it: work recorded once and replayed as one piece.

Kernels, copies within the device, and every operator that runs on the delegate can be captured. What waits for the
device cannot: reading a value on the CPU, copies between the device and pageable memory, synchronising, and operators
whose result's shape depends on values. These raise one error that names them, the capture ends without a graph, and the
device stays usable.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gxu import _C, compat, cuda_pools, streams
from gxu._name import DEVICE_TYPE
from gxu.memory import empty_cache

PoolHandle = tuple[int, int]
CaptureMode = Literal["default", "global", "thread_local", "relaxed"]


class Graph(compat.AcceleratorGraph):
    """A captured graph, with the methods of torch.cuda.CUDAGraph.

    Random operators draw from their generators as they would eagerly: each replay goes on in the sequence. Any
    generator may be used; none needs to be registered.

    Args:
        keep_graph: keeps what was captured after `capture_end`, so that `instantiate` can be called (again).
    """

    def __new__(cls, keep_graph: bool = False) -> Graph:
        return super().__new__(cls, keep_graph)

    def __init__(self, keep_graph: bool = False) -> None:
        super().__init__(keep_graph)
        self._cuda_pool: cuda_pools.CudaPool | None = None

    def capture_begin(self, pool: PoolHandle | None = None, capture_error_mode: CaptureMode = "global") -> None:
        """Begins a capture on the current stream, which must not be the default stream.

        Args:
            pool: the pool that the graph's memory comes from, from `graph_pool_handle` or another graph's `pool()`.
            capture_error_mode: accepted as torch.cuda's; a capture never disturbs other threads.
        """
        super().capture_begin(pool=pool, capture_error_mode=capture_error_mode)
        self._cuda_pool = cuda_pools.open_pool(self.pool())

    def capture_end(self) -> None:
        """Ends the capture; what runs from here on is no part of the graph."""
        if self._cuda_pool is not None:
            self._cuda_pool.close()
        super().capture_end()

    def reset(self) -> None:
        """Gives up what was captured, and its memory; the graph can capture again."""
        if self._cuda_pool is not None:
            self._cuda_pool.close()
        super().reset()
        if self._cuda_pool is not None:
            self._cuda_pool.release()
            self._cuda_pool = None

    def register_generator_state(self, generator: torch.Generator) -> None:
        """Does nothing: a capture finds the generators that it uses by itself."""

    def raw_cuda_graph(self) -> int:
        """Not available: there is no CUDA graph behind this one."""
        raise NotImplementedError("a gxu graph has no cudaGraph_t: use replay()")


#: The names that scripts written for other devices look for.
CUDAGraph = GXUGraph = Graph


def graph_pool_handle() -> PoolHandle:
    """The id of a new memory pool, for graphs that are never replayed at the same time to share."""
    return _C.new_graph_pool()


def is_current_stream_capturing() -> bool:
    """True while the current stream of the current device captures a graph; does not start the runtime."""
    return _C.is_initialized() and _C.is_stream_capturing(
        _C.current_stream_id(_C.current_device()), _C.current_device()
    )


class graph:  # noqa: N801
    """Context manager that captures into a Graph on a stream of its own.

    An error inside ends the capture and is passed on as it is; the graph is empty then and may capture again.

    Args:
        gxu_graph: what to capture into.
        pool: as in Graph.capture_begin.
        stream: the stream to capture on; one that all captures share where None.
    """

    default_capture_stream: streams.Stream | None = None

    def __init__(
        self,
        gxu_graph: Graph,
        pool: PoolHandle | None = None,
        stream: torch.Stream | None = None,
        capture_error_mode: CaptureMode = "global",
    ) -> None:
        if stream is None:
            if graph.default_capture_stream is None:
                graph.default_capture_stream = streams.Stream()
            stream = graph.default_capture_stream
        self.gxu_graph = gxu_graph
        self.pool = pool
        self.capture_error_mode = capture_error_mode
        self._stream_context = streams.stream(stream)

    def __enter__(self) -> None:
        streams.synchronize()
        if torch.compiler.config.force_cudagraph_gc:
            gc.collect()
        empty_cache()
        self._stream_context.__enter__()
        try:
            self.gxu_graph.capture_begin(self.pool, self.capture_error_mode)
        except BaseException:
            self._stream_context.__exit__()
            raise

    def __exit__(self, error_type: type[BaseException] | None, *error: object) -> None:
        try:
            if error_type is None:
                self.gxu_graph.capture_end()
            else:
                self.gxu_graph.reset()
        finally:
            self._stream_context.__exit__()


class _Graphed:
    """One callable and the graphs of its forward and backward pass.

    Replays read their inputs from, and write their outputs and gradients to, the tensors of the capture.
    """

    def __init__(self, function: Callable[..., Any], sample_args: tuple[Any, ...], allow_unused_input: bool) -> None:
        self.function = function
        self.sample_args = sample_args
        self.allow_unused_input = allow_unused_input
        self.parameters: tuple[Tensor, ...] = ()
        if isinstance(function, nn.Module):
            if function._backward_hooks or function._forward_hooks or function._forward_pre_hooks:
                raise RuntimeError("register the module's hooks after make_graphed_callables, not before")
            if any(buffer.requires_grad for buffer in function.buffers()):
                raise RuntimeError("the module has buffers that require gradients: only parameters may")
            self.parameters = tuple(function.parameters())
        arguments = tuple(pytree.arg_tree_leaves(*sample_args))
        if not all(isinstance(argument, Tensor) for argument in arguments):
            raise TypeError("sample_args of make_graphed_callables must hold tensors only")
        self.arguments = cast("tuple[Tensor, ...]", arguments)
        self.inputs = self.arguments + self.parameters
        self.forward_graph = Graph()
        self.backward_graph = Graph()
        self.outputs: tuple[Tensor, ...] = ()
        self.output_structure: Any = None
        self.output_gradients: tuple[Tensor | None, ...] = ()
        self.input_gradients: tuple[Tensor | None, ...] = ()

    def warm_up(self) -> None:
        outputs = pytree.tree_leaves(self.function(*self.sample_args))
        self._gradients(outputs, [torch.empty_like(output) for output in outputs if output.requires_grad])

    def capture_forward(self, pool: PoolHandle) -> None:
        with graph(self.forward_graph, pool=pool):
            outputs = self.function(*self.sample_args)
        leaves, self.output_structure = pytree.tree_flatten(outputs)
        self.outputs = tuple(leaves)

    def capture_backward(self, pool: PoolHandle) -> None:
        self.output_gradients = tuple(
            torch.empty_like(output) if output.requires_grad else None for output in self.outputs
        )
        gradients: Sequence[Tensor | None] = ()
        if any(output.requires_grad for output in self.outputs):
            with graph(self.backward_graph, pool=pool):
                gradients = self._gradients(self.outputs, [g for g in self.output_gradients if g is not None])
        remaining = iter(gradients)
        self.input_gradients = tuple(next(remaining, None) if x.requires_grad else None for x in self.inputs)

    def _gradients(self, outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> Sequence[Tensor | None]:
        differentiable = tuple(output for output in outputs if output.requires_grad)
        if not differentiable:
            return ()
        return torch.autograd.grad(
            outputs=differentiable,
            inputs=tuple(x for x in self.inputs if x.requires_grad),
            grad_outputs=tuple(gradients),
            only_inputs=True,
            allow_unused=self.allow_unused_input,
        )

    def replayer(self) -> Callable[..., Any]:
        """The function that replays the forward graph, and the backward graph where it is differentiated."""

        class Replay(torch.autograd.Function):
            @staticmethod
            def forward(context: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
                for static, given in zip(self.arguments, inputs, strict=False):
                    _copy_unless_same(static, given)
                self.forward_graph.replay()
                return tuple(output.detach() for output in self.outputs)

            @staticmethod
            @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
            def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
                for static, given in zip(self.output_gradients, gradients, strict=True):
                    if static is not None:
                        _copy_unless_same(static, given)
                self.backward_graph.replay()
                return tuple(None if gradient is None else gradient.detach() for gradient in self.input_gradients)

        def replay(*arguments: Any) -> Any:
            leaves = pytree.arg_tree_leaves(*arguments)
            return pytree.tree_unflatten(Replay.apply(*leaves, *self.parameters), self.output_structure)

        return replay


def _copy_unless_same(static: Tensor, given: Tensor) -> None:
    if static.data_ptr() != given.data_ptr():
        static.copy_(given)


def make_graphed_callables(
    callables: Any,
    sample_args: tuple[Any, ...],
    num_warmup_iters: int = 3,
    allow_unused_input: bool = False,
    pool: PoolHandle | None = None,
) -> Any:
    """Functions or modules that replay graphs of themselves, also when they are differentiated (once).

    Args:
        callables: a function or module, or a tuple of them in the order in which they will run.
        sample_args: tensors like those of the later calls, in shape, dtype and requires_grad; with several callables, a
            tuple of them for each. Later calls copy their arguments into these.
        num_warmup_iters: eager runs before the capture.
        allow_unused_input: lets inputs have no gradient.
        pool: as in Graph.capture_begin.

    Modules keep their identity and replay in the mode (training or evaluation) of the capture; in the other one they
    run as before.
    """
    if torch.is_autocast_enabled(DEVICE_TYPE) and torch.is_autocast_cache_enabled():
        raise RuntimeError("make_graphed_callables does not support autocast's cache: use cache_enabled=False")
    several = isinstance(callables, tuple)
    functions = callables if several else (callables,)
    arguments = sample_args if several else (sample_args,)
    parts = [_Graphed(function, args, allow_unused_input) for function, args in zip(functions, arguments, strict=True)]

    streams.synchronize()
    with streams.stream(streams.Stream()):
        for part in parts:
            for _ in range(num_warmup_iters):
                part.warm_up()
    streams.synchronize()

    # One pool serves all, so the captures follow the order of the replays.
    shared = graph_pool_handle() if pool is None else pool
    for part in parts:
        part.capture_forward(shared)
    for part in reversed(parts):
        part.capture_backward(shared)
    graphed = tuple(_install(part) for part in parts)
    return graphed if several else graphed[0]


def _install(part: _Graphed) -> Any:
    replay = part.replayer()
    module = part.function
    if not isinstance(module, nn.Module):
        return replay
    eager, training = module.forward, module.training

    def forward(*args: Any, **kwargs: Any) -> Any:
        return replay(*args, **kwargs) if module.training == training else eager(*args, **kwargs)

    module.forward = forward  # type: ignore[method-assign]
    return module
