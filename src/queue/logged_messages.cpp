#include "queue/logged_messages.hpp"

#include <algorithm>

#include "journal/reading_disk.hpp"

namespace mooring {

Status LoggedMessages::open() {
  if (reader_ != nullptr) return {};
  if (path_.empty()) {
    return fail(Code::kVersion, "the supervisor did not say where the log is; client and supervisor are of different "
                                "versions");
  }
  Result<std::unique_ptr<journal::ReadingDisk>> disk = journal::ReadingDisk::open(path_);
  if (!disk) return fail(disk.error());
  journal::Uuid uuid{};
  std::copy(std::begin(queue_.constants().log_uuid), std::end(queue_.constants().log_uuid), uuid.begin());
  disk_ = std::move(*disk);
  reader_ = std::make_unique<journal::BacklogReader>(*disk_, uuid);
  return {};
}

Result<journal::BacklogReader::Found> LoggedMessages::find(u64 seq, journal::MessageView* message) {
  const layout::QueueState& state = queue_.files().state();
  journal::LogMark durable;
  durable.next_seq = HardwareAtomics::load(state.durable_seq, std::memory_order_acquire);  // DURABLE
  durable.log_pos = HardwareAtomics::load(state.log_mark, std::memory_order_acquire);      // DURABLE
  if (Status opened = open(); !opened) return fail(opened.error());
  return reader_->find(seq, durable, message);
}

}  // namespace mooring
