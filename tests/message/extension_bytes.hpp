// An extension on its own page of the heap: exactly its bytes, so that the address sanitizer sees a read beyond them.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "message/decoder.hpp"
#include "message/encoder.hpp"

namespace mooring::message {

class ExtensionBytes {
 public:
  explicit ExtensionBytes(u64 bytes) : words_(new u64[bytes / 8]), bytes_(bytes) { fill(0xa5); }
  explicit ExtensionBytes(const Plan& plan) : ExtensionBytes(plan.bytes) { encode(plan, data()); }

  u8* data() { return reinterpret_cast<u8*>(words_.get()); }
  u64& word(u64 at) { return words_[at / 8]; }
  u64 bytes() const { return bytes_; }
  Extension extension() { return {data(), bytes_}; }
  FrameBytes frame() { return {data(), bytes_}; }
  void fill(int byte) { std::memset(data(), byte, bytes_); }

 private:
  std::unique_ptr<u64[]> words_;
  u64 bytes_;
};

inline Header header_of(std::string_view name, std::string_view value) {
  return {name.data(), name.size(), value.data(), value.size()};
}
inline std::string_view name_of(const Header& header) { return {header.name, header.name_bytes}; }
inline std::string_view value_of(const Header& header) {
  return {static_cast<const char*>(header.value), header.value_bytes};
}

constexpr std::string_view kTraceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

}  // namespace mooring::message
