#include "journal/sim_disk.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace mooring::test {

using journal::DiskAccess;
using journal::DiskFile;

namespace {
tl::unexpected<Error> no_power() { return fail(Code::kIo, "simulated disk: the power is off"); }
}  // namespace

class SimFile final : public DiskFile {
 public:
  SimFile(SimDisk& disk, std::shared_ptr<SimDisk::Inode> inode) : disk_(disk), inode_(std::move(inode)) {}
  ~SimFile() override = default;

  Result<u64> size_bytes() override {
    if (disk_.is_off_) return no_power();
    return inode_->cached.size();
  }

  Result<u64> read(u64 offset, std::span<u8> bytes) override {
    if (disk_.is_off_) return no_power();
    disk_.land_ghosts(false);
    if (offset >= inode_->cached.size()) return 0;
    const u64 size = std::min<u64>(bytes.size(), inode_->cached.size() - offset);
    const auto bad = inode_->unreadable_sectors.lower_bound(offset / kSectorBytes);
    if (bad != inode_->unreadable_sectors.end() && *bad * kSectorBytes < offset + size) {
      return fail(Code::kIo, "simulated disk: a sector cannot be read");
    }
    std::memcpy(bytes.data(), inode_->cached.data() + offset, size);
    return size;
  }

  Status write(u64 offset, std::span<const u8> bytes) override {
    Status status;
    const auto fault = disk_.begin_operation(status);
    if (fault) return put(offset, bytes, *fault);
    // The power went off under it: it may be there in part.
    if (status || disk_.power_off_at_ == disk_.operation_) disk_.land(*inode_, offset, bytes);
    return status;
  }

  Status submit(u64 offset, std::span<const u8> bytes) override {
    disk_.in_flight_.push_back({inode_, offset, {bytes.begin(), bytes.end()}, 0});
    return disk_.is_off_ ? Status(no_power()) : Status();
  }

  Status reap() override {
    const auto mine = std::ranges::find(disk_.in_flight_, inode_, &SimDisk::Ghost::inode);
    if (mine == disk_.in_flight_.end()) return fail(Code::kIo, "simulated disk: nothing was submitted");
    if (disk_.is_off_) return no_power();
    const SimDisk::Ghost write_in_flight = std::move(*mine);
    disk_.in_flight_.erase(mine);
    return write(write_in_flight.offset, write_in_flight.bytes);
  }

  Status sync() override {
    Status status;
    const auto fault = disk_.begin_operation(status);
    if (fault) {
      for (SimDisk::Pending& pending : inode_->pending) pending.is_doubtful = true;
      return fail(Code::kIo, "simulated disk: sync failed");
    }
    if (!status) return status;
    ++disk_.syncs_;
    std::vector<SimDisk::Pending> doubtful;
    for (SimDisk::Pending& pending : inode_->pending) {
      if (pending.is_doubtful) {
        doubtful.push_back(std::move(pending));
        continue;
      }
      if (inode_->durable.size() < pending.offset + pending.bytes.size()) {
        inode_->durable.resize(pending.offset + pending.bytes.size());
      }
      std::memcpy(inode_->durable.data() + pending.offset, pending.bytes.data(), pending.bytes.size());
    }
    inode_->pending = std::move(doubtful);
    return {};
  }

  Status lock(u64) override {
    if (disk_.is_off_) return no_power();
    if (disk_.locks_wait_) disk_.land_ghosts(true);
    return {};
  }

 private:
  Status put(u64 offset, std::span<const u8> bytes, DiskFault fault) {
    switch (fault) {
      case DiskFault::kShort:
        disk_.land(*inode_, offset, bytes.first(bytes.size() / 2 / kSectorBytes * kSectorBytes));
        return fail(Code::kIo, "simulated disk: a short write");
      case DiskFault::kNoSpace: return fail(Code::kDiskFull, "simulated disk: no space");
      case DiskFault::kMisdirected: {
        // The disk says that all is well.
        const u64 room = inode_->cached.size() > bytes.size() ? inode_->cached.size() - bytes.size() : 0;
        const u64 elsewhere = room < offset + journal::kBlockAlignment ? 0 : offset + journal::kBlockAlignment;
        disk_.land(*inode_, elsewhere, bytes);
        return {};
      }
      case DiskFault::kIo: break;
    }
    return fail(Code::kIo, "simulated disk: write failed");
  }

  SimDisk& disk_;
  std::shared_ptr<SimDisk::Inode> inode_;
};

std::optional<DiskFault> SimDisk::begin_operation(Status& status) {
  if (is_off_) {
    // Distinct from power_off_at_, so that nothing later lands.
    ++operation_;
    power_off_at_.reset();
    status = no_power();
    return std::nullopt;
  }
  ++operation_;
  land_ghosts(false);
  if (power_off_at_ && operation_ >= *power_off_at_) {
    power_off_at_ = operation_;
    is_off_ = true;
    status = no_power();
    return std::nullopt;
  }
  if (const auto fault = faults_.find(operation_); fault != faults_.end()) {
    ++counts_.faults;
    return fault->second;
  }
  return std::nullopt;
}

void SimDisk::land(Inode& inode, u64 offset, std::span<const u8> bytes) {
  if (inode.cached.size() < offset + bytes.size()) inode.cached.resize(offset + bytes.size());
  std::memcpy(inode.cached.data() + offset, bytes.data(), bytes.size());
  inode.pending.push_back({offset, {bytes.begin(), bytes.end()}, false});
}

void SimDisk::land_ghosts(bool all) {
  std::erase_if(ghosts_, [&](const Ghost& ghost) {
    if (!all && ghost.at_operation > operation_) return false;
    land(*ghost.inode, ghost.offset, ghost.bytes);
    ++counts_.ghosts;
    return true;
  });
}

Result<std::vector<std::string>> SimDisk::list() {
  if (is_off_) return no_power();
  return files();
}

Result<std::unique_ptr<DiskFile>> SimDisk::create(const std::string& name) {
  Status status;
  if (const auto fault = begin_operation(status)) return fail(Code::kIo, "simulated disk: create failed");
  if (full_from_ && operation_ >= *full_from_) return fail(Code::kDiskFull, "simulated disk: no space");
  if (!status && power_off_at_ != operation_) return fail(status.error());
  if (names_.contains(name)) return fail(Code::kExists, name + " exists already");
  auto inode = std::make_shared<Inode>();
  names_[name] = inode;
  directory_operations_.push_back({"", name, inode});
  if (!status) return fail(status.error());
  return std::make_unique<SimFile>(*this, inode);
}

Result<std::unique_ptr<DiskFile>> SimDisk::open(const std::string& name, DiskAccess) {
  if (is_off_) return no_power();
  const auto found = names_.find(name);
  if (found == names_.end()) return fail(Code::kNoSuchQueue, name + " does not exist");
  return std::make_unique<SimFile>(*this, found->second);
}

void SimDisk::apply(Names& names, const DirectoryOperation& operation) {
  if (!operation.from.empty()) names.erase(operation.from);
  if (!operation.to.empty()) names[operation.to] = operation.inode;
}

Status SimDisk::rename(const std::string& from, const std::string& to) {
  Status status;
  if (begin_operation(status)) return fail(Code::kIo, "simulated disk: rename failed");
  if (!status && power_off_at_ != operation_) return status;
  const auto found = names_.find(from);
  if (found == names_.end()) return fail(Code::kNoSuchQueue, from + " does not exist");
  if (names_.contains(to)) return fail(Code::kExists, to + " exists already");
  const DirectoryOperation operation{from, to, found->second};
  apply(names_, operation);
  directory_operations_.push_back(operation);
  return status;
}

Status SimDisk::unlink(const std::string& name) {
  Status status;
  if (begin_operation(status)) return fail(Code::kIo, "simulated disk: unlink failed");
  if (!status && power_off_at_ != operation_) return status;
  if (!names_.contains(name)) return fail(Code::kNoSuchQueue, name + " does not exist");
  const DirectoryOperation operation{name, "", nullptr};
  apply(names_, operation);
  directory_operations_.push_back(operation);
  return status;
}

Status SimDisk::sync_directory() {
  Status status;
  if (begin_operation(status)) return fail(Code::kIo, "simulated disk: directory sync failed");
  if (!status) return status;
  for (const DirectoryOperation& operation : directory_operations_) apply(durable_names_, operation);
  directory_operations_.clear();
  return {};
}

Status SimDisk::lock_directory(u64) { return is_off_ ? Status(no_power()) : Status(); }

void SimDisk::settle(const std::function<bool()>& keep_sector, std::size_t directory_operations) {
  directory_operations = std::min(directory_operations, directory_operations_.size());
  for (std::size_t i = 0; i < directory_operations; ++i) apply(durable_names_, directory_operations_[i]);
  counts_.directory_operations_lost += directory_operations_.size() - directory_operations;
  directory_operations_.clear();
  // Files that lost their name are gone with it; their sectors are still counted off, in the order of the names now.
  for (const auto& [name, inode] : names_) {
    for (const Pending& pending : inode->pending) {
      for (u64 at = 0; at < pending.bytes.size(); at += kSectorBytes) {
        if (!keep_sector()) {
          ++counts_.sectors_lost;
          continue;
        }
        ++counts_.sectors_kept;
        const u64 size = std::min<u64>(kSectorBytes, pending.bytes.size() - at);
        const u64 offset = pending.offset + at;
        if (inode->durable.size() < offset + size) inode->durable.resize(offset + size);
        std::memcpy(inode->durable.data() + offset, pending.bytes.data() + at, size);
      }
    }
    inode->pending.clear();
  }
  names_ = durable_names_;
  for (const auto& [name, inode] : names_) {
    inode->pending.clear();
    inode->cached = inode->durable;
  }
  in_flight_.clear();
  ghosts_.clear();
  faults_.clear();
  is_off_ = false;
  power_off_at_.reset();
}

void SimDisk::power_cut(Random& random) {
  // What was submitted and never reaped may be there too.
  for (const Ghost& ghost : std::exchange(in_flight_, {})) land(*ghost.inode, ghost.offset, ghost.bytes);
  for (const Ghost& ghost : std::exchange(ghosts_, {})) land(*ghost.inode, ghost.offset, ghost.bytes);
  // All, none, a few or about half: each of them finds other mistakes.
  const u64 kind = random.below(4);
  const auto keep = [&] {
    switch (kind) {
      case 0: return false;
      case 1: return true;
      case 2: return random.one_in(8);
      default: return random.one_in(2);
    }
  };
  settle(keep, static_cast<std::size_t>(random.below(directory_operations_.size() + 1)));
}

void SimDisk::power_cut(u64 mask, std::size_t directory_operations) {
  for (const Ghost& ghost : std::exchange(in_flight_, {})) land(*ghost.inode, ghost.offset, ghost.bytes);
  std::size_t sector = 0;
  settle([&] { return ((mask >> sector++) & 1) != 0; }, directory_operations);
}

std::size_t SimDisk::outstanding_sectors() const {
  std::size_t count = 0;
  for (const auto& [name, inode] : names_) {
    for (const Pending& pending : inode->pending) count += (pending.bytes.size() + kSectorBytes - 1) / kSectorBytes;
  }
  for (const Ghost& ghost : in_flight_) count += (ghost.bytes.size() + kSectorBytes - 1) / kSectorBytes;
  return count;
}

void SimDisk::process_killed(Random& random, bool locks_wait) {
  locks_wait_ = locks_wait;
  for (Ghost& ghost : in_flight_) {
    if (random.one_in(4)) continue;  // It never landed.
    ghost.at_operation = operation_ + random.below(40);
    if (random.one_in(3)) ghost.bytes.resize(random.below(ghost.bytes.size() / kSectorBytes + 1) * kSectorBytes);
    ghosts_.push_back(std::move(ghost));
  }
  in_flight_.clear();
  faults_.clear();
  is_off_ = false;
  power_off_at_.reset();
}

std::unique_ptr<SimDisk> SimDisk::clone() const {
  auto copy = std::make_unique<SimDisk>();
  std::map<const Inode*, std::shared_ptr<Inode>> copied;
  const auto copy_of = [&](const std::shared_ptr<Inode>& inode) {
    if (!inode) return std::shared_ptr<Inode>();
    auto& made = copied[inode.get()];
    if (!made) made = std::make_shared<Inode>(*inode);
    return made;
  };
  for (const auto& [name, inode] : names_) copy->names_[name] = copy_of(inode);
  for (const auto& [name, inode] : durable_names_) copy->durable_names_[name] = copy_of(inode);
  for (const DirectoryOperation& operation : directory_operations_) {
    copy->directory_operations_.push_back({operation.from, operation.to, copy_of(operation.inode)});
  }
  for (const Ghost& ghost : in_flight_)
    copy->in_flight_.push_back({copy_of(ghost.inode), ghost.offset, ghost.bytes, 0});
  for (const Ghost& ghost : ghosts_) {
    copy->ghosts_.push_back({copy_of(ghost.inode), ghost.offset, ghost.bytes, ghost.at_operation});
  }
  copy->operation_ = operation_;
  copy->is_off_ = is_off_;
  return copy;
}

std::vector<std::string> SimDisk::files() const {
  std::vector<std::string> all;
  for (const auto& [name, inode] : names_) all.push_back(name);
  return all;
}

std::vector<u8> SimDisk::content(const std::string& name) const { return names_.at(name)->cached; }

void SimDisk::set_content(const std::string& name, std::vector<u8> bytes) {
  auto inode = std::make_shared<Inode>();
  inode->durable = bytes;
  inode->cached = std::move(bytes);
  names_[name] = inode;
  durable_names_[name] = inode;
}

void SimDisk::remove_for_good(const std::string& name) {
  names_.erase(name);
  durable_names_.erase(name);
}

void SimDisk::make_unreadable(const std::string& name, u64 offset, u64 bytes) {
  for (u64 at = 0; at < bytes; at += kSectorBytes)
    names_.at(name)->unreadable_sectors.insert((offset + at) / kSectorBytes);
}

}  // namespace mooring::test
