// Shows that a shared file cut short costs a supervisor nothing but that file, and that every other SIGBUS still
// kills. Each case in a child process of its own: the handler is process-wide and some children are meant to die.

#include "platform/fault_guard.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "base/atomics.hpp"
#include "platform/mapping.hpp"
#include "scratch.hpp"

namespace mooring {
namespace {

constexpr u64 kSize = 3 * kPageBytes;

struct CutFile {
  CutFile() : file(take(create_file(scratch.dir(), "lane", 0600, kSize))) {}
  // Called in the child: a mapping does not cross fork. The first page keeps its bytes.
  Mapping map_and_cut() const {
    Mapping mapping = take(map_file(file, Access::read_write, kSize, true));
    mapping.data()[0] = std::byte{42};
    if (::ftruncate(file.fd(), kPageBytes) != 0) std::abort();
    return mapping;
  }
  ScratchDirectory scratch;
  File file;
};

u32 load_at(const Mapping& mapping, u64 at) {
  return HardwareAtomics::load(*reinterpret_cast<const u32*>(mapping.data() + at), std::memory_order_relaxed);
}

TEST(FaultGuard, CutFileReadsAsZerosAndIsFlagged) {
  CutFile cut;
  Child child([&cut] {
    if (!install_fault_guard()) return 1;
    const Mapping mapping = cut.map_and_cut();
    std::atomic<bool> hit{false};
    if (!register_range(mapping.data(), mapping.size_bytes(), &hit)) return 2;
    if (load_at(mapping, 0) != 42 || hit.load(std::memory_order_relaxed)) return 3;
    if (load_at(mapping, kSize - sizeof(u32)) != 0 || !hit.load(std::memory_order_relaxed)) return 4;
    // Stores go on, too, and stay in this process.
    mapping.data()[kPageBytes] = std::byte{1};
    if (load_at(mapping, kPageBytes) != 1 || load_at(mapping, 0) != 42) return 5;
    return take(file_size(cut.file)) == kPageBytes ? 0 : 6;
  });
  EXPECT_EQ(child.exit_code(), 0);
}

TEST(FaultGuard, FlagsTheRangeThatFaultedAndNoOther) {
  CutFile cut;
  Child child([&cut] {
    if (!install_fault_guard()) return 1;
    const Mapping whole = take(map_file(cut.file, Access::read_only, kSize, true));
    const Mapping mapping = cut.map_and_cut();
    std::atomic<bool> hit{false};
    std::atomic<bool> other_hit{false};
    if (!register_range(whole.data(), whole.size_bytes(), &other_hit)) return 2;
    if (!register_range(mapping.data(), mapping.size_bytes(), &hit)) return 2;
    static_cast<void>(load_at(mapping, kPageBytes));
    return hit.load(std::memory_order_relaxed) && !other_hit.load(std::memory_order_relaxed) ? 0 : 3;
  });
  EXPECT_EQ(child.exit_code(), 0);
}

TEST(FaultGuard, FaultOutsideEveryRangeKills) {
  CutFile cut;
  Child child([&cut] {
    ::signal(SIGBUS, SIG_DFL);
    if (!install_fault_guard()) return 1;
    const Mapping mapping = cut.map_and_cut();
    std::atomic<bool> hit{false};
    if (!register_range(mapping.data(), kPageBytes, &hit)) return 2;
    static_cast<void>(load_at(mapping, kPageBytes));
    return 3;
  });
  const int status = child.wait();
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGBUS);
}

TEST(FaultGuard, UnregisteredRangeKills) {
  CutFile cut;
  Child child([&cut] {
    if (!install_fault_guard()) return 1;
    const Mapping mapping = cut.map_and_cut();
    std::atomic<bool> hit{false};
    if (!register_range(mapping.data(), mapping.size_bytes(), &hit)) return 2;
    unregister_range(mapping.data());
    static_cast<void>(load_at(mapping, kPageBytes));
    return 3;
  });
  const int status = child.wait();
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGBUS);
}

TEST(FaultGuard, SignalSentByAProcessKills) {
  Child child([] {
    if (!install_fault_guard()) return 1;
    // Covers every address, so only the origin of the signal tells it from a fault.
    std::atomic<bool> hit{false};
    if (!register_range(nullptr, ~std::size_t{0}, &hit)) return 2;
    ::kill(::getpid(), SIGBUS);
    return 3;
  });
  const int status = child.wait();
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGBUS);
}

TEST(FaultGuard, FullTableSaysSoAndEntriesAreUsedAgain) {
  std::vector<char> somewhere(kFaultRangesMax + 1);
  std::atomic<bool> hit{false};
  for (std::size_t i = 0; i < kFaultRangesMax; ++i) MOORING_EXPECT_OK(register_range(&somewhere[i], 1, &hit));
  const std::string full = std::to_string(kFaultRangesMax);
  MOORING_EXPECT_FAILS(register_range(&somewhere[kFaultRangesMax], 1, &hit), Code::kNoMemory, full);
  unregister_range(&somewhere[7]);
  MOORING_EXPECT_OK(register_range(&somewhere[kFaultRangesMax], 1, &hit));
  unregister_range(&somewhere[kFaultRangesMax]);
  for (std::size_t i = 0; i < kFaultRangesMax; ++i) unregister_range(&somewhere[i]);
}

}  // namespace
}  // namespace mooring
