// Runs a model that AOTInductor compiled for gxu, without a package around it. AOTIModelPackageLoader, which most
// programs use, makes this runner itself once libgxu_torch.so is loaded.
#pragma once

#include <c10/gxu/GXUStream.h>
#include <torch/csrc/inductor/aoti_runner/model_container_runner.h>

namespace torch::inductor {

class AOTIModelContainerRunnerGXU : public AOTIModelContainerRunner {
 public:
  // `device`: "gxu" (the current device) or "gxu:1". `kernel_dir`: folder of the kernels' images, where they are not
  // where the model was compiled. Throws one sentence where the model was made for another device, CPU, torch or gxu.
  explicit AOTIModelContainerRunnerGXU(const std::string& model_so_path, size_t num_models = 1,
                                       const std::string& device = "gxu", const std::string& kernel_dir = "",
                                       bool run_single_threaded = false);

  // Runs on the current stream of the inputs' device. `stream_handle` names another (a gxuStream_t).
  std::vector<at::Tensor> run_impl(std::vector<AtenTensorHandle>& input_handles, void* stream_handle) override;

  std::vector<at::Tensor> run_with_gxu_stream(const std::vector<at::Tensor>& inputs, const c10::gxu::GXUStream& stream);

 private:
  c10::DeviceIndex device_index_;
};

}  // namespace torch::inductor
