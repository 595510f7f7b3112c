// A shared file mapped into this process (Boost.Interprocess), populated before anybody reads it.
//
// First touch costs 0.5 ms a MiB (core.md A10), so it is paid here and never by a publish. A mapping does not cross
// fork: a child that used its parent's seat would be a second writer in a single-writer lane.
// A file that is cut short after this call still faults on access: the supervisor has fault_guard.hpp for that.
//
// TESTED BY  platform/mapping_test
#pragma once

#include <cstddef>
#include <memory>

#include "platform/file.hpp"

namespace boost::interprocess {
class mapped_region;
}

namespace mooring {

class Mapping {
 public:
  Mapping();
  explicit Mapping(std::unique_ptr<boost::interprocess::mapped_region> region);
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  // In a child of the process that mapped: nothing, because other memory may stand at those addresses there.
  ~Mapping();

  // Null and 0 for an empty Mapping. With Access::read_only a store through data() is a SIGSEGV.
  std::byte* data() const { return data_; }
  std::size_t size_bytes() const { return size_bytes_; }

 private:
  void unmap();

  std::unique_ptr<boost::interprocess::mapped_region> region_;
  std::byte* data_ = nullptr;
  std::size_t size_bytes_ = 0;
  int process_ = 0;  // who mapped it
};

// The first `size_bytes` of the file. kCorrupt if the file is shorter. The File may be closed afterwards.
Result<Mapping> map_file(const File& file, Access access, u64 size_bytes, bool prefault);

}  // namespace mooring
