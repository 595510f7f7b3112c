#include "platform/mapping.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <boost/interprocess/mapped_region.hpp>
#include <cerrno>
#include <limits>
#include <utility>

#include "base/atomics.hpp"

namespace mooring {
namespace {

namespace bip = boost::interprocess;

// What Boost calls a memory mappable object: a handle and a mode. The File stays with its owner.
class MappableFile {
 public:
  MappableFile(const File& file, bip::mode_t mode) : file_(file), mode_(mode) {}
  bip::mapping_handle_t get_mapping_handle() const {
    return bip::ipcdetail::mapping_handle_from_file_handle(file_.fd());
  }
  bip::mode_t get_mode() const { return mode_; }

 private:
  const File& file_;
  bip::mode_t mode_;
};

tl::unexpected<Error> fail_truncated(const File& file, u64 size_bytes, u64 has_bytes) {
  return fail(Code::kCorrupt, path_text(file) + " is truncated: it has " + std::to_string(has_bytes) + " bytes, " +
                                  std::to_string(size_bytes) + " are needed; remove the queue and create it again");
}

// For kernels (or sandboxes) without MADV_POPULATE. Adding 0 makes a page writable without changing what another
// process may be writing there at this moment.
void touch_pages(std::byte* data, std::size_t size_bytes, Access access) {
  for (std::size_t at = 0; at + sizeof(u32) <= size_bytes; at += kPageBytes) {
    u32& word = *reinterpret_cast<u32*>(data + at);
    // Relaxed: nothing is learned from the value.
    if (access == Access::read_write) {
      HardwareAtomics::add(word, u32{0}, std::memory_order_relaxed);
    } else {
      static_cast<void>(HardwareAtomics::load(word, std::memory_order_relaxed));
    }
  }
}

}  // namespace

Mapping::Mapping() = default;
Mapping::Mapping(std::unique_ptr<bip::mapped_region> region)
    : region_(std::move(region)),
      data_(static_cast<std::byte*>(region_->get_address())),
      size_bytes_(region_->get_size()),
      process_(::getpid()) {}
Mapping::Mapping(Mapping&& other) noexcept
    : region_(std::move(other.region_)),
      data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)),
      process_(other.process_) {}
Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this == &other) return *this;
  unmap();
  region_ = std::move(other.region_);
  data_ = std::exchange(other.data_, nullptr);
  size_bytes_ = std::exchange(other.size_bytes_, 0);
  process_ = other.process_;
  return *this;
}
Mapping::~Mapping() { unmap(); }

void Mapping::unmap() {
  // The mapping did not cross the fork, and the hole may have been filled since: by the child's own queue, say.
  if (region_ != nullptr && process_ != ::getpid()) static_cast<void>(region_.release());
  region_.reset();
}

Result<Mapping> map_file(const File& file, Access access, u64 size_bytes, bool prefault) {
  const auto has_bytes = file_size(file);
  if (!has_bytes) return fail(has_bytes.error());
  if (size_bytes == 0 || size_bytes > std::numeric_limits<std::size_t>::max() / 2) {
    return fail(Code::kBadArgument, "cannot map " + std::to_string(size_bytes) + " bytes of " + path_text(file));
  }
  if (*has_bytes < size_bytes) return fail_truncated(file, size_bytes, *has_bytes);

  const bip::mode_t mode = access == Access::read_write ? bip::read_write : bip::read_only;
  Mapping mapping;
  try {
    mapping = Mapping(std::make_unique<bip::mapped_region>(MappableFile(file, mode), mode, bip::offset_t{0},
                                                           std::size_t{size_bytes}));
  } catch (const bip::interprocess_exception& error) {
    return fail_errno(error.get_native_error(), "cannot map " + path_text(file));
  } catch (const std::bad_alloc&) {
    return fail(Code::kNoMemory, "out of memory while mapping " + path_text(file));
  }

  if (::madvise(mapping.data(), mapping.size_bytes(), MADV_DONTFORK) != 0) {
    return fail_errno(errno, "cannot keep the mapping of " + path_text(file) + " out of child processes");
  }
  if (prefault) {
    const int advice = access == Access::read_write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
    int outcome = 0;
    do {
      outcome = ::madvise(mapping.data(), mapping.size_bytes(), advice);
    } while (outcome != 0 && errno == EINTR);
    if (outcome != 0) {
      // EFAULT: somebody cut the file short after the look at its size. This call says so; a touch would be a SIGBUS.
      if (errno == EFAULT) return fail_truncated(file, size_bytes, file_size(file).value_or(0));
      if (errno != EINVAL && errno != ENOSYS) return fail_errno(errno, "cannot populate " + path_text(file));
      touch_pages(mapping.data(), mapping.size_bytes(), access);
    }
  }
  return mapping;
}

}  // namespace mooring
