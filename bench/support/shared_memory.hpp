// Anonymous memory that the roles of a run share: forked children see it at the same address.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <new>
#include <type_traits>
#include <utility>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace mooring::bench {

class SharedMemory {
 public:
  static Result<SharedMemory> create(u64 size_bytes) {
    const u64 mapped_bytes = align_up(size_bytes == 0 ? 1 : size_bytes, kPageBytes);
    void* memory =
        ::mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
      return fail_errno(errno, "cannot map " + std::to_string(mapped_bytes) +
                                   " bytes of shared memory for a benchmark; free memory or choose a smaller size");
    }
    return SharedMemory(static_cast<u8*>(memory), mapped_bytes);
  }
  SharedMemory(SharedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_bytes_(std::exchange(other.size_bytes_, 0)) {}
  SharedMemory& operator=(SharedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    return *this;
  }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory() {
    if (data_ != nullptr) ::munmap(data_, size_bytes_);
  }

  u8* data() const { return data_; }
  u64 size_bytes() const { return size_bytes_; }

  // A forked child inherits the mapping but not its page table entries: without this call its first lap would
  // measure page faults (about 1 us each). Reads only, so that it may run beside a writer.
  void map_all_pages() const {
#ifdef MADV_POPULATE_WRITE
    if (::madvise(data_, size_bytes_, MADV_POPULATE_WRITE) == 0) return;
#endif
    for (u64 offset = 0; offset < size_bytes_; offset += kPageBytes) {
      const u8* page = data_ + offset;
      u8 byte = *page;
      asm volatile("" : "+r"(byte) : : "memory");  // The load must happen although nobody uses the value.
    }
  }

 private:
  SharedMemory(u8* data, u64 size_bytes) : data_(data), size_bytes_(size_bytes) {}
  u8* data_ = nullptr;
  u64 size_bytes_ = 0;
};

// One object in shared memory, value-initialised.
template <class T>
class Shared {
  static_assert(std::is_trivially_destructible_v<T>, "the roles do not agree on who would destroy it");

 public:
  static Result<Shared> create() {
    auto memory = SharedMemory::create(sizeof(T));
    if (!memory) return fail(std::move(memory.error()));
    T* object = new (memory->data()) T();
    return Shared(std::move(*memory), object);
  }
  T* get() const { return object_; }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }
  void map_all_pages() const { memory_.map_all_pages(); }

 private:
  Shared(SharedMemory memory, T* object) : memory_(std::move(memory)), object_(object) {}
  SharedMemory memory_;
  T* object_;
};

}  // namespace mooring::bench
