// FAILED KERNELS. Each case has a process of its own, as the device may be beyond use afterwards.
#include "support.h"

namespace gxu::abi_test {
namespace {

// A launch of the kernel that fails a device assertion, on a stream.
struct Failing {
  explicit Failing(const std::string& symbol, const char* option) : name(symbol) {
    if (symbol.empty()) skip(std::string("needs a kernel that fails: give ") + option + " (see --help)");
    start_library();
    stream = std::make_unique<Stream>();
    memory = std::make_unique<Memory>(64);
    OK(rt.gxuMemsetAsync(*memory, 0, 64, *stream));
    OK(rt.gxuStreamSynchronize(*stream));
    kernel = std::make_unique<Kernel>(symbol);
  }
  ~Failing() {
    // The device may refuse even to end them.
    if (stream) stream->release();
    if (memory) memory->release();
    if (kernel) kernel->module.release();
  }
  void launch() { OK(kernel->launch(*memory, 1, 1, *stream)); }
  // The launch, and then the time that it takes to fail.
  void fail() {
    launch();
    eventually([&] { return rt.gxuStreamQuery(*stream) != gxuErrorNotReady; });
  }
  std::string name;
  std::unique_ptr<Stream> stream;
  std::unique_ptr<Memory> memory;
  std::unique_ptr<Kernel> kernel;
};

struct Asserting : Failing {
  Asserting() : Failing(session().options.assert_symbol, "--assert-symbol") {}
};

struct Faulting : Failing {
  Faulting() : Failing(session().options.fault_symbol, "--fault-symbol") {}
};

}  // namespace

BOOST_AUTO_TEST_SUITE(failed_kernels)

ABI_CASE(launch_succeeds,
         "A kernel that fails while it runs does not fail the call that launched it; the next "
         "gxuStreamSynchronize gives gxuErrorLaunchFailed",
         OWN_PROCESS) {
  Asserting failing;
  failing.launch();
  GIVES(gxuErrorLaunchFailed, rt.gxuStreamSynchronize(*failing.stream));
}

ABI_CASE(device_synchronize, "gxuDeviceSynchronize reports it", OWN_PROCESS) {
  Asserting failing;
  failing.launch();
  GIVES(gxuErrorLaunchFailed, rt.gxuDeviceSynchronize());
}

ABI_CASE(event_synchronize, "gxuEventSynchronize reports it", OWN_PROCESS) {
  Asserting failing;
  Event event;
  failing.launch();
  const gxuError_t recorded = rt.gxuEventRecord(event, *failing.stream);
  if (recorded == gxuSuccess) {
    GIVES(gxuErrorLaunchFailed, rt.gxuEventSynchronize(event));
  } else {
    GIVES(gxuErrorLaunchFailed, recorded);  // the kernel had failed already, and the device does nothing more
  }
  event.release();
}

ABI_CASE(pageable_copy, "gxuMemcpyAsync with pageable memory reports it", OWN_PROCESS) {
  Asserting failing;
  failing.launch();
  Bytes bytes(64);
  GIVES(gxuErrorLaunchFailed,
        rt.gxuMemcpyAsync(bytes.data(), *failing.memory, 64, gxuMemcpyDeviceToHost, *failing.stream));
}

ABI_CASE(message, "The message has the kernel's name", OWN_PROCESS OPTIONAL) {
  Asserting failing;
  failing.launch();
  BOOST_TEST(rt.gxuStreamSynchronize(*failing.stream) == gxuErrorLaunchFailed);
  const std::string message = rt.gxuGetLastErrorMessage();
  BOOST_CHECK_MESSAGE(message.find(failing.name) != std::string::npos, "the message is '" << message << "'");
}

ABI_CASE(assertion_text, "The message has the assertion's text", OWN_PROCESS OPTIONAL) {
  Asserting failing;
  failing.launch();
  BOOST_TEST(rt.gxuDeviceSynchronize() == gxuErrorLaunchFailed);
  const std::string message = rt.gxuGetLastErrorMessage();
  BOOST_CHECK_MESSAGE(message.find("this assertion always fails") != std::string::npos,
                      "the message is '" << message << "'");
}

ABI_CASE(another_thread, "A synchronising call from any thread reports it", OWN_PROCESS) {
  Asserting failing;
  failing.launch();
  Background wait([&] { return rt.gxuStreamSynchronize(*failing.stream); });
  BOOST_TEST(wait.code() == gxuErrorLaunchFailed);
}

ABI_CASE(queries, "gxuStreamQuery and gxuEventQuery do not report it", OWN_PROCESS OPTIONAL) {
  Asserting failing;
  Event event;
  failing.launch();
  OK(rt.gxuEventRecord(event, *failing.stream));
  BOOST_TEST(eventually([&] { return rt.gxuStreamQuery(*failing.stream) != gxuErrorNotReady; }));
  GIVES(gxuSuccess, rt.gxuStreamQuery(*failing.stream));
  GIVES(gxuSuccess, rt.gxuEventQuery(event));
  GIVES(gxuErrorLaunchFailed, rt.gxuStreamSynchronize(*failing.stream));
}

ABI_CASE(ends_of_objects, "gxuFree, gxuStreamDestroy and gxuModuleUnload do not report it", OWN_PROCESS OPTIONAL) {
  Asserting failing;
  failing.fail();
  OK(rt.gxuFree(failing.memory->release()));
  OK(rt.gxuStreamDestroy(failing.stream->release()));
  OK(rt.gxuModuleUnload(failing.kernel->module.release()));
  GIVES(gxuErrorLaunchFailed, rt.gxuDeviceSynchronize());
}

ABI_CASE(reported_once, "It is reported once, and later work is executed as usual", OWN_PROCESS OPTIONAL) {
  Asserting failing;
  failing.launch();
  failing.launch();
  GIVES(gxuErrorLaunchFailed, rt.gxuStreamSynchronize(*failing.stream));
  OK(rt.gxuStreamSynchronize(*failing.stream));
  OK(rt.gxuMemsetAsync(*failing.memory, 9, 64, *failing.stream));
  BOOST_TEST(all_equal(download(*failing.memory, 64, *failing.stream), 9));
}

ABI_CASE(first_of_several, "When several kernels failed, the first is reported", OWN_PROCESS OPTIONAL) {
  Asserting first;
  if (session().options.fault_symbol.empty())
    skip("needs a second kernel that fails: give --fault-symbol (see --help)");
  Kernel second(session().options.fault_symbol);
  first.launch();
  const gxuError_t launched = second.launch(*first.memory, 1, 1, *first.stream);
  if (launched != gxuSuccess) BOOST_TEST(launched == gxuErrorLaunchFailed);  // the first had stopped the device already
  BOOST_TEST(rt.gxuStreamSynchronize(*first.stream) == gxuErrorLaunchFailed);
  const std::string message = rt.gxuGetLastErrorMessage();
  BOOST_CHECK_MESSAGE(message.find(first.name) != std::string::npos, "the message is '" << message << "'");
  second.module.release();
}

ABI_CASE(another_device, "It is its device's failure: another device does not report it", OWN_PROCESS) {
  Asserting failing;
  need_two_devices();
  failing.fail();
  {
    OnDevice second(1);
    OK(rt.gxuDeviceSynchronize());
  }
  GIVES(gxuErrorLaunchFailed, rt.gxuDeviceSynchronize());
}

ABI_CASE(stopped_by_the_hardware,
         "A kernel that the hardware stops: every synchronising call gives gxuErrorLaunchFailed "
         "from then on",
         OWN_PROCESS) {
  Faulting failing;
  failing.launch();
  GIVES(gxuErrorLaunchFailed, rt.gxuStreamSynchronize(*failing.stream));
  for (int i = 0; i < 2; ++i) {
    GIVES(gxuErrorLaunchFailed, rt.gxuStreamSynchronize(*failing.stream));
    GIVES(gxuErrorLaunchFailed, rt.gxuDeviceSynchronize());
  }
}

ABI_CASE(refused_after_that, "So do gxuMalloc, gxuLaunchKernel, gxuMemcpyAsync and gxuMemsetAsync", OWN_PROCESS) {
  Faulting failing;
  failing.launch();
  BOOST_TEST(rt.gxuDeviceSynchronize() == gxuErrorLaunchFailed);
  void* pointer = nullptr;
  Bytes bytes(64);
  GIVES(gxuErrorLaunchFailed, rt.gxuMalloc(&pointer, 64));
  GIVES(gxuErrorLaunchFailed, failing.kernel->launch(*failing.memory, 1, 1, *failing.stream));
  GIVES(gxuErrorLaunchFailed,
        rt.gxuMemcpyAsync(bytes.data(), *failing.memory, 64, gxuMemcpyDeviceToHost, *failing.stream));
  GIVES(gxuErrorLaunchFailed, rt.gxuMemsetAsync(*failing.memory, 1, 64, *failing.stream));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace gxu::abi_test
