#include "options.h"

#include <getopt.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace gxu::abi_test {
namespace {

constexpr const char* kHelp = R"(usage: gxu-abi-test [OPTIONS] LIBRARY

Calls every function of a runtime library (gxu_runtime.h) and checks every promise that the header makes.

  --json FILE            write the report as JSON, too
  --only CASES           run these cases: GROUP, GROUP/NAME or NAME, separated by commas
  --list                 print the cases and the promises, and run nothing
  --strict               a promise that the header makes for the host engine alone counts, too
  --timeout SECONDS      give a case that much time (60)
  --patience SECONDS     what should happen at once has not happened if it takes that long (8)
  --kernel IMAGE         a kernel image for the device, which the checks of launches need; for the host engine and for
                         NVIDIA's GPUs one comes with the program
  --symbol NAME          its kernel (int32_t* out, int32_t digit): one thread of each program p does
                         out[p] = 10 * out[p] + digit, where p = x + grid_x * (y + grid_y * z). Two more pointers,
                         both null, follow the parameters
  --assert-symbol NAME   its kernel with the same parameters that fails a device assertion in each program, with the
                         text "this assertion always fails"
  --fault-symbol NAME    its kernel with the same parameters that writes to address 64
  --empty-symbol NAME    its kernel that has no parameters and does nothing
  --threads N            threads of a program (the device's warp size)

Exit status: 0 all promises kept, 1 a promise broken, 2 the request is wrong.
)";

[[noreturn]] void refuse(const std::string& sentence) {
  std::fprintf(stderr, "gxu-abi-test: %s\n", sentence.c_str());
  std::exit(2);
}

double positive(const char* option, const char* text) {
  char* end;
  const double value = std::strtod(text, &end);
  if (end == text || *end != '\0' || !(value > 0)) {
    refuse(std::string(option) + " is '" + text + "': give a number above 0");
  }
  return value;
}

}  // namespace

Options parse_options(int argc, char** argv) {
  enum : int {
    kJson = 256,
    kOnly,
    kList,
    kStrict,
    kTimeout,
    kPatience,
    kKernel,
    kSymbol,
    kAssert,
    kFault,
    kEmpty,
    kThreads,
    kHelpOption
  };
  static const option known[] = {
      {"json", required_argument, nullptr, kJson},
      {"only", required_argument, nullptr, kOnly},
      {"list", no_argument, nullptr, kList},
      {"strict", no_argument, nullptr, kStrict},
      {"timeout", required_argument, nullptr, kTimeout},
      {"patience", required_argument, nullptr, kPatience},
      {"kernel", required_argument, nullptr, kKernel},
      {"symbol", required_argument, nullptr, kSymbol},
      {"assert-symbol", required_argument, nullptr, kAssert},
      {"fault-symbol", required_argument, nullptr, kFault},
      {"empty-symbol", required_argument, nullptr, kEmpty},
      {"threads", required_argument, nullptr, kThreads},
      {"help", no_argument, nullptr, kHelpOption},
      {},
  };
  Options options;
  options.images = std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() / "share/abi_test";
  for (int found; (found = getopt_long(argc, argv, "h", known, nullptr)) != -1;) {
    switch (found) {
      case kJson:
        options.json = optarg;
        break;
      case kOnly:
        options.only = optarg;
        break;
      case kList:
        options.list = true;
        break;
      case kStrict:
        options.strict = true;
        break;
      case kTimeout:
        options.timeout = positive("--timeout", optarg);
        break;
      case kPatience:
        options.patience = positive("--patience", optarg);
        break;
      case kKernel:
        options.kernel = optarg;
        break;
      case kSymbol:
        options.symbol = optarg;
        break;
      case kAssert:
        options.assert_symbol = optarg;
        break;
      case kFault:
        options.fault_symbol = optarg;
        break;
      case kEmpty:
        options.empty_symbol = optarg;
        break;
      case kThreads:
        options.threads = static_cast<unsigned>(positive("--threads", optarg));
        break;
      case kHelpOption:
      case 'h':
        std::fputs(kHelp, stdout);
        std::exit(0);
      default:  // getopt has said what is wrong
        std::exit(2);
    }
  }
  if (optind + 1 < argc) refuse(std::string("one LIBRARY, not also '") + argv[optind + 1] + "'");
  if (optind < argc) options.library = argv[optind];
  if (options.library.empty() && !options.list) refuse("name the runtime LIBRARY to test, or --list");
  // The loader takes a name without a slash for one to search for.
  if (options.library.find('/') == std::string::npos) options.library.insert(0, "./");
  if (options.kernel.empty() != options.symbol.empty()) refuse("--kernel and --symbol go together: give both");
  if (options.kernel.empty() && !(options.assert_symbol + options.fault_symbol + options.empty_symbol).empty()) {
    refuse("--assert-symbol, --fault-symbol and --empty-symbol name kernels of the image that --kernel gives");
  }
  return options;
}

}  // namespace gxu::abi_test
