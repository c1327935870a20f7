#include "model_runner.h"

#include <c10/core/DeviceGuard.h>
#include <c10/gxu/GXUGuard.h>
#include <torch/csrc/inductor/aoti_runner/model_container_runner_gxu.h>

#include "../torch/device.h"
#include "../torch/device_name.h"
#include "package.h"

namespace torch::inductor {
namespace {

// The index in "gxu" (the current device) or "gxu:1".
c10::DeviceIndex device_index(const std::string& device) {
  const c10::Device parsed(device);
  TORCH_CHECK(parsed.type() == gxu::kGxu, "a model for ", gxu::device_name(), " cannot run on ", device);
  return gxu::resolve_device_index(parsed.index());
}

// What the generated model calls the device: PyTorch's runtime for models knows CUDA by name, and takes it for gxu in
// models that include aoti_include/gxu.h.
std::string name_in_model(const std::string& model_so_path, const std::string& device) {
  const c10::DeviceIndex index = device_index(device);
  gxu::check_package(model_so_path, index);
  return c10::str("cuda:", static_cast<int>(index));
}

std::unique_ptr<AOTIModelContainerRunner> create(const std::string& model_so_path, size_t num_models,
                                                 const std::string& device, const std::string& kernel_dir,
                                                 const bool run_single_threaded) {
  return std::make_unique<AOTIModelContainerRunnerGXU>(model_so_path, num_models, device, kernel_dir,
                                                       run_single_threaded);
}

}  // namespace

void register_model_runner() { getAOTIModelRunnerRegistry()[gxu::device_name()] = &create; }

AOTIModelContainerRunnerGXU::AOTIModelContainerRunnerGXU(const std::string& model_so_path, size_t num_models,
                                                         const std::string& device, const std::string& kernel_dir,
                                                         bool run_single_threaded)
    // The guard lives until the base is constructed: a model makes its device current.
    : AOTIModelContainerRunner((static_cast<void>(c10::gxu::GXUGuard(device_index(device))), model_so_path), num_models,
                               name_in_model(model_so_path, device), kernel_dir, run_single_threaded),
      device_index_(device_index(device)) {}

std::vector<at::Tensor> AOTIModelContainerRunnerGXU::run_impl(std::vector<AtenTensorHandle>& input_handles,
                                                              void* stream_handle) {
  if (stream_handle == nullptr) {
    stream_handle = c10::gxu::getCurrentGXUStream(device_index_).stream();
  }
  return AOTIModelContainerRunner::run_impl(input_handles, stream_handle);
}

std::vector<at::Tensor> AOTIModelContainerRunnerGXU::run_with_gxu_stream(const std::vector<at::Tensor>& inputs,
                                                                         const c10::gxu::GXUStream& stream) {
  const c10::gxu::GXUStreamGuard guard(stream);  // the handle of a default stream is NULL, as is "none given"
  return run(inputs);
}

}  // namespace torch::inductor
