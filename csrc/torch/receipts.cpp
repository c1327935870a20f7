#include "receipts.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <mutex>
#include <vector>

namespace gxu {
namespace {

constexpr uint32_t kSlots = 65536;
constexpr size_t kFileBytes = kSlots * sizeof(uint32_t);

// What travels. The inode tells the file from a later one under the same number.
struct Letter {
  uint64_t inode;
  int32_t process;
  int32_t file;
  Receipt receipt;
};

// A file in memory with a word for each slot: the ticket of the last receipt that came back. Receivers write it by way
// of /proc, as they open the memory itself; nothing is left of it when the process ends.
class Ledger {
 public:
  std::optional<IssuedReceipt> issue() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!open() || (free_.empty() && used_ == kSlots)) {
      return std::nullopt;
    }
    uint32_t slot = used_;
    if (free_.empty()) {
      ++used_;
    } else {
      slot = free_.back();
      free_.pop_back();
    }
    const Receipt receipt{slot, ++last_ticket_ == 0 ? ++last_ticket_ : last_ticket_};  // empty slots hold 0
    const Letter letter{inode_, getpid(), file_, receipt};
    return IssuedReceipt{receipt, {reinterpret_cast<const char*>(&letter), sizeof(letter)}};
  }

  bool take_back_if_returned(const Receipt& receipt) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (slots_[receipt.slot].load(std::memory_order_acquire) != receipt.ticket) {
      return false;
    }
    free_.push_back(receipt.slot);
    return true;
  }

 private:
  bool open() {
    if (slots_ != nullptr) {
      return true;
    }
    const int file = memfd_create("gxu-receipts", MFD_CLOEXEC);
    struct stat status{};
    void* memory = MAP_FAILED;
    if (file >= 0 && ftruncate(file, kFileBytes) == 0 && fstat(file, &status) == 0) {
      memory = mmap(nullptr, kFileBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    if (memory == MAP_FAILED) {
      if (file >= 0) {
        close(file);
      }
      return false;
    }
    file_ = file;
    inode_ = status.st_ino;
    slots_ = static_cast<std::atomic<uint32_t>*>(memory);
    return true;
  }

  std::mutex mutex_;
  int file_ = -1;
  uint64_t inode_ = 0;
  std::atomic<uint32_t>* slots_ = nullptr;
  uint32_t used_ = 0;  // slots that were ever used
  uint32_t last_ticket_ = 0;
  std::vector<uint32_t> free_;
};

// Leaked on purpose: memory may be freed while static destructors run.
Ledger& ledger() {
  static auto* instance = new Ledger;
  return *instance;
}

}  // namespace

std::optional<IssuedReceipt> issue_receipt() { return ledger().issue(); }

bool take_back_if_returned(const Receipt& receipt) { return ledger().take_back_if_returned(receipt); }

void return_receipt(const std::string& bytes) {
  Letter letter{};
  TORCH_CHECK(bytes.size() == sizeof(letter), "These ", bytes.size(), " bytes are no receipt.");
  std::memcpy(&letter, bytes.data(), sizeof(letter));
  TORCH_CHECK(letter.receipt.slot < kSlots, "These bytes are no receipt.");
  const std::string path = c10::str("/proc/", letter.process, "/fd/", letter.file);
  const int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (file < 0) {
    return;
  }
  struct stat status{};
  if (fstat(file, &status) == 0 && status.st_ino == letter.inode) {
    const auto offset = static_cast<off_t>(letter.receipt.slot * sizeof(uint32_t));
    // A whole aligned word of a page: the owner sees the old ticket or this one.
    [[maybe_unused]] const ssize_t written =
        pwrite(file, &letter.receipt.ticket, sizeof(letter.receipt.ticket), offset);
  }
  close(file);
}

}  // namespace gxu
