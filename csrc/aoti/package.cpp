#include "package.h"

#include <c10/util/Exception.h>
#include <torch/csrc/inductor/aoti_torch/c/shim_gxu.h>
#include <torch/version.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>
#include <sstream>

#include "../torch/device.h"
#include "../torch/device_name.h"

namespace gxu {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream stream(path);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// The text of the JSON object beside the model; empty where there is none.
std::string metadata_beside(const fs::path& model) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(model.parent_path(), ignored)) {
    if (entry.path().filename().string().ends_with("_metadata.json")) {
      return read(entry.path());
    }
  }
  return {};
}

// A member of a flat JSON object of plain strings, which is what Inductor writes.
std::optional<std::string> member(const std::string& json, const std::string& key) {
  const auto name = json.find('"' + key + '"');
  if (name == std::string::npos) {
    return std::nullopt;
  }
  const auto begin = json.find('"', json.find(':', name));
  const auto end = json.find('"', begin + 1);
  TORCH_CHECK(begin != std::string::npos && end != std::string::npos, "the package's metadata is damaged at ", key);
  return json.substr(begin + 1, end - begin - 1);
}

std::set<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

std::set<std::string> cpu_flags() {
  std::ifstream stream("/proc/cpuinfo");
  for (std::string line; std::getline(stream, line);) {
    if (line.starts_with("flags") || line.starts_with("Features")) {
      return words(line.substr(line.find(':') + 1));
    }
  }
  return {};
}

std::string minor_version(const std::string& version) {
  return version.substr(0, version.find('.', version.find('.') + 1));
}

std::string target(const gxuDeviceProperties& properties) {
  return c10::str(properties.triton_backend, ":", properties.triton_arch);
}

}  // namespace

void check_package(const std::string& model_so_path, c10::DeviceIndex device) {
  const std::string json = metadata_beside(model_so_path);
  const auto again = "; compile the model again on this machine.";
  if (const auto found = member(json, "GXU_TORCH_VERSION")) {
    const std::string wanted = TORCH_VERSION;
    TORCH_CHECK(minor_version(*found) == minor_version(wanted), "The package of ", model_so_path,
                " was compiled with PyTorch ", *found, ", but this is PyTorch ", wanted, again);
  }
  if (const auto found = member(json, "GXU_SHIM_VERSION")) {
    TORCH_CHECK(std::stoi(*found) <= AOTI_TORCH_GXU_SHIM_VERSION, "The package of ", model_so_path,
                " was compiled with a newer torch-gxu, whose C ABI has version ", *found, ", but this one has version ",
                AOTI_TORCH_GXU_SHIM_VERSION, "; upgrade torch-gxu or compile the model again with this one.");
  }
  if (const auto found = member(json, "GXU_ABI_VERSION")) {
    int version = 0;
    GXU_CALL(gxuGetVersion, &version);
    TORCH_CHECK(std::stoi(*found) / 1000 == version / 1000, "The package of ", model_so_path,
                " was compiled for version ", *found, " of the runtime's ABI, but the loaded runtime has version ",
                version, again);
  }
  if (const auto found = member(json, "GXU_TARGET")) {
    const std::string wanted = target(device_properties(device));
    TORCH_CHECK(*found == wanted, "The package of ", model_so_path, " was compiled for devices of the kind ", *found,
                ", but ", gxu::device_name(), ":", static_cast<int>(device), " is ", wanted, again);
  }
  if (const auto found = member(json, "GXU_CPU_FLAGS")) {
    const std::set<std::string> available = cpu_flags();
    for (const std::string& flag : words(*found)) {
      TORCH_CHECK(available.contains(flag), "The package of ", model_so_path,
                  " was compiled for a CPU that has the instructions ", flag, ", which this CPU lacks", again);
    }
  }
}

}  // namespace gxu
