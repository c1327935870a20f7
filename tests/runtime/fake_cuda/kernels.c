// Kernels for the stand-in driver: a whole grid a call.
#include <stdint.h>
#include <time.h>

#include "control.h"

// Appends a decimal digit: what has run, and in which order.
const uint32_t append_digit_params[] = {8, 4, 0};
void append_digit(const FakeCudaLaunch* launch, void** params) {
  (void)launch;
  int64_t* out = *(int64_t**)params[0];
  *out = 10 * *out + *(int32_t*)params[1];
}

// Adds 1 to an element for each program.
const uint32_t count_params[] = {8, 0};
void count(const FakeCudaLaunch* launch, void** params) {
  int32_t* out = *(int32_t**)params[0];
  const uint32_t programs = launch->grid[0] * launch->grid[1] * launch->grid[2];
  for (uint32_t i = 0; i < programs; ++i) out[i] += 1;
}

// out[i] = a * x[i] + y, with one parameter of every size.
const uint32_t mixed_params[] = {8, 8, 1, 2, 4, 8, 0};
void mixed(const FakeCudaLaunch* launch, void** params) {
  double* out = *(double**)params[0];
  const double* x = *(const double**)params[1];
  const double scale = *(int8_t*)params[2] + *(int16_t*)params[3] + (double)*(float*)params[4];
  for (uint32_t i = 0; i < launch->grid[0]; ++i) out[i] = scale * x[i] + *(double*)params[5];
}

const uint32_t nothing_params[] = {0};
void nothing(const FakeCudaLaunch* launch, void** params) {
  (void)launch;
  (void)params;
}

// Fails as the hardware does, with the CUresult that it is given.
const uint32_t fail_params[] = {4, 0};
void fail(const FakeCudaLaunch* launch, void** params) { launch->fail(*(int32_t*)params[0]); }

// Takes its time.
const uint32_t nap_params[] = {8, 0};
void nap(const FakeCudaLaunch* launch, void** params) {
  (void)launch;
  const int64_t nanoseconds = *(int64_t*)params[0];
  const struct timespec time = {nanoseconds / 1000000000, nanoseconds % 1000000000};
  nanosleep(&time, 0);
}

// For gxu-abi-test, with the parameters that it gives: what to add to, a digit, and two null pointers.
const uint32_t append_each_params[] = {8, 4, 8, 8, 0};
void append_each(const FakeCudaLaunch* launch, void** params) {
  int32_t* out = *(int32_t**)params[0];
  const uint32_t programs = launch->grid[0] * launch->grid[1] * launch->grid[2];
  for (uint32_t i = 0; i < programs; ++i) out[i] = 10 * out[i] + *(int32_t*)params[1];
}

// So late that calls which only enqueue come before it.
static void fail_late(const FakeCudaLaunch* launch, int result) {
  const struct timespec time = {0, 20000000};
  nanosleep(&time, 0);
  launch->fail(result);
}

const uint32_t fail_assertion_params[] = {8, 4, 8, 8, 0};
void fail_assertion(const FakeCudaLaunch* launch, void** params) {
  (void)params;
  fail_late(launch, 710);  // CUDA_ERROR_ASSERT
}

const uint32_t write_to_bad_address_params[] = {8, 4, 8, 8, 0};
void write_to_bad_address(const FakeCudaLaunch* launch, void** params) {
  (void)params;
  fail_late(launch, 700);  // CUDA_ERROR_ILLEGAL_ADDRESS
}
