#include "gil.h"

namespace gxu {
namespace {

void* (*release_gil)() = nullptr;
void (*acquire_gil)(void* state) = nullptr;

}  // namespace

void set_gil_functions(void* (*release)(), void (*acquire)(void* state)) {
  release_gil = release;
  acquire_gil = acquire;
}

GilRelease::GilRelease() : state_(release_gil != nullptr ? release_gil() : nullptr) {}

GilRelease::~GilRelease() {
  if (state_ != nullptr) {
    acquire_gil(state_);
  }
}

}  // namespace gxu
