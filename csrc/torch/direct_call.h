// The delegate (delegate.h) for operators whose signature is known at compile time: no boxing, no allocation for
// aliases. `DirectCall<at::_ops::mm, kernel>::call` is a kernel for gxu with mm's signature that calls the CPU's,
// `kernel`, or without that the CPU's by way of PyTorch's dispatcher.
#pragma once

#include <ATen/core/IListRef.h>
#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <array>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "alias.h"
#include "delegate.h"
#include "graph_capture.h"
#include "lent_alias.h"

namespace gxu {

// Finds the device of a call of which all arguments are simple: gxu tensors of one device that an alias can be lent
// for, of which none shares the memory of one that is written, and zero-dimensional CPU tensors that are only read. The
// boxed delegate has everything else, and the errors.
class SimpleDevice {
 public:
  explicit SimpleDevice(const c10::StorageImpl* written) : written_(written) {}

  void check(const at::Tensor& tensor, bool is_written) {
    if (!tensor.defined()) {
      return;
    }
    const c10::Device device = tensor.device();
    if (C10_LIKELY(device.type() == kGxu)) {
      is_simple_ = is_simple_ && (index_ < 0 || index_ == device.index()) && LentAlias::suits(tensor) &&
                   (is_written || tensor.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl() != written_);
      index_ = device.index();
    } else {
      is_simple_ = is_simple_ && device.is_cpu() && tensor.dim() == 0 && !is_written;
    }
  }

  void reject() { is_simple_ = false; }

  // Negative where the call is not simple.
  c10::DeviceIndex index() const { return is_simple_ ? index_ : -1; }

 private:
  const c10::StorageImpl* written_;  // nullptr where the operator writes no argument
  c10::DeviceIndex index_ = -1;
  bool is_simple_ = true;
};

// One argument of a call on the CPU. Other types than tensors pass as they are.
template <typename T>
class DirectArgument {
 public:
  explicit DirectArgument(T value) : value_(std::forward<T>(value)) {}
  static void check(const std::remove_reference_t<T>&, SimpleDevice&) {}
  T&& get() { return std::forward<T>(value_); }
  template <typename Function>
  void for_each_lent(Function /*function*/) const {}

 private:
  T value_;
};

// A tensor as it is passed to the CPU: lent, or itself where it is undefined or a number on the CPU.
template <typename T>
class DirectTensor {
 public:
  explicit DirectTensor(T& value) : value_(value) {
    if (C10_LIKELY(is_gxu(value))) {
      lent_.emplace(value, !std::is_const_v<T>);
    }
  }
  T& get() { return lent_ ? lent_->tensor() : value_; }
  // Calls `function(const LentAlias&)`.
  template <typename Function>
  void for_each_lent(Function function) const {
    if (lent_) {
      function(*lent_);
    }
  }

 protected:
  T& value_;
  std::optional<LentAlias> lent_;
};

template <>
class DirectArgument<const at::Tensor&> : public DirectTensor<const at::Tensor> {
 public:
  using DirectTensor::DirectTensor;
  static void check(const at::Tensor& tensor, SimpleDevice& device) { device.check(tensor, false); }
};

template <>
class DirectArgument<at::Tensor&> : public DirectTensor<at::Tensor> {
 public:
  using DirectTensor::DirectTensor;
  static void check(const at::Tensor& tensor, SimpleDevice& device) { device.check(tensor, true); }
  void finish() const { lent_->write_back(); }
  at::Tensor& original() const { return value_; }
};

template <>
class DirectArgument<const std::optional<at::Tensor>&> {
 public:
  explicit DirectArgument(const std::optional<at::Tensor>& value) {
    if (value) {
      argument_.emplace(*value);
      passed_ = argument_->get();
    }
  }
  ~DirectArgument() { passed_.reset(); }  // before the alias is returned
  static void check(const std::optional<at::Tensor>& tensor, SimpleDevice& device) {
    if (tensor) {
      device.check(*tensor, false);
    }
  }
  const std::optional<at::Tensor>& get() { return passed_; }
  template <typename Function>
  void for_each_lent(Function function) const {
    if (argument_) {
      argument_->for_each_lent(function);
    }
  }

 private:
  std::optional<DirectTensor<const at::Tensor>> argument_;
  std::optional<at::Tensor> passed_;
};

// Aliases for the tensors of a list: few enough to need no memory.
class LentList {
 public:
  static constexpr size_t kCapacity = 16;  // half of the aliases that a thread keeps

  const at::Tensor& lend(const at::Tensor& tensor) {
    return is_gxu(tensor) ? aliases_[count_++].emplace(tensor, false).tensor() : tensor;
  }
  template <typename Function>
  void for_each_lent(Function function) const {
    for (size_t i = 0; i < count_; ++i) {
      function(*aliases_[i]);
    }
  }

 private:
  std::array<std::optional<LentAlias>, kCapacity> aliases_;
  size_t count_ = 0;
};

// A list of tensors that are only read: `List` is at::TensorList or at::ITensorListRef.
template <typename List>
class DirectTensorList {
 public:
  explicit DirectTensorList(const List& list) {
    for (const at::Tensor& tensor : list) {
      passed_.push_back(lent_.lend(tensor));
    }
  }
  ~DirectTensorList() { passed_.clear(); }  // before the aliases are returned
  static void check(const List& list, SimpleDevice& device) {
    if (list.size() > LentList::kCapacity) {
      device.reject();
      return;
    }
    for (const at::Tensor& tensor : list) {
      device.check(tensor, false);
    }
  }
  List get() { return at::TensorList(passed_.data(), passed_.size()); }
  template <typename Function>
  void for_each_lent(Function function) const {
    lent_.for_each_lent(function);
  }

 private:
  LentList lent_;
  c10::SmallVector<at::Tensor, LentList::kCapacity> passed_;
};

template <>
class DirectArgument<at::TensorList> : public DirectTensorList<at::TensorList> {
 public:
  using DirectTensorList::DirectTensorList;
};

template <>
class DirectArgument<const at::ITensorListRef&> : public DirectTensorList<at::ITensorListRef> {
 public:
  using DirectTensorList::DirectTensorList;
};

// Indices.
template <>
class DirectArgument<const c10::List<std::optional<at::Tensor>>&> {
 public:
  using List = c10::List<std::optional<at::Tensor>>;

  explicit DirectArgument(const List& list) {
    passed_.reserve(list.size());
    for (const std::optional<at::Tensor>& tensor : list) {
      passed_.push_back(tensor ? std::optional<at::Tensor>(lent_.lend(*tensor)) : std::nullopt);
    }
  }
  ~DirectArgument() { passed_.clear(); }  // before the aliases are returned
  static void check(const List& list, SimpleDevice& device) {
    if (list.size() > LentList::kCapacity) {
      device.reject();
      return;
    }
    for (const std::optional<at::Tensor>& tensor : list) {
      if (tensor) {
        device.check(*tensor, false);
      }
    }
  }
  const List& get() { return passed_; }
  template <typename Function>
  void for_each_lent(Function function) const {
    lent_.for_each_lent(function);
  }

 private:
  LentList lent_;
  List passed_;
};

// `kernel` is a function with the operator's signature, or nullptr.
template <typename Operator, auto kernel = nullptr, typename Schema = typename Operator::schema>
class DirectCall;

template <typename Operator, auto kernel, typename Result, typename... Arguments>
class DirectCall<Operator, kernel, Result(Arguments...)> {
 public:
  static Result call(Arguments... arguments) {
    SimpleDevice simple(written_storage(arguments...));
    (DirectArgument<Arguments>::check(arguments, simple), ...);
    const c10::DeviceIndex device = simple.index();
    if (C10_UNLIKELY(device < 0 || device_delegate(device) != Delegate::kCpu || current_capture(device) != nullptr)) {
      return boxed(std::forward<Arguments>(arguments)...);
    }
    count_delegated();
    const DelegateScope scope(device);
    return run(device, DirectArgument<Arguments>(std::forward<Arguments>(arguments))...);
  }

 private:
  static Result boxed(Arguments... arguments) {
    static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(Operator::name, Operator::overload_name);
    return call_delegate<Result, Arguments...>(op, std::forward<Arguments>(arguments)...);
  }

  // Of the one argument that the operator writes.
  static const c10::StorageImpl* written_storage(const std::remove_reference_t<Arguments>&... arguments) {
    const c10::StorageImpl* storage = nullptr;
    if constexpr ((std::is_same_v<Arguments, at::Tensor&> || ...)) {
      ((storage = std::is_same_v<Arguments, at::Tensor&> ? storage_of(arguments) : storage), ...);
    }
    return storage;
  }
  template <typename T>
  static const c10::StorageImpl* storage_of(const T& argument) {
    if constexpr (std::is_same_v<T, at::Tensor>) {
      return argument.defined() ? argument.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl() : nullptr;
    } else {
      return nullptr;
    }
  }

  static Result run(c10::DeviceIndex device, DirectArgument<Arguments>&&... arguments) {
    if constexpr (std::is_reference_v<Result>) {
      redispatch(arguments...);
      return written(arguments...);
    } else {
      return adopt(redispatch(arguments...), device, arguments...);
    }
  }

  static decltype(auto) redispatch(DirectArgument<Arguments>&... arguments) {
    if constexpr (std::is_null_pointer_v<decltype(kernel)>) {
      return Operator::redispatch(c10::DispatchKeySet(c10::DispatchKey::CPU), arguments.get()...);
    } else {
      return kernel(arguments.get()...);
    }
  }

  // The one argument that an in-place or out= operator writes, and returns.
  template <typename First, typename... Rest>
  static at::Tensor& written(First& first, Rest&... rest) {
    if constexpr (std::is_same_v<First, DirectArgument<at::Tensor&>>) {
      first.finish();
      return first.original();
    } else {
      return written(rest...);
    }
  }

  // Numbers stay as they are.
  template <typename T>
  static T adopt(T&& result, c10::DeviceIndex /*device*/, DirectArgument<Arguments>&... /*arguments*/) {
    return std::move(result);
  }
  static at::Tensor adopt(at::Tensor&& result, c10::DeviceIndex device, DirectArgument<Arguments>&... arguments) {
    if (!result.defined() || !result.is_cpu()) {
      return std::move(result);
    }
    at::Tensor shared;
    if (C10_UNLIKELY(result.use_count() > 1 || result.storage().use_count() > 1)) {
      (arguments.for_each_lent([&](const LentAlias& lent) { share(result, lent, shared); }), ...);
    }
    return shared.defined() ? shared : adopt_result(std::move(result), device);
  }
  template <typename... Results>
  static std::tuple<Results...> adopt(std::tuple<Results...>&& results, c10::DeviceIndex device,
                                      DirectArgument<Arguments>&... arguments) {
    return std::apply(
        [&](auto&... result) { return std::tuple<Results...>(adopt(std::move(result), device, arguments...)...); },
        results);
  }

  // Where the operator returned an argument, or a view of one, so does the call.
  static void share(const at::Tensor& result, const LentAlias& lent, at::Tensor& shared) {
    if (shared.defined()) {
      return;
    }
    if (lent.tensor().is_same(result)) {
      shared = lent.original();
    } else if (lent.tensor().storage().is_alias_of(result.storage())) {
      shared = make_view(lent.original().storage(), result);
    }
  }
};

}  // namespace gxu
