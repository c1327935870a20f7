// The command line.
#pragma once

#include <string>

namespace gxu::abi_test {

struct Options {
  std::string library;        // path
  std::string json;           // file to write, or empty
  std::string only;           // cases "GROUP", "GROUP/NAME" or "NAME"; several separated by commas; empty: all
  std::string images;         // folder of images that are used without --kernel, each named as its Triton target
  std::string kernel;         // file of a kernel image, or empty
  std::string symbol;         // its kernel that appends a digit
  std::string assert_symbol;  // its kernel that fails a device assertion, or empty
  std::string fault_symbol;   // its kernel that writes to a bad address, or empty
  std::string empty_symbol;   // its kernel without parameters, or empty
  unsigned threads = 0;       // block size of launches; 0: the device's warp size
  double timeout = 60;        // seconds that a case may take
  double patience = 8;        // seconds after which what should happen at once has not happened
  bool strict = false;        // promises that a library need not keep count too
  bool list = false;
};

// Ends the process after --help (status 0) and after a wrong argument (status 2, one sentence).
Options parse_options(int argc, char** argv);

}  // namespace gxu::abi_test
