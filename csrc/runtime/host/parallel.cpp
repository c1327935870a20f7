#include "parallel.h"

#include <algorithm>
#include <cstring>

#include "background_team.h"
#include "shared_range.h"

#ifdef GXU_NO_OPENMP
#include <cstdlib>
#include <thread>
#include <vector>
#else
#include <omp.h>
#endif

namespace gxu::host {

namespace {

// Threads of the background team for the calling thread; 0 on threads that are not the engine's own.
thread_local int background_threads = 0;

#ifdef GXU_NO_OPENMP

thread_local bool in_region = false;

int region_size() {
  if (in_region) return 1;
  const char* text = std::getenv("OMP_NUM_THREADS");
  return std::max(1, text != nullptr ? std::atoi(text) : static_cast<int>(std::thread::hardware_concurrency()));
}

void run_region(void (*body)(void* argument, int index), void* argument) {
  std::vector<std::thread> others;
  for (int i = 1; i < region_size(); ++i) {
    others.emplace_back([=] {
      in_region = true;
      body(argument, i);
    });
  }
  in_region = true;
  body(argument, 0);
  in_region = false;
  for (std::thread& other : others) other.join();
}

#else

int region_size() { return omp_in_parallel() ? 1 : omp_get_max_threads(); }

void run_region(void (*body)(void* argument, int index), void* argument) {
// No num_threads clause: libgomp ends and restarts its threads whenever the size of a team changes.
#pragma omp parallel
  body(argument, omp_get_thread_num());
}

#endif

}  // namespace

int team_size() { return background_threads != 0 ? background_threads : region_size(); }

void use_background_team() { background_threads = 1; }

void adopt_team_size(int threads) {
  if (background_threads != 0) background_threads = threads;
}

void run_team(void (*body)(void* argument, int index), void* argument) {
  if (background_threads != 0) {
    background_team().run(background_threads, body, argument);
  } else {
    run_region(body, argument);
  }
}

namespace {

// One core moves about 10 bytes a nanosecond, and a parallel region costs about 2 microseconds: below this size the
// region costs a noticeable part of what it saves.
constexpr size_t kParallelBytes = size_t{1} << 18;
constexpr size_t kPieceBytes = size_t{1} << 17;

template <typename Piece>
void in_pieces(size_t size, Piece piece) {
  SharedRange range(static_cast<int64_t>(size), kPieceBytes, team_size());
  auto body = [&](int index) {
    for (int64_t begin, end; range.next(index, begin, end);) piece(begin, end - begin);
  };
  run_team(body);
}

}  // namespace

void copy_bytes(void* dst, const void* src, size_t size) {
  char* to = static_cast<char*>(dst);
  const char* from = static_cast<const char*>(src);
  const bool overlap = to < from + size && from < to + size;
  if (overlap || size < kParallelBytes || team_size() == 1) {
    std::memmove(dst, src, size);
    return;
  }
  in_pieces(size, [=](size_t offset, size_t bytes) { std::memcpy(to + offset, from + offset, bytes); });
}

void fill_bytes(void* dst, int value, size_t size) {
  if (size < kParallelBytes || team_size() == 1) {
    std::memset(dst, value, size);
    return;
  }
  char* to = static_cast<char*>(dst);
  in_pieces(size, [=](size_t offset, size_t bytes) { std::memset(to + offset, value, bytes); });
}

}  // namespace gxu::host
