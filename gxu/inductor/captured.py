"""Compiled code as captured graphs: what `triton.cudagraphs` (`mode="reduce-overhead"`) means on gxu.

Inductor hands every compiled function whose work is all on the device to `cudagraphify`. Its first call runs, the
second is captured, and later ones replay the graph. What a replay reads and writes:

- Static inputs (parameters, as Inductor says) and results of other captured functions are read where they are. A
  recording belongs to these addresses; other addresses get a recording of their own.
- The other inputs are copied to memory of the recording.
- Results are in memory of the recording, which its next replay writes again. Those that are still in use then move to
  memory of their own first (`_C.GraphOutputs`). So no result is ever overwritten, other than with CUDA's trees, and
  `torch.compiler.cudagraph_mark_step_begin` is not needed.

Intermediate results of all recordings of a device share one pool of memory, since replays follow one another.
What cannot be captured runs as without graphs, with a warning that says why (`TORCH_LOGS=cudagraphs`).
"""

from __future__ import annotations

import functools
import operator
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._inductor import config
from torch._inductor.compile_fx import index_expanded_dims_and_copy_, static_input
from torch._inductor.cudagraph_utils import (
    PlaceholderInfo,
    get_mutation_stack_trace,
    log_cudagraph_skip_and_bump_counter,
    maybe_warning_due_to_dynamic_shape,
)
from torch._inductor.output_code import get_expanded_dims

from gxu import _C, graphs, streams
from gxu.inductor import config as gxu_config
from gxu.inductor.device import DEVICE_TYPE, device_module

#: A compiled function: it takes a list of inputs, which it empties, and returns a sequence of results.
Model = Callable[[list[Any]], Any]


class _Device:
    """What the recordings of one device share."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.pool = graphs.graph_pool_handle()
        #: Held from the choice of a recording to the end of its replay: backward runs in a thread of its own.
        self.lock = threading.RLock()
        #: Base addresses of the memory of results.
        self.results: set[int] = set()
        self._last: streams.Stream | None = None
        self._last_id: int | None = None

    def follow(self) -> None:
        """Makes the current stream wait for the last replay, which used the same memory, on whatever stream it was."""
        current_id = _C.current_stream_id(self.index)
        if current_id == self._last_id:
            return
        current = streams.current_stream(self.index)
        if self._last is not None:
            current.wait_stream(self._last)
        self._last, self._last_id = current, current_id

    def is_capturing(self) -> bool:
        """Whether the current stream captures a graph."""
        return _C.is_stream_capturing(_C.current_stream_id(self.index), self.index)


@functools.cache
def _device(index: int) -> _Device:
    return _Device(index)


class _Recording:
    """One captured call; `pinned` are the indices of the inputs that replays read where they are."""

    def __init__(self, device: _Device, model: Model, inputs: Sequence[Any], pinned: set[int], constants: Any) -> None:
        self.device = device
        arguments = list(inputs)
        tensors = [index for index, value in enumerate(inputs) if isinstance(value, Tensor)]
        #: The other inputs, and the tensors that they are copied to.
        self.copied = {index: static_input(inputs[index]) for index in tensors if index not in pinned}
        for index, buffer in self.copied.items():
            arguments[index] = buffer
        self.graph = graphs.Graph()
        with device_module().device(device.index), graphs.graph(self.graph, pool=device.pool):
            results = model(arguments)
        # Tensors without elements have no address.
        self._take(
            results,
            {base: index for index in pinned if (base := _base(inputs[index])) != 0},
            {_base(value) for value in constants} - {0},
        )

    def _take(self, results: Sequence[Any], inputs: dict[int, int], constants: set[int]) -> None:
        """Sorts the results: new tensors, views of inputs that are read where they are, constants and other values."""
        new: list[Tensor] = []
        #: For each result a function of (inputs, new tensors).
        self.makers: list[Callable[[Sequence[Any], list[Tensor]], Any]] = []
        for result in results:
            if not isinstance(result, Tensor) or _base(result) in constants:
                self.makers.append(functools.partial(_same, result))
            elif result.device.type != DEVICE_TYPE:
                raise RuntimeError(f"a result is on {result.device}")
            elif (base := _base(result)) in inputs:
                self.makers.append(functools.partial(_view_of_input, inputs[base], _Geometry(result)))
            else:
                self.makers.append(functools.partial(_new, len(new)))
                new.append(result)
        #: The memory of a copied input may be that of a result. It is the result's then, which a replay finds anew.
        places = {base: number for number, base in enumerate(map(_base, new)) if base != 0}
        self.returned = {
            index: (places[_base(buffer)], _Geometry(buffer))
            for index, buffer in self.copied.items()
            if _base(buffer) in places
        }
        for index in self.returned:
            if get_expanded_dims(self.copied.pop(index)):
                raise RuntimeError("a result lies in an input whose elements share memory")
        #: Those of which several elements share memory.
        self.overlapping = {index: buffer for index, buffer in self.copied.items() if get_expanded_dims(buffer)}
        for index in self.overlapping:
            del self.copied[index]
        self.bases = set(places)
        self.device.results |= self.bases
        self.only_new = len(new) == len(self.makers)
        self.results = _C.GraphOutputs(new)

    def __del__(self) -> None:
        self.device.results -= getattr(self, "bases", set())

    def replay(self, inputs: list[Any]) -> Sequence[Any]:
        self.device.follow()
        self.results.move_out_living()
        new = self.results.tensors()
        if self.copied:
            _C.enqueue_copies(list(self.copied.values()), [inputs[index] for index in self.copied])
        for index, buffer in self.overlapping.items():
            index_expanded_dims_and_copy_(buffer, inputs[index], get_expanded_dims(buffer))
        if self.returned:
            buffers = [geometry.of(new[number]) for number, geometry in self.returned.values()]
            _C.enqueue_copies(buffers, [inputs[index] for index in self.returned])
        self.graph.replay()
        results = new if self.only_new else [make(inputs, new) for make in self.makers]
        inputs.clear()
        return results


class _Geometry:
    """Where in a storage a tensor lies."""

    def __init__(self, tensor: Tensor) -> None:
        self.dtype = tensor.dtype
        self.place = tensor.storage_offset(), tensor.size(), tensor.stride()

    def of(self, tensor: Tensor) -> Tensor:
        """Like the tensor of the geometry, in the storage of `tensor`."""
        return torch.empty(0, dtype=self.dtype, device=tensor.device).set_(tensor.untyped_storage(), *self.place)


def _base(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _same(value: Any, inputs: Sequence[Any], new: list[Tensor]) -> Any:
    return value


def _new(number: int, inputs: Sequence[Any], new: list[Tensor]) -> Tensor:
    return new[number]


def _view_of_input(index: int, geometry: _Geometry, inputs: Sequence[Any], new: list[Tensor]) -> Tensor:
    return geometry.of(inputs[index])


class _Function:
    """A compiled function, for one set of sizes, and its recordings."""

    def __init__(
        self,
        model: Model,
        static: Sequence[int],
        device: _Device,
        is_backward: bool,
        constants: Sequence[Tensor],
        placeholders: Sequence[PlaceholderInfo],
        mutated: Sequence[int],
        inputs: Sequence[Any],
    ) -> None:
        self.model = model
        self.device = device
        self.constants = constants
        self.placeholders = placeholders
        self.mutated = mutated
        self.static = [index for index in static if isinstance(inputs[index], Tensor)]
        self.addresses = [inputs[index].data_ptr() for index in self.static]
        self.is_backward = is_backward
        self.others = [i for i, value in enumerate(inputs) if isinstance(value, Tensor) and i not in set(self.static)]
        self.recordings: dict[tuple[int, ...], dict[tuple[tuple[int, int], ...], _Recording]] = {}
        self.count = 0
        self.refused = False
        self.has_warned_of_mutation = False
        for index, value in enumerate(inputs):
            on_device = isinstance(value, Tensor) and value.device == torch.device(DEVICE_TYPE, device.index)
            if not on_device and not isinstance(value, int):
                what = f"on {value.device}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
                self._refuse(f"an input that is {what} (number {index})")
                break

    def __call__(self, inputs: list[Any]) -> Any:
        if self.refused or self.device.is_capturing():
            return self.model(inputs)
        with self.device.lock:
            recording = self._recording(inputs)
            if recording is not None:
                return recording.replay(inputs)
        return self.model(inputs)

    def _recording(self, inputs: list[Any]) -> _Recording | None:
        """The recording for these addresses, captured now where there is none; None where the call is to run."""
        if self.is_backward and not self.recordings:
            self._sort_out_activations(inputs)
        results = self.device.results
        static = tuple([inputs[index].data_ptr() for index in self.static])
        variants = self.recordings.setdefault(static, {})
        found = tuple([(index, inputs[index].data_ptr()) for index in self.others if _base(inputs[index]) in results])
        if found not in variants and len(variants) >= gxu_config.max_graph_variants:
            found = ()
        recording = variants.get(found)
        if recording is None:
            pinned = {*self.static, *(index for index, _ in found)}
            if self._is_allowed(pinned):
                recording = self._record(inputs, pinned)
            if recording is not None:
                variants[found] = recording
        return recording

    def _sort_out_activations(self, inputs: list[Any]) -> None:
        """Inductor calls all that the forward pass has saved static. What is no parameter, and has moved since the
        first call, is found by its address where the forward pass was captured, and copied otherwise."""
        before = dict(zip(self.static, self.addresses, strict=True))
        results = self.device.results
        static = [
            index
            for index, address in before.items()
            if _base(inputs[index]) not in results
            and (isinstance(inputs[index], torch.nn.Parameter) or inputs[index].data_ptr() == address)
        ]
        self.others += [index for index in self.static if index not in static]
        self.static = static

    def _is_allowed(self, pinned: set[int]) -> bool:
        mutated = [index for index in self.mutated if index not in pinned]
        if mutated:
            if not self.has_warned_of_mutation:
                self.has_warned_of_mutation = True
                log_cudagraph_skip_and_bump_counter(get_mutation_stack_trace(self.placeholders, mutated))
            return False
        limit = config.triton.cudagraph_unexpected_rerecord_limit
        if self.count > limit:
            self._refuse(
                f"{self.count} recordings of one function, for inputs at other addresses each; the limit is "
                f"triton.cudagraph_unexpected_rerecord_limit={limit}"
            )
            return False
        return True

    def _record(self, inputs: list[Any], pinned: set[int]) -> _Recording | None:
        try:
            recording = _Recording(self.device, self.model, inputs, pinned, self.constants)
        except Exception as error:
            self._refuse(f"work that cannot be captured: {error}")
            return None
        self.count += 1
        return recording

    def _refuse(self, reason: str) -> None:
        self.refused = True
        self.recordings.clear()
        log_cudagraph_skip_and_bump_counter(f"skipping cudagraphs due to {reason}")


def capturing(
    model: Model,
    static_input_idxs: Sequence[int] = (),
    *,
    device_index: int,
    stack_traces: list[str | None],
    is_backward: bool,
    is_inference: bool,
    constants: tuple[Tensor, ...] = (),
    placeholders: Sequence[PlaceholderInfo] = (),
    mutated_input_idxs: tuple[int, ...] = (),
) -> Model:
    """`model`, captured and replayed: the arguments are those of `torch._inductor.compile_fx.cudagraphify`."""
    functions: dict[Any, _Function] = {}
    get_sizes: Callable[[list[Any]], Any] | None = None
    has_warned = False
    # Read once: a look into Inductor's configuration costs a tenth of a replay.
    always_warms_up = config.triton.force_cudagraphs_warmup

    def run(inputs: list[Any]) -> Any:
        nonlocal get_sizes, has_warned
        if get_sizes is None:
            sizes_at = [index for index, value in enumerate(inputs) if isinstance(value, int)]
            get_sizes = operator.itemgetter(*sizes_at) if sizes_at else _no_sizes
        sizes = get_sizes(inputs)
        function = functions.get(sizes)
        if function is not None and not always_warms_up:
            return function(inputs)
        wanted = config.triton.cudagraph_capture_sizes
        if function is None and (wanted is None or sizes in wanted):
            has_warned = has_warned or maybe_warning_due_to_dynamic_shape(functions, sizes)
            functions[sizes] = _Function(
                model,
                static_input_idxs,
                _device(device_index),
                is_backward,
                constants,
                placeholders,
                mutated_input_idxs,
                inputs,
            )
        return model(inputs)

    return run


def _no_sizes(inputs: list[Any]) -> None:
    return None
