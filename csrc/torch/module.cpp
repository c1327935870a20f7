// gxu._C: what Python sees of the extension.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/Dtype.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/Generator.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/inductor/aoti_torch/c/shim_gxu.h>
#include <torch/csrc/utils/pybind.h>

#include "alias.h"
#include "allocator.h"
#include "allocator_module.h"
#include "cuda_delegate.h"
#include "delegate.h"
#include "device.h"
#include "device_guard_module.h"
#include "device_name.h"
#include "distributed/process_group_module.h"
#include "factory.h"
#include "function_module.h"
#include "generator.h"
#include "gil.h"
#include "graph.h"
#include "graph_module.h"
#include "graph_outputs_module.h"
#include "kernel_launcher_module.h"
#include "launcher.h"
#include "model_runner_module.h"
#include "receipts.h"
#include "shared_event.h"
#include "sharing.h"
#include "stream.h"

namespace py = pybind11;

namespace gxu {
namespace {

// Frequent calls take CPython's fast calling convention: pybind11's own costs more than what they do.

PyObject* get_raw_stream(PyObject* /*self*/, PyObject* device_index) {
  HANDLE_TH_ERRORS
  const long index = PyLong_AsLong(device_index);
  if (index == -1 && PyErr_Occurred() != nullptr) {
    return nullptr;
  }
  return PyLong_FromUnsignedLongLong(static_cast<uint64_t>(current_stream_id(resolve_device_index(index))));
  END_HANDLE_TH_ERRORS
}

bool unpack_sizes(PyObject* tuple, c10::SmallVectorImpl<int64_t>& sizes) {
  if (!PyTuple_Check(tuple)) {
    PyErr_Format(PyExc_TypeError, "empty_strided_gxu: size and stride must be tuples of integers, not %s",
                 Py_TYPE(tuple)->tp_name);
    return false;
  }
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); ++i) {
    const int64_t size = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i));
    if (size == -1 && PyErr_Occurred() != nullptr) {
      return false;
    }
    sizes.push_back(size);
  }
  return true;
}

PyObject* empty_strided_gxu(PyObject* /*self*/, PyObject* const* arguments, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  if (count != 3 || !THPDtype_Check(arguments[2])) {
    PyErr_SetString(PyExc_TypeError, "empty_strided_gxu(size: tuple, stride: tuple, dtype: torch.dtype)");
    return nullptr;
  }
  c10::SmallVector<int64_t, 8> size;
  c10::SmallVector<int64_t, 8> stride;
  if (!unpack_sizes(arguments[0], size) || !unpack_sizes(arguments[1], stride)) {
    return nullptr;
  }
  return THPVariable_Wrap(empty_strided(size, stride, reinterpret_cast<THPDtype*>(arguments[2])->scalar_type));
  END_HANDLE_TH_ERRORS
}

PyMethodDef fast_methods[] = {
    {"get_raw_stream", get_raw_stream, METH_O,
     "get_raw_stream(device_index: int) -> int\n\nHandle (gxuStream_t) of the current stream of the device."},
    {"empty_strided_gxu", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&empty_strided_gxu)), METH_FASTCALL,
     "empty_strided_gxu(size: tuple, stride: tuple, dtype: torch.dtype) -> Tensor\n\n"
     "Uninitialised tensor on the current device."},
    {"launch", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&launch)), METH_FASTCALL,
     "launch(function: int, grid_x: int, grid_y: int, grid_z: int, stream: int, signature: str, args: tuple"
     "[, block_x: int[, shared_memory_bytes: int]])\n\n"
     "Enqueues a kernel. `signature` has one character an argument: p pointer, b/h/i/l and B/H/I/L signed and unsigned "
     "integers of 8/16/32/64 bits, e/y/f/d fp16/bf16/fp32/fp64, ? bool, - not passed."},
    {nullptr, nullptr, 0, nullptr},
};

template <size_t size>
std::string text(const char (&field)[size]) {
  return std::string(field, strnlen(field, size));
}

py::dict get_device_properties(int64_t device) {
  const gxuDeviceProperties& properties = device_properties(resolve_device_index(device));
  py::dict result;
#define GXU_FIELD(name) result[#name] = properties.name;
#define GXU_TEXT_FIELD(name) result[#name] = text(properties.name);
#define GXU_BOOL_FIELD(name) result[#name] = properties.name != 0;
  GXU_TEXT_FIELD(name)
  GXU_TEXT_FIELD(uuid)
  GXU_TEXT_FIELD(triton_backend)
  GXU_TEXT_FIELD(triton_arch)
  GXU_TEXT_FIELD(delegate)
  GXU_FIELD(major)
  GXU_FIELD(minor)
  GXU_FIELD(total_memory)
  GXU_FIELD(multi_processor_count)
  GXU_FIELD(warp_size)
  GXU_FIELD(max_threads_per_block)
  GXU_FIELD(max_threads_per_multi_processor)
  GXU_FIELD(regs_per_multiprocessor)
  GXU_FIELD(shared_memory_per_block)
  GXU_FIELD(shared_memory_per_multiprocessor)
  GXU_FIELD(L2_cache_size)
  GXU_FIELD(L1_cache_size)
  GXU_FIELD(max_grid_size)
  GXU_FIELD(preferred_num_warps)
  GXU_FIELD(vector_bytes)
  GXU_BOOL_FIELD(host_accessible)
  GXU_BOOL_FIELD(concurrent_kernels)
  GXU_FIELD(clock_rate_khz)
#undef GXU_FIELD
#undef GXU_TEXT_FIELD
#undef GXU_BOOL_FIELD
  return result;
}

bool can_access_peer(int64_t device, int64_t peer) {
  int result = 0;
  GXU_CALL(gxuDeviceCanAccessPeer, &result, resolve_device_index(device), resolve_device_index(peer));
  return result != 0;
}

int runtime_version() {
  int version = 0;
  GXU_CALL(gxuGetVersion, &version);
  return version;
}

py::tuple stream_priority_range() {
  ensure_initialized();
  int least = 0;
  int greatest = 0;
  GXU_CALL(gxuStreamGetPriorityRange, &least, &greatest);
  return py::make_tuple(least, greatest);
}

double event_elapsed_time(uint64_t start, uint64_t end) {
  TORCH_CHECK(start != 0 && end != 0, "Both events must be recorded before calculating elapsed time.");
  float milliseconds = 0;
  GXU_CALL(gxuEventElapsedTime, &milliseconds, reinterpret_cast<gxuEvent_t>(start), reinterpret_cast<gxuEvent_t>(end));
  return milliseconds;
}

uint64_t module_load_data(const py::bytes& image, const std::string& name) {
  ensure_initialized();
  const std::string_view data = image;
  gxuModule_t module = nullptr;
  const gxuError_t error = runtime().gxuModuleLoadData(&module, data.data(), data.size());
  TORCH_CHECK(error == gxuSuccess, "The kernel image '", name, "' (", data.size(),
              " bytes) cannot be loaded: ", runtime().gxuGetErrorString(error), " (", runtime().gxuGetErrorName(error),
              "): ", runtime().gxuGetLastErrorMessage());
  return reinterpret_cast<uint64_t>(module);
}

uint64_t module_load(const std::string& path) {
  ensure_initialized();
  gxuModule_t module = nullptr;
  GXU_CALL(gxuModuleLoad, &module, path.c_str());
  return reinterpret_cast<uint64_t>(module);
}

uint64_t module_get_function(uint64_t module, const std::string& name) {
  gxuFunction_t function = nullptr;
  GXU_CALL(gxuModuleGetFunction, &function, reinterpret_cast<gxuModule_t>(module), name.c_str());
  return reinterpret_cast<uint64_t>(function);
}

std::optional<at::Tensor> host_alias(const at::Tensor& tensor) {
  TORCH_CHECK(is_gxu(tensor), "expected a tensor on ", device_name(), ", but got one on ", tensor.device());
  const c10::DeviceIndex device = tensor.device().index();
  if (device_properties(device).host_accessible != 1) {
    return std::nullopt;
  }
  synchronize_stream(device, current_stream_id(device));
  return alias_as_cpu(tensor);
}

void module_unload(uint64_t module) { GXU_CALL(gxuModuleUnload, reinterpret_cast<gxuModule_t>(module)); }

py::object default_generator_object(int64_t device) {
  return py::reinterpret_steal<py::object>(
      THPGenerator_initDefaultGenerator(default_generator(resolve_device_index(device))));
}

template <typename Function>
auto wrap(Function&& function) {
  return torch::wrap_pybind_function(std::forward<Function>(function));
}

template <typename Function>
auto wrap_no_gil(Function&& function) {
  return torch::wrap_pybind_function_no_gil(std::forward<Function>(function));
}

void define_device_functions(py::module_& m) {
  m.def("init", wrap_no_gil(&ensure_initialized), "Loads and starts the runtime; does nothing the next time.");
  m.def("is_initialized", &is_initialized);
  m.def("is_in_bad_fork", &is_in_bad_fork);
  m.def("device_count", wrap([] { return static_cast<int>(device_count()); }));
  m.def("device_count_or_zero", wrap([] { return static_cast<int>(device_count_or_zero()); }),
        "The number of devices, 0 where there is no usable runtime.");
  m.def("current_device", wrap([] {
          ensure_initialized();
          return static_cast<int>(current_device());
        }));
  m.def("maybe_exchange_device", wrap([](int64_t device) {
          if (device >= 0) {
            check_device_index(device);
          }
          return static_cast<int>(exchange_device(static_cast<c10::DeviceIndex>(device < 0 ? -1 : device)));
        }),
        py::arg("device"));
  m.def("synchronize", wrap_no_gil([](int64_t device) { synchronize_device(resolve_device_index(device)); }),
        py::arg("device") = -1);
  m.def("get_device_properties", wrap(&get_device_properties), py::arg("device"));
  m.def("can_access_peer", wrap(&can_access_peer), py::arg("device"), py::arg("peer"));
  m.def("runtime_path", wrap(&runtime_path));
  m.def("runtime_version", wrap(&runtime_version), "ABI version of the loaded library: major * 1000 + minor.");
  m.attr("ABI_VERSION") = GXU_ABI_VERSION;
  m.attr("SHIM_VERSION") = AOTI_TORCH_GXU_SHIM_VERSION;
}

void define_stream_functions(py::module_& m) {
  m.def("current_stream_id", wrap([](int64_t device) { return current_stream_id(resolve_device_index(device)); }),
        py::arg("device"));
  m.def("set_stream", wrap([](int64_t stream_id, int64_t device) {
          exchange_stream(external_stream(native_stream(stream_id), resolve_device_index(device)));
        }),
        py::arg("stream_id"), py::arg("device"));
  m.def("event_elapsed_time", wrap(&event_elapsed_time), py::arg("start"), py::arg("end"),
        "Milliseconds between two recorded events, given by their handles.");
  m.def("is_stream_capturing", wrap([](int64_t stream_id, int64_t device) {
          return is_stream_capturing(external_stream(native_stream(stream_id), resolve_device_index(device)));
        }),
        py::arg("stream_id"), py::arg("device"));
  m.def("new_graph_pool", wrap([] { return CachingAllocator::new_pool_id(false); }),
        "The id of a memory pool for graphs, unlike any other.");
  m.def("stream_priority", wrap([](int64_t stream_id, int64_t device) {
          return stream_priority(resolve_device_index(device), stream_id);
        }),
        py::arg("stream_id"), py::arg("device"), "The priority with which a stream of torch.gxu.Stream was made.");
  m.def("stream_priority_range", wrap(&stream_priority_range), "(least, greatest) priority of streams.");
}

void define_shared_event(py::module_& m) {
  const auto stream_of = [](int64_t stream_id, int64_t device) {
    return external_stream(native_stream(stream_id), resolve_device_index(device));
  };
  py::class_<SharedEvent, std::shared_ptr<SharedEvent>>(m, "SharedEvent", "An event that several processes see.")
      .def(py::init(wrap([] { return SharedEvent::create(); })))
      .def_static("open", wrap([](const std::string& handle) { return SharedEvent::open(handle); }), py::arg("handle"))
      .def("handle", wrap([](const SharedEvent& event) { return py::bytes(event.handle()); }))
      .def("record", wrap([stream_of](SharedEvent& event, int64_t stream_id, int64_t device) {
             event.record(stream_of(stream_id, device));
           }),
           py::arg("stream_id"), py::arg("device"))
      .def("wait", wrap([stream_of](SharedEvent& event, int64_t stream_id, int64_t device) {
             event.wait(stream_of(stream_id, device));
           }),
           py::arg("stream_id"), py::arg("device"))
      .def("query", wrap([](const SharedEvent& event) { return event.query(); }))
      .def("synchronize", wrap([](const SharedEvent& event) { event.synchronize(); }));
}

void define_memory_functions(py::module_& m) {
  m.def("share_storage", wrap([](const at::Storage& storage) {
          SharedStorage shared;
          {
            const py::gil_scoped_release no_gil;
            shared = share_storage(storage);
          }
          return std::make_pair(py::bytes(shared.handle), py::bytes(shared.receipt));
        }),
        py::arg("storage"), "The handle of the storage's memory for another process, and a receipt of it.");
  m.def("return_receipt", wrap(&return_receipt), py::arg("receipt"),
        "Tells the process that issued the receipt that the memory was opened.");
  m.def("free_opened_memory", wrap([] {
          const py::gil_scoped_release no_gil;
          free_opened_memory();
        }),
        "Frees the memory of sent storages that are gone here, and that all receivers have opened.");
  m.def("open_storage", wrap([](const std::string& handle, size_t nbytes, int64_t device) {
          return open_storage(handle, nbytes, device);
        }),
        py::arg("handle"), py::arg("nbytes"), py::arg("device"));
  m.def("delegates_to_cuda",
        wrap([](int64_t device) { return device_delegate(static_cast<c10::DeviceIndex>(device)) == Delegate::kCuda; }),
        py::arg("device"), "Whether operators of the device run on PyTorch's cuda kernels.");
  m.def("count_open_cuda_pools", wrap([](int change) { count_open_cuda_pools(change); }), py::arg("change"),
        "Tells that a capture has, or gives up, a pool of PyTorch's CUDA allocator (gxu/cuda_pools.py).");
  m.def("host_alias", wrap(&host_alias), py::arg("tensor"),
        "A CPU tensor over the memory of a gxu tensor, after the work of its current stream; None where the CPU does "
        "not reach that memory.");
}

void define_kernel_functions(py::module_& m) {
  m.def("module_load_data", wrap(&module_load_data), py::arg("image"), py::arg("name"));
  m.def("module_load", wrap(&module_load), py::arg("path"));
  m.def("module_get_function", wrap(&module_get_function), py::arg("module"), py::arg("name"));
  m.def("module_unload", wrap(&module_unload), py::arg("module"));
  m.def("launch_count", &launch_count, "Kernel launches through the ABI since start or the last reset.");
  m.def("reset_launch_count", &reset_launch_count);
  m.def("delegated_count", &delegated_count, "Operators that ran on the delegate since start.");
}

}  // namespace
}  // namespace gxu

PYBIND11_MODULE(_C, m) {
  gxu::set_gil_functions([]() -> void* { return PyGILState_Check() != 0 ? PyEval_SaveThread() : nullptr; },
                         [](void* state) { PyEval_RestoreThread(static_cast<PyThreadState*>(state)); });
  PyModule_AddFunctions(m.ptr(), gxu::fast_methods);
  gxu::define_device_functions(m);
  gxu::define_device_guard(m);
  gxu::define_stream_functions(m);
  gxu::define_shared_event(m);
  gxu::define_memory_functions(m);
  gxu::define_allocator_functions(m);
  gxu::define_graph(m);
  gxu::define_graph_outputs(m);
  gxu::define_function_attributes(m);
  gxu::define_kernel_launcher(m);
  gxu::define_kernel_functions(m);
  gxu::define_process_group(m);
  gxu::define_model_runner(m);
  m.def("default_generator", gxu::wrap(&gxu::default_generator_object), py::arg("device"),
        "The torch.Generator that operators use on the device where none is given.");
}
