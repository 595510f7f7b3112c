// Room in the park file of a queue: where payloads of stragglers lie until they are acknowledged.
//
// The file is the supervisor's alone. What is used is not written down in it: a record is in use exactly while a park
// entry points at it, so after a restart the free room is what no entry names (core.md 5.4, K1).
//
// TESTED BY  supervisor/park_store_test
#pragma once

#include <map>
#include <span>

#include "ring/lane.hpp"
#include "segment/queue_files.hpp"

namespace mooring {

class ParkStore {
 public:
  explicit ParkStore(const QueueFiles& files) : files_(&files) {}

  // A record that a park entry names, in the store or in the log: seq as the entry says. False: the entry names no such
  // record (somebody wrote over the entry, which consumers may); its room is then not reserved.
  bool adopt(u64 loc, u64 seq);

  // Copies a frame into a record. Returns its place, 0 if the store is full (its bound, or shared memory) or the frame
  // is longer than a message may be.
  u64 place(const FrameView& frame, u32 group);
  void release(u64 loc);

  u64 used_bytes() const { return used_bytes_; }

 private:
  bool map_now();

  const QueueFiles* files_;
  Mapping mapping_;
  std::map<u64, u64> used_;  // loc -> bytes
  u64 used_bytes_ = 0;
  bool mapped_once_ = false;
};

}  // namespace mooring
