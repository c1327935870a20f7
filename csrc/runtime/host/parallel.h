// The thread team that kernels and large copies run on.
//
// OpenMP, because PyTorch's CPU operators use it too: a process then has one pool of threads, not two that fight over
// the cores. Built with GXU_NO_OPENMP it is std::thread instead, for the thread sanitizer, which does not understand
// libgomp's barriers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace gxu::host {

// Threads that run_team() uses at most when the calling thread calls it; 1 inside a parallel region.
int team_size();

// Makes the calling thread, one of the engine's own, use the background team. It has one thread until adopt_team_size()
// sets its size, which does nothing on other threads.
void use_background_team();
void adopt_team_size(int threads);

// Runs body(argument, index) on the calling thread and on others of its team at the same time, once on each, and waits
// for all. A thread's index is below team_size() and the same every time that the team runs. Not every thread of the
// team needs to take part: bodies share their work out dynamically. They must not throw.
void run_team(void (*body)(void* argument, int index), void* argument);

template <typename Body>
void run_team(Body& body) {
  run_team([](void* argument, int index) { (*static_cast<Body*>(argument))(index); }, &body);
}

// memmove and memset that use the team where that pays.
void copy_bytes(void* dst, const void* src, size_t size);
void fill_bytes(void* dst, int value, size_t size);

}  // namespace gxu::host
