// A disk behind the journal's seam that may do whatever a real one may, and some of what it should not:
//   - what is not synced may be lost, there, or torn at 512 bytes, each sector by itself, at a power cut;
//   - directory operations that are not synced are lost, from some point on;
//   - a write or sync at a chosen operation fails: EIO, a short write, no space, or it goes to the wrong place;
//   - after a failed sync the bytes read as written, and no later sync makes them durable;
//   - a killed process's write in flight lands later, at any time, unless its lock is waited for;
//   - sectors cannot be read; bytes rot.
// Everything is decided by the test's seed; the power goes off by operation number.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "journal/disk.hpp"
#include "support/payload.hpp"

namespace mooring::test {

inline constexpr u64 kSectorBytes = 512;

enum class DiskFault { kIo, kShort, kNoSpace, kMisdirected };

class SimDisk final : public journal::Disk {
 public:
  SimDisk() = default;

  std::string name() const override { return "simulated disk"; }
  Result<std::vector<std::string>> list() override;
  Result<std::unique_ptr<journal::DiskFile>> create(const std::string& name) override;
  Result<std::unique_ptr<journal::DiskFile>> open(const std::string& name, journal::DiskAccess access) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status unlink(const std::string& name) override;
  Status sync_directory() override;
  Status lock_directory(u64 wait_ns) override;
  journal::Capabilities capabilities() const override { return {true, true, true, {}}; }
  void register_buffers(std::span<const std::span<u8>>) override {}

  // ---- what a test does to it -----------------------------------------------------------------------------------
  u64 operations() const { return operation_; }
  // The operation with this number is begun, and nothing is heard of it or of any later one.
  void power_off_at(u64 operation) { power_off_at_ = operation; }
  bool is_off() const { return is_off_; }
  // From here on nothing works: what a killed process's own clean-up code would do, it does not do.
  void halt() { is_off_ = true; }
  // The operation with this number fails (or lies: kMisdirected).
  void fault_at(u64 operation, DiskFault fault) { faults_[operation] = fault; }
  void full_from(u64 operation) { full_from_ = operation; }
  void not_full() { full_from_.reset(); }

  // The process is gone (its files are closed): each unsynced sector is decided, and the power is back.
  void power_cut(Random& random);
  // The same, with the fate of each outstanding sector given: bit i of `mask`. Directory operations: the first
  // `directory_operations` of those outstanding.
  void power_cut(u64 mask, std::size_t directory_operations);
  std::size_t outstanding_sectors() const;
  std::size_t outstanding_directory_operations() const { return directory_operations_.size(); }
  // Only the process is gone: nothing is lost, writes in flight land later or never; `locks_wait`: a lock waits for
  // them.
  void process_killed(Random& random, bool locks_wait);
  std::unique_ptr<SimDisk> clone() const;

  // Content, for damage and for looking.
  std::vector<std::string> files() const;
  std::vector<u8> content(const std::string& name) const;
  void set_content(const std::string& name, std::vector<u8> bytes);  // durable at once
  void remove_for_good(const std::string& name);
  void make_unreadable(const std::string& name, u64 offset, u64 bytes);
  // What was lost, landed late and so on, so that a test can show that it happened.
  struct Counts {
    u64 sectors_lost = 0;
    u64 sectors_kept = 0;
    u64 directory_operations_lost = 0;
    u64 ghosts = 0;
    u64 faults = 0;
  };
  const Counts& counts() const { return counts_; }
  u64 syncs() const { return syncs_; }

 private:
  friend class SimFile;
  struct Pending {
    u64 offset = 0;
    std::vector<u8> bytes;
    bool is_doubtful = false;  // a sync failed over it: no later one helps
  };
  struct Inode {
    std::vector<u8> durable;
    std::vector<u8> cached;  // what reads see
    std::vector<Pending> pending;
    std::set<u64> unreadable_sectors;
  };
  struct Ghost {
    std::shared_ptr<Inode> inode;
    u64 offset = 0;
    std::vector<u8> bytes;
    u64 at_operation = 0;
  };
  using Names = std::map<std::string, std::shared_ptr<Inode>>;
  struct DirectoryOperation {
    std::string from;  // empty: create
    std::string to;    // empty: unlink
    std::shared_ptr<Inode> inode;
  };

  // Counts an operation. An error: it did not happen, or (the power) nobody will ever know.
  std::optional<DiskFault> begin_operation(Status& status);
  void land(Inode& inode, u64 offset, std::span<const u8> bytes);
  void land_ghosts(bool all);
  static void apply(Names& names, const DirectoryOperation& operation);
  void settle(const std::function<bool()>& keep_sector, std::size_t directory_operations);

  Names names_;
  Names durable_names_;
  std::vector<DirectoryOperation> directory_operations_;
  std::vector<Ghost> in_flight_;  // submitted and not reaped
  std::vector<Ghost> ghosts_;
  bool locks_wait_ = true;
  u64 operation_ = 0;
  u64 syncs_ = 0;
  std::optional<u64> power_off_at_;
  std::optional<u64> full_from_;
  bool is_off_ = false;
  std::map<u64, DiskFault> faults_;
  Counts counts_;
};

}  // namespace mooring::test
