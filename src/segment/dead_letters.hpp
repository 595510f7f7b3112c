// Dead letters and waiting messages of a queue, read from its park file: works with every process dead, and beside a
// living supervisor, which goes on changing what is read.
//
// Everything read here is untrusted: bounds first. A record is copied whole and its word looked at before and after
// (PARKED, supervisor/park_store.hpp): what changes its state meanwhile is skipped. Counts and times of one that is
// decided anew just then may be of both sides; payload and text are not.
//
// TESTED BY  delivery/delivery_test, cli/cli_test
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "layout/park.hpp"
#include "segment/queue_files.hpp"

namespace mooring {

struct ParkedMessage {
  layout::ParkRecord record{};
  layout::RecordWord word{};
  std::vector<layout::ParkAttempt> attempts;  // the last ones, oldest first
  std::string text;                           // the application's, with the last nack or reject that had one
  std::string payload;                        // as in the frame; filled where asked for
};

// `visit` gets every message that `wants` says; false ends the walk. `group` is a slot number, with its generation.
// kCorrupt: the file makes no sense from some place on; what lies before was visited.
using WantsParked = std::function<bool(u32 group, u32 generation, layout::RecordState state)>;
Status each_parked(const QueueFiles& files, const WantsParked& wants, bool with_payload,
                   const std::function<bool(const ParkedMessage&)>& visit);
// Those of one group in one state.
Status each_parked(const QueueFiles& files, u32 group, u32 generation, layout::RecordState state, bool with_payload,
                   const std::function<bool(const ParkedMessage&)>& visit);

}  // namespace mooring
