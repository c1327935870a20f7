// How the receiver of a message tells its sender that it has opened what was sent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace gxu {

// One message of this process that waits for its receiver. Tickets tell apart the messages that used one slot.
struct Receipt {
  uint32_t slot;
  uint32_t ticket;
};

// A receipt, and the bytes of it that travel with the message. None where as many messages as there are slots (65536)
// wait already, or where the process can open no more files.
struct IssuedReceipt {
  Receipt receipt;
  std::string bytes;
};
std::optional<IssuedReceipt> issue_receipt();

// Whether the receiver has returned the receipt. Its slot serves another message then: ask once.
bool take_back_if_returned(const Receipt& receipt);

// Returns a receipt to the process that issued it; does nothing where that has ended.
void return_receipt(const std::string& bytes);

}  // namespace gxu
