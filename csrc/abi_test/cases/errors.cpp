// ERRORS.
#include <cctype>
#include <cstring>
#include <set>

#include "support.h"

namespace gxu::abi_test {
namespace {

struct Code {
  gxuError_t code;
  const char* name;
};
#define CODE(name) {name, #name}
constexpr Code kCodes[] = {
    CODE(gxuSuccess),
    CODE(gxuErrorInvalidValue),
    CODE(gxuErrorOutOfMemory),
    CODE(gxuErrorNotInitialized),
    CODE(gxuErrorDeinitialized),
    CODE(gxuErrorNoDevice),
    CODE(gxuErrorInvalidDevice),
    CODE(gxuErrorInvalidImage),
    CODE(gxuErrorFileNotFound),
    CODE(gxuErrorSharedObjectInitFailed),
    CODE(gxuErrorInvalidHandle),
    CODE(gxuErrorNotFound),
    CODE(gxuErrorNotReady),
    CODE(gxuErrorLaunchFailed),
    CODE(gxuErrorForked),
    CODE(gxuErrorNotPermitted),
    CODE(gxuErrorNotSupported),
    CODE(gxuErrorStreamCaptureUnsupported),
    CODE(gxuErrorStreamCaptureInvalidated),
    CODE(gxuErrorStreamCaptureUnmatched),
    CODE(gxuErrorUnknown),
};
#undef CODE

}  // namespace

BOOST_AUTO_TEST_SUITE(errors)

ABI_CASE(names, "gxuGetErrorName gives each code's identifier") {
  for (const Code& code : kCodes) BOOST_TEST(rt.gxuGetErrorName(code.code) == std::string(code.name));
}

ABI_CASE(texts, "gxuGetErrorString gives each code a text of its own") {
  std::set<std::string> texts;
  for (const Code& code : kCodes) {
    const char* text = rt.gxuGetErrorString(code.code);
    BOOST_REQUIRE(text != nullptr);
    BOOST_TEST(std::strlen(text) > 0u);
    BOOST_CHECK_MESSAGE(texts.insert(text).second, "two codes have the text '" << text << "'");
  }
}

ABI_CASE(unknown_codes, "Unknown codes have a fixed name and text, never NULL") {
  const auto unknown = static_cast<gxuError_t>(54321);
  BOOST_REQUIRE(rt.gxuGetErrorName(unknown) != nullptr);
  BOOST_REQUIRE(rt.gxuGetErrorString(unknown) != nullptr);
  BOOST_TEST(rt.gxuGetErrorName(unknown) == std::string(rt.gxuGetErrorName(static_cast<gxuError_t>(54322))));
}

ABI_CASE(texts_are_static, "Names and texts are static: the same string at every call") {
  for (const Code& code : kCodes) {
    BOOST_TEST(static_cast<const void*>(rt.gxuGetErrorName(code.code)) == rt.gxuGetErrorName(code.code));
    BOOST_TEST(static_cast<const void*>(rt.gxuGetErrorString(code.code)) == rt.gxuGetErrorString(code.code));
  }
}

ABI_CASE(last_error,
         "A failing call sets the thread's last error; gxuPeekAtLastError keeps it, gxuGetLastError clears it") {
  rt.gxuSetDevice(-1);
  BOOST_TEST(rt.gxuPeekAtLastError() == gxuErrorInvalidDevice);
  BOOST_TEST(rt.gxuPeekAtLastError() == gxuErrorInvalidDevice);
  BOOST_TEST(rt.gxuGetLastError() == gxuErrorInvalidDevice);
  BOOST_TEST(rt.gxuGetLastError() == gxuSuccess);
  BOOST_TEST(rt.gxuPeekAtLastError() == gxuSuccess);
}

ABI_CASE(success_keeps_last_error, "Successful calls do not change the last error") {
  rt.gxuSetDevice(-1);
  int device = -1;
  OK(rt.gxuGetDevice(&device));
  Memory memory(64);
  OK(rt.gxuDeviceSynchronize());
  BOOST_TEST(rt.gxuGetLastError() == gxuErrorInvalidDevice);
}

ABI_CASE(last_error_of_a_thread, "The last error and its message belong to the calling thread") {
  rt.gxuSetDevice(-1);
  const std::string mine = rt.gxuGetLastErrorMessage();
  gxuError_t at_first = gxuErrorUnknown;
  std::thread([&] {
    at_first = rt.gxuPeekAtLastError();
    rt.gxuStreamSynchronize(nullptr);
    rt.gxuMalloc(nullptr, 1);
  }).join();
  BOOST_TEST(at_first == gxuSuccess);
  BOOST_TEST(rt.gxuGetLastErrorMessage() == mine);
  BOOST_TEST(rt.gxuGetLastError() == gxuErrorInvalidDevice);
}

ABI_CASE(message, "gxuGetLastErrorMessage says what was asked and what was found") {
  rt.gxuSetDevice(4711);
  const std::string message = rt.gxuGetLastErrorMessage();
  BOOST_CHECK_MESSAGE(message.find("4711") != std::string::npos,
                      "the message for device 4711 does not name it: '" << message << "'");
  BOOST_CHECK_MESSAGE(message.find(std::to_string(session().device_count)) != std::string::npos,
                      "the message does not say how many devices there are: '" << message << "'");
}

ABI_CASE(message_stays, "The message is valid until the thread's next failing call") {
  rt.gxuSetDevice(-1);
  const char* message = rt.gxuGetLastErrorMessage();
  const std::string copy = message;
  rt.gxuGetLastError();
  Memory memory(64);
  OK(rt.gxuDeviceSynchronize());
  BOOST_TEST(message == copy);
  BOOST_TEST(static_cast<const void*>(rt.gxuGetLastErrorMessage()) == message);
}

ABI_CASE(not_ready, "gxuErrorNotReady is an answer: it is returned but not remembered") {
  Stream stream;
  Gate gate(stream);
  rt.gxuGetLastError();
  BOOST_TEST(rt.gxuStreamQuery(stream) == gxuErrorNotReady);
  BOOST_TEST(rt.gxuPeekAtLastError() == gxuSuccess);
}

ABI_CASE(null_results, "A NULL pointer where a result or a text is expected gives gxuErrorInvalidValue") {
  Stream stream;
  Memory memory(64);
  Event event(gxuEventDefault);
  size_t bytes;
  int number;
  gxuStreamCaptureStatus status;
  unsigned long long id;
  gxuIpcMemHandle_t ipc{};
  GIVES(gxuErrorInvalidValue, rt.gxuGetVersion(nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuGetDeviceCount(nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuGetDevice(nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuGetDeviceProperties(nullptr, 0));
  GIVES(gxuErrorInvalidValue, rt.gxuDeviceCanAccessPeer(nullptr, 0, 0));
  GIVES(gxuErrorInvalidValue, rt.gxuMalloc(nullptr, 64));
  GIVES(gxuErrorInvalidValue, rt.gxuMallocHost(nullptr, 64));
  GIVES(gxuErrorInvalidValue, rt.gxuMemGetInfo(nullptr, &bytes));
  GIVES(gxuErrorInvalidValue, rt.gxuMemGetInfo(&bytes, nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuPointerGetAttributes(nullptr, memory));
  GIVES(gxuErrorInvalidValue, rt.gxuMemcpyAsync(nullptr, memory, 8, gxuMemcpyDefault, stream));
  GIVES(gxuErrorInvalidValue, rt.gxuMemcpyAsync(memory, nullptr, 8, gxuMemcpyDefault, stream));
  GIVES(gxuErrorInvalidValue, rt.gxuMemsetAsync(nullptr, 0, 8, stream));
  GIVES(gxuErrorInvalidValue, rt.gxuStreamCreate(nullptr, gxuStreamDefault, 0));
  GIVES(gxuErrorInvalidValue, rt.gxuStreamGetPriorityRange(nullptr, &number));
  GIVES(gxuErrorInvalidValue, rt.gxuStreamGetPriorityRange(&number, nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuLaunchHostFunc(stream, nullptr, nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuEventCreate(nullptr, gxuEventDefault));
  GIVES(gxuErrorInvalidValue, rt.gxuEventElapsedTime(nullptr, event, event));
  gxuModule_t module;
  GIVES(gxuErrorInvalidValue, rt.gxuModuleLoad(nullptr, "image"));
  GIVES(gxuErrorInvalidValue, rt.gxuModuleLoad(&module, nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuModuleLoadData(nullptr, &bytes, sizeof bytes));
  GIVES(gxuErrorInvalidValue, rt.gxuModuleLoadData(&module, nullptr, 8));
  GIVES(gxuErrorInvalidValue, rt.gxuStreamIsCapturing(stream, nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuGraphInstantiate(nullptr, nullptr));
  // A library that shares no memory may say that first.
  for (const gxuError_t code : {rt.gxuIpcGetMemHandle(nullptr, memory), rt.gxuIpcOpenMemHandle(nullptr, ipc)}) {
    BOOST_TEST((code == gxuErrorInvalidValue || code == gxuErrorNotSupported));
  }
  if (rt.gxuStreamGetCaptureInfo != nullptr) {
    GIVES(gxuErrorInvalidValue, rt.gxuStreamGetCaptureInfo(stream, nullptr, &id));
    GIVES(gxuErrorInvalidValue, rt.gxuStreamGetCaptureInfo(stream, &status, nullptr));
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace gxu::abi_test
