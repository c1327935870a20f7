#include "collective_work.h"

#include <c10/util/Exception.h>

#include <algorithm>

#include "../gil.h"

namespace gxu {
namespace {

std::vector<c10::Device> devices_of(const std::vector<at::Tensor>& tensors) {
  std::vector<c10::Device> devices;
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.is_cpu() && std::find(devices.begin(), devices.end(), tensor.device()) == devices.end()) {
      devices.push_back(tensor.device());
    }
  }
  return devices;
}

}  // namespace

std::exception_ptr named_error(const std::string& name, const std::exception_ptr& error) {
  std::string message;
  try {
    std::rethrow_exception(error);
  } catch (const c10::Error& e) {
    message = e.what_without_backtrace();
  } catch (const std::exception& e) {
    message = e.what();
  } catch (...) {
    message = "unknown error";
  }
  try {
    C10_THROW_ERROR(DistBackendError, name + " failed: " + message);
  } catch (...) {
    return std::current_exception();
  }
}

CollectiveWork::CollectiveWork(c10d::OpType op, int rank, std::string name, c10::intrusive_ptr<c10d::Work> host_work,
                               HostTensors tensors, std::vector<at::Tensor> outputs, Completion completion)
    : c10d::Work(rank, op),
      name_(std::move(name)),
      host_work_(std::move(host_work)),
      tensors_(std::move(tensors)),
      outputs_(std::move(outputs)),
      completion_(completion) {
  if (completion_ == Completion::kByFuture) {
    future_ =
        c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()), devices_of(outputs_));
  }
}

c10::intrusive_ptr<CollectiveWork> CollectiveWork::create(c10d::OpType op, int rank, std::string name,
                                                          c10::intrusive_ptr<c10d::Work> host_work, HostTensors tensors,
                                                          std::vector<at::Tensor> outputs, Completion completion) {
  auto work = c10::make_intrusive<CollectiveWork>(op, rank, std::move(name), std::move(host_work), std::move(tensors),
                                                  std::move(outputs), completion);
  if (completion == Completion::kByFuture) {
    // The callback goes when it has run, and with it the cycle of references.
    work->host_work_->getFuture()->addCallback([work](c10::ivalue::Future& host_future) {
      work->complete(host_future.hasError() ? host_future.exception_ptr() : nullptr);
    });
  }
  return work;
}

void CollectiveWork::complete(std::exception_ptr error) {
  if (error == nullptr) {
    try {
      tensors_.write_back();
    } catch (...) {
      error = std::current_exception();
    }
  }
  if (error != nullptr) {
    error = named_error(name_, error);
  }
  if (future_ != nullptr) {
    if (error != nullptr) {
      future_->setError(error);
    } else {
      future_->markCompleted(c10::IValue(outputs_));
    }
  }
  finish(error);
}

bool CollectiveWork::wait_for_host(std::chrono::milliseconds timeout) {
  if (!isCompleted()) {
    std::exception_ptr error;
    try {
      if (!host_work_->wait(timeout)) {
        return false;  // aborted
      }
    } catch (...) {
      error = std::current_exception();
    }
    complete(error);
  }
  if (const std::exception_ptr error = exception()) {
    std::rethrow_exception(error);
  }
  return true;
}

bool CollectiveWork::wait(std::chrono::milliseconds timeout) {
  const GilRelease no_gil;
  if (completion_ == Completion::kByWait) {
    return wait_for_host(timeout);
  }
  std::unique_lock<std::mutex> lock(mutex_);
  const auto is_done = [this] { return completed_; };
  if (timeout == kNoTimeout) {
    cv_.wait(lock, is_done);
  } else if (!cv_.wait_for(lock, timeout, is_done)) {
    lock.unlock();
    C10_THROW_ERROR(DistBackendError,
                    c10::str(name_, " has not finished after the ", timeout.count(),
                             " ms that wait() was given: another rank has not called it, or is late"));
  }
  if (exception_ != nullptr) {
    std::rethrow_exception(exception_);
  }
  return true;
}

void CollectiveWork::synchronize() { wait(kNoTimeout); }

void CollectiveWork::blockCurrentStream() { wait(kNoTimeout); }

void CollectiveWork::abort() { host_work_->abort(); }

c10::intrusive_ptr<c10::ivalue::Future> CollectiveWork::getFuture() {
  TORCH_CHECK_NOT_IMPLEMENTED(future_ != nullptr, name_, " has no future: call wait() on the work instead");
  return future_;
}

}  // namespace gxu
