// A pollable descriptor for a wake slot (a group's messages, a queue's durable position): an eventfd, written by a
// library thread that sleeps on the slot's futex.
//
// No thread exists until somebody asks for a descriptor; one serves up to 127 of them (futex_waitv takes 128 words).
// The descriptor is level-triggered in effect: it stays readable until a receive finds nothing, which arms it again.
//
// ARMED   The consumer's thread, in rearm(): empty the eventfd, note the futex word, sleepers + 1, sleep_fence, then
//         look once more for a message (Consumer::receive does). A publish after that look finds the sleeper and bumps
//         the word; the thread sees it changed, however late it comes to wait. A publisher stopped between publish
//         and wake is covered by a bound, after which an armed descriptor is made readable anyway: a spurious readiness
//         costs one receive that finds nothing.
//
// TESTED BY  capi/api_test (consumer and durable descriptors)
#pragma once

#include <atomic>
#include <memory>

#include "base/error.hpp"
#include "layout/wake.hpp"
#include "platform/file.hpp"

namespace mooring {

class DescriptorThread;

class WakeDescriptor {
 public:
  static Result<std::unique_ptr<WakeDescriptor>> make(layout::WakeSlot& slot);
  ~WakeDescriptor();
  WakeDescriptor(const WakeDescriptor&) = delete;
  WakeDescriptor& operator=(const WakeDescriptor&) = delete;

  int fd() const { return event_.fd(); }
  // By the owner's thread, when it found nothing. The caller looks again afterwards.
  void rearm();
  // Readable again: the look after arming found a message, so there may be more.
  void signal();

 private:
  friend class DescriptorThread;
  WakeDescriptor(layout::WakeSlot& slot, File event) : slot_(&slot), event_(std::move(event)) {}

  layout::WakeSlot* slot_;
  File event_;
  std::shared_ptr<DescriptorThread> thread_;
  // Release by the consumer's thread after seen_ is set; acquire by the library thread, and the other way round when it
  // signals: the one word that both write.
  std::atomic<bool> armed_{false};
  std::atomic<u32> seen_{0};  // futex word at arming; ordered by armed_
  bool counted_ = false;      // one of `sleepers` is ours, as far as we know; the consumer's thread only
};

}  // namespace mooring
