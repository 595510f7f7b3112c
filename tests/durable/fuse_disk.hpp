// A disk of our own below the kernel: one file on a FUSE server, for a loop device with a real file system on it.
//
//   records   every write and flush that arrives, in order, with what the test had marked by then (acknowledgements):
//             so the disk can be made as a power cut between any two of them might have left it
//   holds     chosen writes, while others pass: they land when the test says so, however long their writer is dead
//   stalls    answers nothing
//
// The server is a process of its own with one thread; it dies with the test. A write is on the disk for good when a
// flush arrives behind its answer; everything later may be lost, reordered or torn.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace mooring::test {

inline constexpr std::size_t kMarks = 8;
using Marks = std::array<std::uint64_t, kMarks>;

class FuseDisk {
 public:
  struct Record {
    enum Type : std::uint32_t { kWrite = 1, kFlush = 2 };
    Type type = kWrite;
    std::uint32_t is_zero = 0;  // all zeros: no bytes follow
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
    Marks marks{};  // as they stood when it arrived
  };
  struct Entry {
    Record record;
    const std::uint8_t* data = nullptr;  // null: zeros
  };

  // `bytes` of zeros. `trouble()`: why there is none.
  explicit FuseDisk(std::uint64_t bytes);
  ~FuseDisk();
  FuseDisk(const FuseDisk&) = delete;
  FuseDisk& operator=(const FuseDisk&) = delete;

  const std::string& trouble() const { return trouble_; }
  std::string file() const { return mount_point_ + "/disk"; }
  std::uint64_t size() const { return bytes_; }

  // Shared by the processes of the test; each record takes them along. Marked before what it tells of can be cut off:
  // after an acknowledgement, before a publish.
  std::atomic<std::uint64_t>& mark(std::size_t which);
  // How many records there are.
  std::uint64_t recorded() const;
  std::vector<Entry> entries() const;

  // The next `count` writes of at least `bytes_min` are held, but zeros (segments made ahead) pass.
  void hold_writes(std::uint64_t count, std::uint64_t bytes_min) const;
  std::uint64_t held() const;
  // Those that are held land now.
  void land() const;
  void stall(bool stalled) const;

 private:
  struct Shared;
  class Server;
  std::string mount_point_;
  std::string trouble_;
  std::uint64_t bytes_;
  Shared* shared_ = nullptr;
  std::uint8_t* log_ = nullptr;
  int bell_ = -1;  // eventfd: look at `shared_`
  pid_t server_ = -1;
};

// The disk as power cuts may have left it, from one recording; cuts come in rising order.
class CutDisk {
 public:
  // Writes to `fine` places are torn at 512 bytes, others (of the file system) at 4 KiB.
  struct Extent {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
  };
  CutDisk(std::uint64_t bytes, std::vector<FuseDisk::Entry> entries, std::vector<Extent> fine);
  ~CutDisk();
  CutDisk(const CutDisk&) = delete;
  CutDisk& operator=(const CutDisk&) = delete;

  // As it is after a cut just before entry `at`; into `file`, which is empty or from the cut before.
  void make(std::size_t at, std::mt19937_64& random, const std::string& file);

 private:
  void put(std::uint8_t* disk, std::uint64_t offset, std::uint64_t bytes, const std::uint8_t* data) const;
  void put_some(std::uint8_t* disk, const FuseDisk::Entry& entry, std::mt19937_64& random) const;

  std::uint64_t bytes_;
  std::vector<FuseDisk::Entry> entries_;
  std::vector<Extent> fine_;
  std::uint8_t* base_;         // what no cut can take back
  std::vector<bool> touched_;  // chunks of it that may be other than zero
  std::size_t applied_ = 0;
};

}  // namespace mooring::test
