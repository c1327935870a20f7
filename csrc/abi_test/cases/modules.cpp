// gxuModule*, gxuFuncSetAttribute, gxuLaunchKernel.
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <fstream>
#include <iterator>

#include "support.h"

namespace gxu::abi_test {
namespace {

// A file of this test's own, removed with it.
struct TemporaryFile {
  explicit TemporaryFile(const Bytes& bytes) {
    char name[] = "/tmp/gxu-abi-test-XXXXXX";
    const int descriptor = mkstemp(name);
    BOOST_REQUIRE(descriptor >= 0);
    path = name;
    const bool written = write(descriptor, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
    close(descriptor);
    BOOST_REQUIRE(written);
  }
  ~TemporaryFile() { remove(path.c_str()); }
  std::string path;
};

Bytes image() {
  if (session().options.kernel.empty()) Kernel();  // skips the case, and says why
  std::ifstream file(session().options.kernel, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

int32_t read_number(const void* pointer, gxuStream_t stream = nullptr) {
  int32_t number;
  std::memcpy(&number, download(pointer, sizeof number, stream).data(), sizeof number);
  return number;
}

// Zeroed numbers on the device.
struct Numbers : Memory {
  explicit Numbers(size_t count) : Memory(4 * count) {
    OK(rt.gxuMemsetAsync(handle, 0, 4 * count, nullptr));
    OK(rt.gxuDeviceSynchronize());
  }
  std::vector<int32_t> read(size_t count, gxuStream_t stream = nullptr) const {
    std::vector<int32_t> numbers(count);
    std::memcpy(numbers.data(), download(handle, 4 * count, stream).data(), 4 * count);
    return numbers;
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(modules)

ABI_CASE(missing_file, "A missing image file gives gxuErrorFileNotFound; the message names it") {
  gxuModule_t module;
  GIVES(gxuErrorFileNotFound, rt.gxuModuleLoad(&module, "/nonexistent/gxu/image"));
  rt.gxuModuleLoad(&module, "/nonexistent/gxu/image");
  BOOST_TEST(std::string(rt.gxuGetLastErrorMessage()).find("/nonexistent/gxu/image") != std::string::npos);
}

ABI_CASE(damaged_images, "A damaged image gives gxuErrorInvalidImage, from a file and from memory") {
  gxuModule_t module;
  const Bytes noise = random_bytes(5000);
  const TemporaryFile file(noise), empty{Bytes()};
  GIVES(gxuErrorInvalidImage, rt.gxuModuleLoadData(&module, noise.data(), noise.size()));
  GIVES(gxuErrorInvalidImage, rt.gxuModuleLoad(&module, file.path.c_str()));
  GIVES(gxuErrorInvalidImage, rt.gxuModuleLoad(&module, empty.path.c_str()));
}

ABI_CASE(truncated_image, "An image that is cut off gives gxuErrorInvalidImage") {
  Bytes bytes = image();
  gxuModule_t module;
  bytes.resize(bytes.size() / 2);
  const TemporaryFile file(bytes);
  GIVES(gxuErrorInvalidImage, rt.gxuModuleLoad(&module, file.path.c_str()));
}

ABI_CASE(file_is_free, "An image's file may be replaced and removed once it is loaded") {
  const Bytes bytes = image();
  Numbers out(1);
  Module module;
  gxuFunction_t function;
  {
    const TemporaryFile file(bytes), other(random_bytes(5000));
    OK(rt.gxuModuleLoad(&module.handle, file.path.c_str()));
    BOOST_REQUIRE(rename(other.path.c_str(), file.path.c_str()) == 0);
  }
  OK(rt.gxuModuleGetFunction(&function, module, session().options.symbol.c_str()));
  void *pointer = out, *none = nullptr;
  int32_t digit = 5;
  void* parameters[] = {&pointer, &digit, &none, &none};
  OK(rt.gxuLaunchKernel(function, 1, 1, 1, kernel_threads(), 1, 1, 0, nullptr, parameters));
  BOOST_TEST(read_number(out) == 5);
}

ABI_CASE(image_is_copied, "gxuModuleLoadData copies the image") {
  Bytes bytes = image();
  Module module;
  gxuFunction_t function;
  OK(rt.gxuModuleLoadData(&module.handle, bytes.data(), bytes.size()));
  std::fill(bytes.begin(), bytes.end(), 0xcc);
  bytes = {};
  OK(rt.gxuModuleGetFunction(&function, module, session().options.symbol.c_str()));
  Numbers out(1);
  void *pointer = out, *none = nullptr;
  int32_t digit = 6;
  void* parameters[] = {&pointer, &digit, &none, &none};
  OK(rt.gxuLaunchKernel(function, 1, 1, 1, kernel_threads(), 1, 1, 0, nullptr, parameters));
  BOOST_TEST(read_number(out) == 6);
}

ABI_CASE(two_modules, "Loading an image twice gives two modules, each with its own life") {
  Kernel second;
  {
    Kernel first;
    BOOST_TEST(first.module.handle != second.module.handle);
    BOOST_TEST(first.function != second.function);
  }
  Numbers out(1);
  OK(second.launch(out, 3));
  BOOST_TEST(read_number(out) == 3);
}

ABI_CASE(functions, "The same name gives the same function; a name that the module has not gives gxuErrorNotFound") {
  Kernel kernel;
  gxuFunction_t again = nullptr;
  OK(rt.gxuModuleGetFunction(&again, kernel.module, session().options.symbol.c_str()));
  BOOST_TEST(again == kernel.function);
  GIVES(gxuErrorNotFound, rt.gxuModuleGetFunction(&again, kernel.module, "no_kernel_has_this_name"));
  GIVES(gxuErrorInvalidValue, rt.gxuModuleGetFunction(nullptr, kernel.module, "kernel"));
  GIVES(gxuErrorInvalidValue, rt.gxuModuleGetFunction(&again, kernel.module, nullptr));
}

ABI_CASE(functions_do_not_wait, "gxuModuleGetFunction and gxuFuncSetAttribute do not block while work is queued") {
  Kernel kernel;
  Stream stream;
  Gate gate(stream);
  check_does_not_wait(gate, "gxuModuleGetFunction", [&] {
    gxuFunction_t function;
    return rt.gxuModuleGetFunction(&function, kernel.module, session().options.symbol.c_str());
  });
  check_does_not_wait(gate, "gxuFuncSetAttribute", [&] {
    return rt.gxuFuncSetAttribute(kernel.function, gxuFuncAttributeMaxDynamicSharedMemorySize, 1024);
  });
}

ABI_CASE(load_does_not_wait, "Loading a module does not wait for queued work") {
  image();
  Stream stream;
  Gate gate(stream);
  gxuModule_t module = nullptr;
  check_does_not_wait(gate, "gxuModuleLoad",
                      [&] { return rt.gxuModuleLoad(&module, session().options.kernel.c_str()); });
  gate.open();
  OK(rt.gxuModuleUnload(module));
}

ABI_CASE(unload_waits, "gxuModuleUnload blocks until the work on all devices has finished") {
  Kernel kernel;
  OnDevice last(session().device_count - 1);
  Stream stream;
  Gate gate(stream);
  const gxuModule_t module = kernel.module.release();
  check_waits(gate, "gxuModuleUnload", [=] { return rt.gxuModuleUnload(module); });
}

ABI_CASE(unloaded, "An unloaded module gives gxuErrorInvalidHandle, and so do its functions", OWN_PROCESS OPTIONAL) {
  start_library();
  Kernel kernel;
  const gxuModule_t module = kernel.module.release();
  OK(rt.gxuModuleUnload(module));
  gxuFunction_t function;
  GIVES(gxuErrorInvalidHandle, rt.gxuModuleUnload(module));
  GIVES(gxuErrorInvalidHandle, rt.gxuModuleGetFunction(&function, module, "kernel"));
  Numbers out(1);
  GIVES(gxuErrorInvalidHandle, kernel.launch(out, 1));
}

ABI_CASE(function_attributes,
         "gxuFuncSetAttribute takes what the device has, and refuses the rest with gxuErrorInvalidValue") {
  Kernel kernel;
  const auto attribute = gxuFuncAttributeMaxDynamicSharedMemorySize;
  OK(rt.gxuFuncSetAttribute(kernel.function, attribute, 0));
  OK(rt.gxuFuncSetAttribute(kernel.function, attribute, 1024));
  GIVES(gxuErrorInvalidValue, rt.gxuFuncSetAttribute(kernel.function, attribute, -1));
  GIVES(gxuErrorInvalidValue, rt.gxuFuncSetAttribute(kernel.function, attribute, INT_MAX));
  GIVES(gxuErrorInvalidValue, rt.gxuFuncSetAttribute(kernel.function, static_cast<gxuFunctionAttribute>(12345), 0));
}

ABI_CASE(grid, "A launch runs each program of its grid once") {
  Kernel kernel;
  for (const unsigned grid : {1u, 2u, 7u, 48u, 1000u, 65537u}) {
    Numbers out(grid + 1);
    OK(kernel.launch(out, 7, grid));
    const std::vector<int32_t> found = out.read(grid + 1);
    for (unsigned p = 0; p < grid; ++p) {
      BOOST_REQUIRE_MESSAGE(found[p] == 7, "program " << p << " of " << grid << " left " << found[p]);
    }
    BOOST_CHECK_MESSAGE(found[grid] == 0, "a program beyond " << grid << " ran");
  }
}

ABI_CASE(grid_dimensions, "A launch runs grid_x * grid_y * grid_z programs") {
  Kernel kernel;
  struct Grid {
    unsigned x, y, z;
  };
  for (const Grid grid : {Grid{1, 7, 1}, Grid{1, 1, 5}, Grid{3, 5, 7}, Grid{2, 300, 1}}) {
    const unsigned programs = grid.x * grid.y * grid.z;
    Numbers out(programs + 1);
    void *pointer = out, *none = nullptr;
    int32_t digit = 7;
    void* parameters[] = {&pointer, &digit, &none, &none};
    OK(rt.gxuLaunchKernel(kernel.function, grid.x, grid.y, grid.z, kernel_threads(), 1, 1, 0, nullptr, parameters));
    const std::vector<int32_t> found = out.read(programs + 1);
    BOOST_TEST_CONTEXT("a grid of " << grid.x << " x " << grid.y << " x " << grid.z) {
      BOOST_TEST(std::count(found.begin(), found.end() - 1, 7) == programs);
      BOOST_TEST(found[programs] == 0);
    }
  }
}

ABI_CASE(no_parameters, "kernel_params may be NULL for a kernel without parameters") {
  const std::string& symbol = session().options.empty_symbol;
  if (symbol.empty()) skip("needs a kernel without parameters: give --empty-symbol (see --help)");
  const Kernel kernel(symbol);
  OK(rt.gxuLaunchKernel(kernel.function, 3, 1, 1, kernel_threads(), 1, 1, 0, nullptr, nullptr));
  OK(rt.gxuDeviceSynchronize());
}

ABI_CASE(launch_order, "Launches on a stream run in order, with copies and fills between them") {
  Kernel kernel;
  Stream stream;
  Numbers out(1);
  Pinned seen(8);
  OK(rt.gxuMemsetAsync(out, 0, 4, stream));
  for (const int digit : {1, 2, 3}) OK(kernel.launch(out, digit, 1, stream));
  OK(rt.gxuMemcpyAsync(seen, out, 4, gxuMemcpyDeviceToHost, stream));
  for (const int digit : {4, 5}) OK(kernel.launch(out, digit, 1, stream));
  OK(rt.gxuStreamSynchronize(stream));
  BOOST_TEST(*seen.as<int32_t>() == 123);
  BOOST_TEST(read_number(out, stream) == 12345);
}

ABI_CASE(parameters_are_copied, "Parameter values are copied before gxuLaunchKernel returns, and it enqueues") {
  Kernel kernel;
  Stream stream;
  Numbers out(1);
  Gate gate(stream);
  int32_t digit = 4;
  void *pointer = out, *none = nullptr;
  void* parameters[] = {&pointer, &digit, &none, &none};
  check_does_not_wait(gate, "gxuLaunchKernel", [&] {
    return rt.gxuLaunchKernel(kernel.function, 1, 1, 1, kernel_threads(), 1, 1, 0, stream, parameters);
  });
  digit = 9;
  pointer = nullptr;
  std::memset(parameters, 0, sizeof parameters);
  gate.open();
  BOOST_TEST(read_number(out, stream) == 4);
}

ABI_CASE(wrong_dimensions, "A zero dimension of grid or block gives gxuErrorInvalidValue, and nothing runs") {
  Kernel kernel;
  Numbers out(1);
  void *pointer = out, *none = nullptr;
  int32_t digit = 1;
  void* parameters[] = {&pointer, &digit, &none, &none};
  for (int zero = 0; zero < 6; ++zero) {
    unsigned size[6] = {1, 1, 1, 1, 1, 1};
    size[zero] = 0;
    GIVES(gxuErrorInvalidValue, rt.gxuLaunchKernel(kernel.function, size[0], size[1], size[2], size[3], size[4],
                                                   size[5], 0, nullptr, parameters));
  }
  const unsigned most = static_cast<unsigned>(session().properties.max_threads_per_block);
  GIVES(gxuErrorInvalidValue, rt.gxuLaunchKernel(kernel.function, 1, 1, 1, most + 1, 1, 1, 0, nullptr, parameters));
  GIVES(gxuErrorInvalidValue, rt.gxuLaunchKernel(kernel.function, 1, 1, 1, most, 2, 1, 0, nullptr, parameters));
  GIVES(gxuErrorInvalidValue, rt.gxuLaunchKernel(kernel.function, 1, 1, 1, most, 1, 2, 0, nullptr, parameters));
  BOOST_TEST(read_number(out) == 0);
}

ABI_CASE(null_parameter, "A NULL parameter gives gxuErrorInvalidValue") {
  Kernel kernel;
  Numbers out(1);
  void *pointer = out, *none = nullptr;
  void* parameters[] = {&pointer, nullptr, &none, &none};
  GIVES(gxuErrorInvalidValue,
        rt.gxuLaunchKernel(kernel.function, 1, 1, 1, kernel_threads(), 1, 1, 0, nullptr, parameters));
}

ABI_CASE(stream_of_another_device, "A launch on a stream of another device gives gxuErrorInvalidHandle") {
  need_two_devices();
  Kernel kernel;
  Numbers out(1);
  Stream near;
  OnDevice second(1);
  GIVES(gxuErrorInvalidHandle, kernel.launch(out, 1, 1, near));
}

ABI_CASE(all_devices, "A module is good for all devices that can run it") {
  need_two_devices();
  Kernel kernel;
  OnDevice second(1);
  Numbers out(1);
  OK(kernel.launch(out, 8));
  BOOST_TEST(read_number(out) == 8);
}

ABI_CASE(in_a_host_function, "Launching and unloading in a host function give gxuErrorNotPermitted") {
  struct Inside {
    Kernel kernel;
    Numbers out{1};
    gxuError_t launch = gxuErrorUnknown, unload = gxuErrorUnknown;
  } inside;
  Stream stream;
  const auto call = [](void* argument) {
    auto* inside = static_cast<Inside*>(argument);
    inside->launch = inside->kernel.launch(inside->out, 1);
    inside->unload = rt.gxuModuleUnload(inside->kernel.module);
  };
  OK(rt.gxuLaunchHostFunc(stream, call, &inside));
  OK(rt.gxuStreamSynchronize(stream));
  BOOST_TEST(inside.launch == gxuErrorNotPermitted);
  BOOST_TEST(inside.unload == gxuErrorNotPermitted);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace gxu::abi_test
