// Runs a package that AOTInductor compiled for gxu, without Python: aoti_cpp MODEL.pt2 ROWS
//
// Prints, for each row of the input 0.0, 0.1, 0.2, ..., the model's outputs.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <c10/gxu/GXUGuard.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdio>
#include <cstdlib>

int main(int count, char** arguments) {
  if (count != 3) {
    std::fprintf(stderr, "usage: %s MODEL.pt2 ROWS\n", arguments[0]);
    return 2;
  }
  try {
    const c10::InferenceMode inference;
    const int64_t rows = std::atoll(arguments[2]);
    torch::inductor::AOTIModelPackageLoader model(arguments[1]);
    // The model runs on the current stream; this thread's is one of its own from here on.
    const c10::gxu::GXUStreamGuard guard(c10::gxu::getStreamFromPool());
    const at::Tensor input = at::arange(rows * 8, at::kFloat).div(10).reshape({rows, 8}).to("gxu");
    const std::vector<at::Tensor> outputs = model.run({input});
    const at::Tensor probabilities = outputs[0].cpu();
    const at::Tensor normalisers = outputs[1].cpu();
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < probabilities.size(1); ++column) {
        std::printf("%.6f ", probabilities[row][column].item<float>());
      }
      std::printf("%.6f\n", normalisers[row].item<float>());
    }
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "%s\n", error.what_without_backtrace());
    return 1;
  }
  return 0;
}
