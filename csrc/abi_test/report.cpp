#include "report.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace gxu::abi_test {
namespace {

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char character : text) {
    if (character == '"' || character == '\\') {
      result += '\\';
      result += character;
    } else if (static_cast<unsigned char>(character) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", character);
      result += escape;
    } else {
      result += character;
    }
  }
  return result + '"';
}

long count(const std::vector<Result>& results, Outcome outcome) {
  return std::count_if(results.begin(), results.end(), [=](const Result& r) { return r.outcome == outcome; });
}

void print_indented(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) std::printf("               %s\n", line.c_str());
}

}  // namespace

const char* outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kKept:
      return "kept";
    case Outcome::kBroken:
      return "broken";
    case Outcome::kSkipped:
      return "skipped";
    case Outcome::kNotOffered:
      return "not offered";
  }
  return "unknown";
}

void print_heading(const std::string& library, const Identity& identity) {
  std::printf("%s: ABI version %d\n", library.c_str(), identity.version);
  for (const std::string& device : identity.devices) std::printf("  %s\n", device.c_str());
}

void print_result(const Result& result, const std::string& previous) {
  if (result.what.group != previous) std::printf("\n%s\n", result.what.group.c_str());
  const bool broken = result.outcome == Outcome::kBroken;
  std::printf("  %-11s  %s\n", broken ? "BROKEN" : outcome_name(result.outcome), result.what.promise.c_str());
  if (broken) std::printf("               case %s/%s\n", result.what.group.c_str(), result.what.name.c_str());
  if (result.outcome != Outcome::kKept) print_indented(result.detail);
  std::fflush(stdout);
}

void print_summary(const std::vector<Result>& results) {
  double seconds = 0;
  for (const Result& result : results) seconds += result.seconds;
  std::printf("\n%zu promises checked in %.1f s: %ld kept, %ld broken, %ld not offered, %ld skipped\n", results.size(),
              seconds, count(results, Outcome::kKept), count(results, Outcome::kBroken),
              count(results, Outcome::kNotOffered), count(results, Outcome::kSkipped));
}

void write_json(const std::string& file, const std::string& library, const Identity& identity,
                const std::vector<Result>& results) {
  std::ostringstream text;
  text << "{\n  \"library\": " << quoted(library) << ",\n  \"abi_version\": " << identity.version
       << ",\n  \"devices\": [";
  for (size_t i = 0; i < identity.devices.size(); ++i) text << (i ? ", " : "") << quoted(identity.devices[i]);
  text << "],\n  \"cases\": [";
  for (size_t i = 0; i < results.size(); ++i) {
    const Result& result = results[i];
    text << (i ? "," : "") << "\n    {\"group\": " << quoted(result.what.group)
         << ", \"name\": " << quoted(result.what.name) << ", \"outcome\": " << quoted(outcome_name(result.outcome))
         << ", \"seconds\": " << result.seconds << ",\n     \"promise\": " << quoted(result.what.promise)
         << ",\n     \"detail\": " << quoted(result.detail) << '}';
  }
  text << "\n  ]\n}\n";
  std::ofstream stream(file);
  stream << text.str() << std::flush;
  if (!stream) throw std::runtime_error("cannot write the report to '" + file + "'");
}

}  // namespace gxu::abi_test
