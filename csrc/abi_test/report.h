// The report: for people on standard output, and as JSON.
#pragma once

#include <string>
#include <vector>

#include "outcome.h"

namespace gxu::abi_test {

// What a library says about itself and its devices, found out by a process of its own.
struct Identity {
  int version = 0;
  std::string triton_backend;  // of device 0
  std::vector<std::string> devices;
};

const char* outcome_name(Outcome outcome);

void print_heading(const std::string& library, const Identity& identity);

// Prints a case, after a heading where its group is another than `previous`.
void print_result(const Result& result, const std::string& previous);

// Prints how many cases ended how.
void print_summary(const std::vector<Result>& results);

// Throws std::runtime_error where the file cannot be written.
void write_json(const std::string& file, const std::string& library, const Identity& identity,
                const std::vector<Result>& results);

}  // namespace gxu::abi_test
